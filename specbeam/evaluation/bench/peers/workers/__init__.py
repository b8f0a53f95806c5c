"""Scripts, each the whole knowledge about one library; `serve` and `convert` run them. Not imported by specbeam.

A script has

    PACKAGES                                         the distributions whose versions are worth recording
    convert(source, folder, end_token)               write the Hugging Face folder `source` as the library wants it
    weights(folder)                                  the arrays in what `convert` wrote, to compare them
    load(folder, threads, end_token) -> decode       float32 throughout, on the CPU
    decode(ids, num_beams, new_tokens) -> sequence   the best one's new tokens; NotImplementedError says what it lacks

and may also have `facts(folder)`, texts for the record. `convert` and `weights` run with specbeam's own packages, and
the library's behind them, because converters need PyTorch, which is too large to install twice. `load` and `decode` run
in the libraries' environment and use nothing but it and the standard library.

Nothing may end a text early, nor change scores so that it does not end: some libraries renormalise where they forbid a
token and others do not, and beams would differ. So each is told that texts end with `end_token`, which the model
never writes.
"""
