"""Search x source: the idea, and nothing else.

A decoder is a search over a tree of token sequences that a source feeds with next-token log-probabilities. Greedy,
beam, speculative and speculative beam decoding are two searches times a source without or with a draft.

May import torch, numpy and types of transformers' generation, and no other room. Read in this order:

    tree      what has been thought of so far: a node is a sequence
    scorer    nodes, cache slots and visibility; `Engine` is the seam to a model
    draft     what proposes nodes
    expand    which proposals are worth verifying
    source    one pass of the target answers several steps of the search
    greedy, beam, sampling   the searches
    stats     what a decode reports of itself
"""
