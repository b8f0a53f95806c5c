"""The models, drafts and the user's own functions of random requests (`request_cases.py`)."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from equivalence import Favour, letters
from fakes import Liar, Oracle, RandomDraft, hash_lm
from torch import Tensor
from transformers import LogitsProcessor, Phi3Config, Phi3ForCausalLM, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

import specbeam as sb
from specbeam.evaluation.tiny_families import EOS, PAD, tiny_model

HASH = "hash"
FAMILIES = (
    *("llama", "gpt2", "qwen2", "qwen2 (window)", "gemma3_text", "opt", "bloom", "falcon (ALiBi)", "phi3"),
    "longrope",  # with --rope
)
SWITCH = 10  # positions from which the long-rope model turns by its long factors


class Reach:
    """Whether a model has given NaN since the flag was last put down: then nothing that it gives is comparable."""

    seen = False

    @classmethod
    def look(cls, module: Any, arguments: Any, output: Any) -> None:
        cls.seen = cls.seen or bool(output.logits[:, -1].isnan().any())


@lru_cache(maxsize=64)
def model_of(name: str, vocabulary: int, salt: int) -> Any:
    """The model of a case, made once; a hash model has a vocabulary and a salt."""
    if name == HASH:
        return hash_lm(vocabulary, salt, [1, 2], 0)
    model = longrope() if name == "longrope" else tiny_model(name)
    if model._supports_sdpa:
        model.set_attn_implementation("sdpa")
    model.register_forward_hook(Reach.look)
    return model


def longrope() -> Any:
    rope = {
        **{"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "factor": 4.0},
        **{"long_factor": [1.0, 2.0, 4.0, 8.0], "original_max_position_embeddings": SWITCH},
    }
    size: dict[str, Any] = {
        **{"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "intermediate_size": 48, "initializer_range": 0.3, "pad_token_id": PAD},
        **{"eos_token_id": EOS, "max_position_embeddings": 64, "original_max_position_embeddings": SWITCH},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Phi3ForCausalLM(Phi3Config(**size, rope_parameters=rope)).double().eval().requires_grad_(False)


def draft_of(name: str, model: Any, seed: int) -> sb.Draft:
    """A new draft, the same at every call."""
    if name == "none":
        return sb.NoDraft()
    if name == "recall" or (not hasattr(model.config, "salt") and name != "same model"):
        return sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    if name == "same model":
        return sb.ModelDraft(model)
    vocabulary, salt = model.config.vocab_size, model.config.salt
    if name == "other model":
        return sb.ModelDraft(model_of(HASH, vocabulary, salt + 1), temperature=1.0, top_k=4)
    return (
        RandomDraft(vocabulary, random.Random(seed))
        if name == "random"
        else {"oracle": Oracle, "liar": Liar}[name](model)
    )


DRAFTS = ["none", "random", "oracle", "liar", "recall", "same model", "other model"]


class Shown:
    """Keeps the rows that `generate` shows to what the user hands over."""

    def __init__(self) -> None:
        self.shown: list[list[list[int]]] = []

    def keep(self, rows: Tensor) -> None:
        self.shown.append([rows.tolist()] if rows.dim() == 1 else rows.tolist())


class Pure(Shown, LogitsProcessor):
    """Adds what depends on the sequence and on how many rows there are."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        self.keep(input_ids)
        return Favour()(input_ids, scores)


class InPlace(Shown, LogitsProcessor):
    """Changes the scores that it is given."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        self.keep(input_ids)
        scores[:, :: 2 + len(self.shown) % 3] -= 1.5
        return scores


class Counting(Shown, LogitsProcessor):
    """Treats every row, and every call, its own way."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        self.keep(input_ids)
        row = torch.arange(len(scores))[:, None] + len(self.shown)
        return scores + 0.75 * ((torch.arange(scores.shape[1]) + row) % 4 == 0).to(scores.dtype)


class Ends(Shown, StoppingCriteria):
    """Ends a row by what it holds."""

    def __init__(self, divisor: int, rest: int):
        super().__init__()
        self.divisor, self.rest = divisor, rest

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:  # type: ignore[override]
        self.keep(input_ids)
        return input_ids.sum(-1) % self.divisor == self.rest


class Streamed(Shown, BaseStreamer):
    ended = 0

    def put(self, value: Tensor) -> None:
        self.keep(value)

    def end(self) -> None:
        self.ended += 1


class Allowed:
    """Allows every third token or so, by prompt and length; a few prompts have nothing allowed but one token."""

    def __init__(self, vocabulary: int, salt: int):
        self.vocabulary, self.salt = vocabulary, salt

    def __call__(self, prompt: int, text: Tensor) -> list[int]:
        if (prompt + self.salt) % 5 == 4:
            return [(7 + prompt) % self.vocabulary]
        return [t for t in range(self.vocabulary) if (t + prompt + len(text) + self.salt) % 3]


class New:
    """A value that is made anew for every call of `generate`, since it keeps something; prints as what makes it."""

    def __init__(self, *made: tuple[Callable[..., Any], tuple[Any, ...]], alone: bool = False):
        self.made, self.alone = made, alone

    def __call__(self) -> Any:
        values = [kind(*arguments) for kind, arguments in self.made]
        return values[0] if self.alone else values

    def __repr__(self) -> str:
        shown = [f"{kind.__name__}({', '.join(map(repr, arguments))})" for kind, arguments in self.made]
        return shown[0] if self.alone else f"[{', '.join(shown)}]"


def healing() -> Any:
    """A tokenizer that heals: it has a token to begin with and one to fill up with."""
    tokenizer = letters()
    tokenizer.bos_token, tokenizer.pad_token = "b", "a"
    return tokenizer


HEALING = healing()
