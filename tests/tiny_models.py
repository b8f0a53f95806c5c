"""Tiny random models with a chat tokenizer: a target to distil from, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from specbeam.training.prompts_and_answers import OPENINGS

MARKS = ["<unk>", "<s>", "</s>", "user", "assistant", ":"]
WORDS = list(dict.fromkeys([*MARKS, *" ".join(OPENINGS).split(), "It", "rains", "a", "river", "is", "long", "and"]))
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %} {{ m['role'] }} : {{ m['content'] }} </s>{% endfor %}"
    "{% if add_generation_prompt %} assistant :{% endif %}"
)
BEFORE, AFTER = [1, 3, 5], [2, 4, 5]  # <s> user : … </s> assistant :
PASSAGE = "It rains and a river is long " * 60


def chat_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return tokenizer


def tiny_llama(
    dtype: torch.dtype = torch.float64, layers: int = 3, size: int = 32, spread: float = 0.3, **options: Any
) -> Any:
    """A random Llama with grouped heads over `WORDS`; `spread` is the deviation of its weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": len(WORDS), "hidden_size": size, "num_hidden_layers": layers, "intermediate_size": 48},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": spread},
        **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        **options,
    )
    model: Any = LlamaForCausalLM(config)
    return model.to(dtype).eval().requires_grad_(False)


def clock(seconds: float = 1.0) -> SimpleNamespace:
    """A stand-in for the module `time` whose every look at the clock takes `seconds`: training steps can be counted."""
    ticks: Iterator[int] = count()
    look: Callable[[], float] = lambda: seconds * next(ticks)  # noqa: E731
    return SimpleNamespace(perf_counter=look)
