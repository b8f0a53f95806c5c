"""Speed against transformers: all runners decode the same prompts in one process, taking turns.

Read in this order:

cases    which prompts, how many beams, and which of them are measured in full
runners  transformers' `generate` and our decoders, each as a function of a prompt
measure  the interleaved loop
report   ratios to the baselines, the table and the record
"""
