"""What proposes tokens: drafts that look things up, a smaller model, a trained layer over the target's states.

May import `engines`, `core`, `files` and `compat`. Read in this order:

    recall          n-gram lookup in the text, and recall of the target's own scores
    union           several drafts at once, each asked until it fails; every decode asks its draft through one
    model           a smaller model with the target's vocabulary
    text, token_mapping   a smaller model with a vocabulary of its own
    eagle, eagle_model    a trained layer that continues from the target's hidden states
    logit_head      from hidden states to logits, as each family does it
    trained, fingerprint  a trained draft on disk, and the target that it belongs to
"""
