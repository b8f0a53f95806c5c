"""The four decoders and the drop-in: transformers' options in, `Decoded` out.

May import `drafts`, `engines`, `core`, `files` and `compat`. Read in this order:

    decoders   greedy, beam, speculative, speculative_beam: `generate` resolves the options, our searches decode
    generate   SpeculativeLM: transformers' own loops, answered from a tree
    relaxed    the two options that trade exactness for speed
    methods    the decoders by name, and what each has to equal; plain data, free of PyTorch
    watch      a function called after every step
    live       a decode in a thread of its own that can be watched and stopped
"""
