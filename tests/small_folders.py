"""Checkpoints of tiny random models, saved as a user's folders are, and a cache of converted models."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from specbeam.models import embedded

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


def fill(folder: Path) -> None:
    """Write what a conversion writes, all of it empty."""
    folder.mkdir(exist_ok=True)
    for name in (*embedded.FILES, embedded.TEMPLATE):
        (folder / name).write_text("{}")
    (folder / embedded.WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"{}")


def kept(cache: Path) -> list[Path]:
    """What a cache holds beside the files that are locked while it is written."""
    return [entry for entry in cache.iterdir() if entry.suffix != ".lock"]
