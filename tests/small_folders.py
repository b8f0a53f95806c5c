"""Checkpoints of tiny random models, saved as a user's folders are."""

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["<unk>", "</s>", "hello", "world", "and", "more", "words", "here"]


def make_tokenizer(words=WORDS):
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


def save_llama(folder, words=WORDS, rows=None, layers=1, dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows or len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model: Any = LlamaForCausalLM(config)
    model.to(dtype).save_pretrained(folder)
    make_tokenizer(words).save_pretrained(folder)
    return str(folder)
