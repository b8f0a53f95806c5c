"""Other inference libraries beside transformers and us: the same prompts, in turns, each in a process of its own.

The libraries are no dependencies of specbeam. They live in an environment of their own, which only the scripts in
`workers` run in; nothing else here imports them. Read in this order:

workers      scripts: one file a library (how a checkpoint is converted, loaded and decoded), and what runs them
environment  the libraries' environment, made once from requirements-peers.lock
models       the converted models, made once, their weights compared with the checkpoint
process      a running worker: asked by lines of JSON, stopped while it is not its turn
contenders   everybody who takes part, ours included, as one kind of object
cpu          what the record says of the processor
turns        the interleaved measurement
report       rows, the table and the record
measure      all of it in one call
"""
