"""What decoders are worth: prompts, speed, likelihood and quality with intervals, and equality with transformers.

May import `experiments` and the rooms below it. Read in this order:

data                the prompt sets and how they are drawn; `data_files` reads files and the hub, with `json_rows`,
                    `table_rows` and `conversations` for what stands in a file, and `file_text` for its bytes
words               what counts as a word, in every script
metrics             speed and its causes, from the decoders' own `Stats`
likelihood          log-probabilities and perplexity by teacher forcing, and the gap to beam search
quality             BLEU, ROUGE and the diversity of beams
intervals           bootstrap intervals over prompts
comparison          named methods decode the same prompts in turns
comparison_summary  a row of figures for each set and method
comparison_words    sentences that follow from these figures
agreement           equality with transformers in low precision, beside a control
tiny_families       tiny random models of all supported families
family_cases        equality with `generate` on them, case by case
pass_cost           what a pass costs in each engine, and what the machine must pay
projection          gains on machines that are not here, and how far to believe them
bench/              speed against transformers' own decoding
"""
