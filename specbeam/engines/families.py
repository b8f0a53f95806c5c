"""What differs among the causal LMs of transformers, where a token tree meets it: data, and no model's code.

A tree pass needs three things of a model: that its attention takes a 4-D mask as it is, that it takes a token's
position from `position_ids`, and that its cache keeps keys and values of every slot. Most models follow this contract
by transformers' own rules (`masking_utils`, `cache_utils`); the tables name those that do not.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION, attention_by_name, is_recurrent

from .rope import LengthRope

MASKED = {"full_attention", "sliding_attention"}  # kinds of layers that there are tree masks for

# model types that specbeam is tested on, with tiny random models; others are tried before they are trusted (`probe.py`)
_TESTED = """
llama mistral gpt2 gptj gpt_neox opt bloom falcon phi phi3 qwen2 qwen3 gemma gemma2 gemma3_text olmo olmo2 olmo3
granite stablelm cohere cohere2 starcoder2 smollm3 mixtral qwen2_moe qwen3_moe gpt_bigcode codegen gpt_oss olmoe
granitemoe phimoe deepseek_v2 deepseek_v3 minicpm3 nemotron glm glm4 helium arcee apertus nanochat seed_oss
vaultgemma granite_swa hyperclovax cwm exaone4 ernie4_5 hunyuan_v1_dense bitnet persimmon diffllama biogpt ctrl mpt
gpt_neo openai-gpt llama4_text lfm2 mamba mamba2 falcon_mamba rwkv xlstm recurrent_gemma jamba bamba falcon_h1
granitemoehybrid qwen3_next
"""
TESTED = frozenset(_TESTED.split())

# families that break the contract although their layers and caches look like any other's
BOUND_TO_SLOTS = {
    "mpt": "its ALiBi biases follow the slots of the cache, one row of them for all prompts",
    "gpt_neo": "its local layers count their window in slots of the cache, not in positions",
}

# families that keep a table of their positions where it is not seen, as no embedding
TABLE_OF_POSITIONS = {"gptj", "codegen", "ctrl", "mpt"}

# what a model does to its head's answer after the product: attribute of the configuration -> the operation
AFTER_HEAD = {
    "logit_scale": "times",  # Cohere
    "logits_scaling": "over",  # Granite
    "lm_head_multiplier": "times",  # Falcon-H1
    "final_logit_softcapping": "cap",  # Gemma 2
    "logits_soft_cap": "cap",  # RecurrentGemma
    "output_logit_soft_cap": "cap",  # xLSTM
}
AFTER_HEAD_OF = {"hyperclovax": {"logits_scaling": "times"}}  # the same name, another meaning

# the model types that are compared with `generate` on tiny random models (`evaluation/tiny_families.py`)


def text_config(model: PreTrainedModel) -> Any:
    """The configuration of the language model, where a model has several."""
    return model.config.get_text_config()


def layer_kinds(model: PreTrainedModel) -> list[str]:
    """The kinds of layers that `model` has, as transformers calls them ("full_attention", "sliding_attention", …)."""
    config = text_config(model)
    kinds = sorted(set(getattr(config, "layer_types", None) or []))
    if kinds:
        return kinds
    return ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"]


def windows(model: PreTrainedModel) -> dict[str, int]:
    """How many positions back a layer of each windowed kind looks, itself included."""
    window = getattr(text_config(model), "sliding_window", None)
    return {"sliding_attention": window} if window and "sliding_attention" in layer_kinds(model) else {}


def takes(model: PreTrainedModel, option: str) -> bool:
    """Whether the forward pass of `model` has this option; a wrapper from elsewhere is trusted to hand it on."""
    parameters = inspect.signature(model.forward).parameters
    wrapper = not type(model).__module__.startswith("transformers.")
    return option in parameters or (wrapper and any(each.kind is each.VAR_KEYWORD for each in parameters.values()))


def most_positions(model: PreTrainedModel) -> int | None:
    """How many positions `model` has a table for; None if it computes them, and so has no end."""
    config = text_config(model)
    parts = {name: part for name, part in model.named_modules() if isinstance(part, nn.Embedding)}
    learned = [
        name
        for name in parts
        if ("pos" in name.split(".")[-1] or name.endswith("wpe")) and not any(word in name for word in ("vis", "image"))
    ]
    if not learned and config.model_type not in TABLE_OF_POSITIONS:
        return None
    return getattr(config, "max_position_embeddings", None)


def check_positions(name: str, longest: int, most: int | None) -> None:
    """Raise a ValueError naming value and remedy where a text has more tokens than a model has positions."""
    if most is not None and longest > most:
        raise ValueError(
            f"the prompt and what follows it have {longest} tokens, but {name} has {most} positions; shorten the "
            "prompt or lower max_new_tokens."
        )


def check_padding(name: str, seen: np.ndarray, windows: Mapping[str, int]) -> None:
    """Raise a ValueError where the end of a prompt, padded on its right, is further off than a window reaches.

    `seen` is the attention mask, boolean, of shape (batch, prompt length).
    """
    padding = seen[:, ::-1].argmax(1)
    window = min(windows.values(), default=sys.maxsize)
    if (padding >= window).any():
        row = int((padding >= window).argmax())
        raise ValueError(
            f"prompt {row + 1} has {padding[row]} pad tokens on its right, and layers of {name} look back at {window} "
            "tokens, so that they would see none of it; pad on the left (padding_side='left')."
        )


def has_alibi(model: PreTrainedModel) -> bool:
    """Whether the model adds a bias by position to its attention (Press et al. 2022) that it hands to its layers."""
    config = text_config(model)
    return config.model_type == "bloom" or bool(getattr(config, "alibi", False))


def why_no_tree(model: PreTrainedModel) -> str | None:
    """Why `model` cannot verify a tree of tokens in one pass, or None if it can, as far as its family tells.

    Such a model can still be decoded, by sequences (`sequences.py`).
    """
    if text_config(model).model_type in BOUND_TO_SLOTS:
        return BOUND_TO_SLOTS[text_config(model).model_type]
    others = sorted(set(layer_kinds(model)) - MASKED)
    if is_recurrent(model):
        return "it has recurrent layers, whose state cannot branch"
    if others:
        return f"it has layers of kind {', '.join(others)}, for which there is no tree mask"
    if not takes(model, "past_key_values"):
        return "it keeps no cache of keys and values"
    return None


def refuse_unservable(model: PreTrainedModel) -> None:
    """Raise a ValueError that names why `model` cannot be decoded at all, and what to do."""
    name, attention = type(model).__name__, getattr(model.config, ATTENTION, None) or ""
    if model.config.is_encoder_decoder:
        raise ValueError(f"{name} is an encoder-decoder; specbeam decodes causal language models.")
    if ("flash" in attention or "flex" in attention) and why_no_tree(model) is None:
        raise ValueError(
            f"{name} cannot be decoded over a token tree: {attention!r} attention takes no tree mask; "
            "use attn_implementation='sdpa'."
        )


@dataclass(frozen=True)
class Traits:
    """What a pass over a tree has to know of a model, read off it once."""

    kinds: list[str]  # of layers
    windows: dict[str, int]  # positions that a layer of a windowed kind looks back, itself included
    alibi: bool  # whether its attention has biases by position
    takes_positions: bool  # whether its forward pass takes `position_ids`
    keeps_logits: bool  # whether its forward pass takes `logits_to_keep`
    by_name: bool  # whether its layers look their attention function up by name
    positions: int | None = None  # how many it has, if it has a table of them
    rope: LengthRope | None = None  # if its rotary frequencies depend on the length of the text

    @classmethod
    def of(cls, model: PreTrainedModel) -> Traits:
        return cls(
            layer_kinds(model),
            windows(model),
            has_alibi(model),
            takes(model, "position_ids"),
            "logits_to_keep" in inspect.signature(model.forward).parameters,
            attention_by_name(model),
            most_positions(model),
            LengthRope.of(model),
        )
