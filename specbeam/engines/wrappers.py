"""From a model as people hold it to the causal LM inside: adapters, compilation, data parallelism, other wrappers.

A tree pass calls the model with a mask, positions and a cache of its own, which a wrapper may not hand on. So passes go
to the causal LM inside, and only where that gives what the wrapper's own `generate` gives:

* adapters of PEFT that act within the layers (LoRA and most others) stay in the layers of the model inside, and their
  switches (`set_adapter`, `disable_adapter`) with them; those that act around the model are refused;
* what `torch.compile` returns stays as it is, as it is called like the model;
* DistributedDataParallel and DataParallel hold the whole model;
* of any other object, the model is the one whose `generate` it hands on.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from specbeam.compat import GenerationLoops, is_compiled, uncompiled

_PARALLEL = (nn.parallel.DistributedDataParallel, nn.DataParallel)
_SHARDED = "FullyShardedDataParallel"
# adapters that act around the layers although they do not call themselves prompt learning
_AROUND = {
    "XLORA": "mixes its adapters by a pass of its own",
    "POLY": "needs task_ids in every pass",
    "SHADOW": "runs a second model beside the layers",
}


def unwrapped(model: Any) -> PreTrainedModel:
    """The causal LM that passes go to.

    Raises:
        ValueError: for what holds none, or cannot be decoded as it is; it names what to hand in instead.
    """
    return _layers(model)[-1]


def held(model: Any) -> Any:
    """What to keep of a model that was handed in: the PeftModel, on which adapters are switched, or the causal LM.

    Raises:
        ValueError: as `unwrapped`.
    """
    layers = _layers(model)
    return next((layer for layer in layers if is_peft(layer)), layers[-1])


def is_peft(model: Any) -> bool:
    """Whether `model` is one of PEFT's models; where peft was never imported there are none."""
    peft = sys.modules.get("peft")
    kinds = (getattr(peft, name, None) for name in ("PeftModel", "PeftMixedModel"))
    return isinstance(model, tuple(kind for kind in kinds if kind is not None))


def has_adapters(model: Any) -> bool:
    """Whether there are layers of PEFT in `model`, be it a PeftModel or one that transformers put them into."""
    return any(type(module).__module__.startswith("peft.") for module in model.modules())


def _layers(model: Any) -> list[Any]:
    """`model` and what it wraps, the causal LM last."""
    layers = [model]
    while (inner := _inside(layers[-1])) is not None:
        if any(inner is layer for layer in layers):
            raise _refusal(model)
        layers.append(inner)
    return layers


def _inside(model: Any) -> Any:
    """What `model` wraps; None if it is the causal LM itself."""
    if isinstance(model, GenerationLoops):
        return model.held
    if is_peft(model):
        for name in _active(model):
            refuse_adapter(name, model.peft_config[name])
        return model.base_model.model
    if is_compiled(model):
        inner = uncompiled(model)
        if _inside(inner) is None:
            return None
        warnings.warn(
            f"a compiled {type(inner).__name__} is decoded without its compilation; compile the model inside before "
            "it is wrapped.",
            stacklevel=2,
        )
        return inner
    if isinstance(model, _PARALLEL):
        return model.module
    if any(kind.__name__ == _SHARDED for kind in type(model).__mro__):
        raise ValueError(
            f"{_SHARDED} holds parts of its weights only; load the model whole, or share it out among processes with "
            'load_pair(…, tp_plan="auto").'
        )
    if isinstance(model, GenerationMixin):
        return None
    if isinstance(model, PreTrainedModel):
        if model.config.is_encoder_decoder:  # that is the better reason, and `Target` knows it
            return None
        raise ValueError(
            f"{type(model).__name__} has no language-model head; load the checkpoint with AutoModelForCausalLM."
        )
    owner = getattr(getattr(model, "generate", None), "__self__", None)
    if owner is None or owner is model or isinstance(owner, type):
        raise _refusal(model)
    return owner


def refuse_adapter(name: str, config: Any) -> None:
    """Raise a ValueError for an adapter of PEFT that does more than change layers; `config` is its PeftConfig."""
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if config.is_prompt_learning:
        reason = "puts virtual tokens before the prompt, which a token tree does not hold"
    elif kind in _AROUND:
        reason = _AROUND[kind]
    elif getattr(config, "alora_invocation_tokens", None):
        reason = "is an activated LoRA, which begins to act where its invocation tokens stand in a prompt"
    else:
        return
    raise ValueError(
        f"the adapter {name!r} ({kind}) {reason}, so it cannot be decoded over a tree; use the PeftModel's own "
        "generate, or an adapter that acts within the layers all along, such as a plain LoRA."
    )


def _active(model: Any) -> list[str]:
    active = model.active_adapters
    return [active] if isinstance(active, str) else list(active)


def _refusal(model: Any) -> ValueError:
    """That `model` is no causal LM, naming one that it holds."""
    kind = type(model).__name__
    parts = dict(getattr(model, "__dict__", {}))
    parts |= parts.get("_modules") or {}
    for name, part in parts.items():
        if isinstance(part, GenerationMixin) or is_peft(part) or is_compiled(part):
            return ValueError(
                f"{kind} is no causal LM of transformers, but it holds one: hand in its `{name}`, a "
                f"{type(part).__name__}."
            )
    shown = f"{kind} {model!r}" if isinstance(model, str | int | float | None) else kind
    return ValueError(
        f"{shown} is no causal LM of transformers; hand in the model itself, as AutoModelForCausalLM.from_pretrained "
        "gives it, or let load_pair load one."
    )
