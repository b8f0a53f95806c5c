"""The command `specbeam`, one file per command. May import every room below, and starts `apps.demo`.

`specbeam --help` must not wait for PyTorch: commands import heavy modules when they run. Bad input is a ValueError
anywhere below; `main` prints it as one line. Read in this order:

* `main`: the subcommands, and how errors end.
* `options`: options that several commands share.
* `decode`: `generate` and `compare`. `summary` says what a decode took, `terminal` shows it in colour.
* `runs`: `run` and `reports`. `sweep`, `records`, `bench`, `distill`, `demo`: the commands of these names.
"""
