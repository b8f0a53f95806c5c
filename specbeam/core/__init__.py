"""Search x source: the idea, and nothing else.

A decoder is a search over a tree of token sequences that a source feeds with next-token log-probabilities. Greedy,
beam, speculative and speculative beam decoding are two searches times a source without or with a draft.

May import torch, numpy and types of transformers' generation, and no other room: what makes decoding fast or robust is
handed in as a small object. Read in this order:

    tree       the sequences that search and draft have considered: a node is a sequence
    scorer     nodes, cache slots and visibility in one pass; `Engine` is the seam to a model
    draft      what proposes the tokens after a node
    expand     which proposed nodes are worth verifying, and how many (`DraftSize`)
    source     one pass of the target answers several steps of the search
    forbidden  shortest lengths and suppressed tokens, without a look at the whole vocabulary
    greedy     one token a step, the likeliest or drawn
    beam       beam search
    sampling   drafted tokens kept or replaced so that the target's distribution results
    stats      what a decode reports of itself: counts, and what an observer is told
"""
