"""Loading: from a hub id, a folder or nothing at all to the `Pair` of target, draft and tokenizer that decoders take.

May import `decoding` and the rooms below it. Nothing here decodes. Read in this order:

load         `load_pair`: which model, which draft, on which device
checkpoints  loading with transformers, and clear errors for what cannot be loaded
adapters     adapters of PEFT on disk, and the models that they belong to
embedded     the default model: out of its pip package, into the user's cache
prompts      `render_prompt`: texts and conversations to `input_ids` and `attention_mask`
stopping     the tokens that end an answer
"""
