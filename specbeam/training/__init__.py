"""Training a draft for a target: the target writes the texts, a small model learns from them and is measured.

May import `evaluation` and the rooms below it. Read in this order:

prompts_and_answers  the target writes questions, answers and summaries, with its hidden states
beam_texts           beam searches of the target, from the same questions
shards               reading these texts back; which tokens are frequent
unrolling            the draft run over whole texts, several guesses deep
training             the loss, the optimisers and the checkpoints
standalone           the baseline: a draft made of a few of the target's layers
held_out_agreement   how often a draft agrees with its target on prompts that are not trained on
distill              all of it in one call, as `specbeam distill` does
"""
