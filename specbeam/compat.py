"""Private and unstable parts of transformers and torch that specbeam stands on, all in one place.

Everything else in specbeam uses public API. Each entry says what it stands in for; they were checked on transformers
5.23.0 and torch 2.13.0 (`tests/test_compat.py` fails with a readable message when one is gone). Every room but the core
may import this file.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    GenerationMixin,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.generation.utils import MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

# The attribute of a config with the name of the attention function in use ("sdpa", "eager", …). There is no public
# getter, and `set_attn_implementation` would load kernels and warn.
ATTENTION = "_attn_implementation"

# What a step after the prompt is not told of any more: images, sound and the like, which sit in the prompt.
PREFILL_ONLY = frozenset(MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL)


def attention_by_name(model: Any) -> bool:
    """Whether the layers look their attention function up by its name, as `AttentionInterface` assumes."""
    return getattr(model, "_supports_attention_backend", False)


def register_attention(name: str, function: Callable[..., Any]) -> None:
    """Register an attention function that takes the masks of "sdpa"; the registry of masks has no public lookup."""
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


# The argument of `Cache` with the class of layers that are made as the model asks for them.
CACHE_LAYERS = "layer_class_to_replicate"


def is_recurrent(model: Any) -> bool:
    """Whether the model keeps a state that cannot be cut back; `generate` asks the same attribute."""
    return getattr(model, "_is_stateful", False)


def is_compiled(model: Any) -> bool:
    """Whether `torch.compile` made `model`; its module is slow to import, and there already if it has."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return dynamo is not None and isinstance(model, dynamo.OptimizedModule)


def uncompiled(model: Any) -> Any:
    """The module that `torch.compile` wrapped, or `model` itself."""
    return model._orig_mod if is_compiled(model) else model


def input_device(model: Any) -> torch.device:
    """Where a pass of `model` takes its inputs.

    That is where its weights are, unless accelerate keeps those elsewhere (`model.device` is "meta" then) and fetches
    them for a pass; its hooks on the modules know where to.
    """
    if model.device.type != "meta":
        return model.device
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            if (device := getattr(one, "execution_device", None)) is not None:
                return torch.device(device)
    return model.device


def commit_hash(config: Any) -> str | None:
    """The commit of the hub that a model came from."""
    return getattr(config, "_commit_hash", None)


def is_causal_lm(config: Any) -> bool:
    """Whether `AutoModelForCausalLM` has a class for `config`; it says so only by failing."""
    return type(config) in AutoModelForCausalLM._model_mapping


class GenerationLoops(GenerationMixin):
    """`generate` of a target, with a loop of ours once transformers has resolved all options.

    `_sample` and `_beam_search` are the loops that `generate` chooses from. What the target's class does its own way
    (positions of images, say) is taken from there; so is what is not defined here, by `__getattr__`.
    """

    _is_stateful = False
    target: Any
    held: Any  # the target as it was handed in, adapters and all

    def run_loop(self, loop: Callable[..., Any], input_ids: Tensor, **options: Any) -> Any:
        """Decode the prompts, repeated for every beam and returned sequence; `loop` is transformers' own."""
        raise NotImplementedError

    def _sample(self, input_ids: Tensor, **options: Any) -> Any:  # type: ignore[override]
        return self.run_loop(super()._sample, input_ids, **options)  # type: ignore[misc]

    def _beam_search(self, input_ids: Tensor, **options: Any) -> Any:  # type: ignore[override]
        return self.run_loop(super()._beam_search, input_ids, **options)  # type: ignore[misc]

    def _get_logits_processor(self, *args: Any, **options: Any) -> Any:
        """A processor that calls the model calls the target: here only full sequences of the prompts have answers."""
        processors = super()._get_logits_processor(*args, **options)  # type: ignore[misc]
        for processor in processors:
            if isinstance(processor, UnbatchedClassifierFreeGuidanceLogitsProcessor):
                processor.model = self.target
                processor.unconditional_context["use_cache"] = self.use_cache
        return processors

    def _expand_multimodal_outputs(self, input_ids: Tensor, outputs: Any, **options: Any) -> Any:
        """Images that were encoded ahead: not repeated for every beam, since a prompt is read once."""
        return outputs

    use_cache = True  # what the user asked for: it decides how such a processor reads on


_OWN = {"generate", "_sample", "_beam_search", "_get_logits_processor", "_expand_multimodal_outputs"}


def own_helpers(target: Any) -> dict[str, Any]:
    """What the class of `target` does its own way within `generate`, bound to it."""
    return {name: getattr(target, name) for name in _own_names(type(uncompiled(target)))}


@lru_cache(maxsize=64)
def _own_names(kind: type) -> list[str]:
    names = []
    for name in vars(GenerationMixin).keys() - _OWN:
        usual, theirs = (inspect.getattr_static(owner, name, None) for owner in (GenerationMixin, kind))
        if callable(getattr(usual, "__func__", usual)) and not name.startswith("__") and theirs not in (None, usual):
            names.append(name)
    return names


LOOP_ARGUMENTS = frozenset(inspect.signature(vars(GenerationMixin)["_sample"]).parameters)


def packed_weight(weight: Tensor, rows: int) -> Tensor:
    """The weight of a linear layer in oneDNN's blocked layout; what `torch.compile` does with frozen weights."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)


def packed_linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product with a `packed_weight`."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
