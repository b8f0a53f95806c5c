"""The four decoders and the drop-in: transformers' options in, `Decoded` out.

May import `drafts`, `engines`, `core`, `files` and `compat`. Read in this order:

    options    every option of `generate`: honoured, refused by name, or without effect
    loops      the way into `generate` that all entrances share: options are resolved there, a loop of ours decodes
    decoders   greedy, beam, speculative, speculative_beam: our searches as that loop
    generate   SpeculativeLM: transformers' own loops, answered from a tree
    relaxed    the two options that trade exactness for speed
    methods    the decoders by name, and what each has to equal; plain data, free of PyTorch
    trace      what happened round by round, as plain data
    watch      a function called after every step
    live       a decode in a thread of its own that can be watched and stopped
"""
