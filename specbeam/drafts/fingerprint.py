"""A target's fingerprint: a few of its weights, to tell it later from another model of the same shape.

It is the same for a model in another dtype, packed for a CPU or spread over devices, so it holds numbers that are
compared as exactly as the coarser dtype allows, and no hash. Weights that a model has in a form of its own (quantized,
shared out among processes, not in memory) are left out. A model that was trained further is another one, unless that
left these weights as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from specbeam.engines.packing import dense_weight
from specbeam.engines.wrappers import unwrapped

EMBEDDING = "input embedding"
_SIDE = 8  # rows and columns that are looked at in a matrix
_PLACES = (0.25, 0.5, 0.75)  # where in the order of the linear layers three of them are looked at
_TINY = 1e-7  # what float16 cannot tell from 0

Fingerprint = dict[str, dict[str, Any]]  # name of a layer -> {"shape", "dtype", "values"}


def fingerprint(target: PreTrainedModel) -> Fingerprint:
    """Samples of the weights of `target`, ready for JSON."""
    target = unwrapped(target)
    linear = [name for name, module in target.named_modules() if isinstance(module, nn.Linear)]
    names = [linear[int(share * len(linear))] for share in _PLACES] if linear else []
    found = {name: _sample(_layer(target, name)) for name in (EMBEDDING, *names)}
    return {name: sample for name, sample in found.items() if sample is not None}


def matches(recorded: Fingerprint, target: PreTrainedModel) -> bool:
    """Whether `recorded` may be the fingerprint of `target`; True as well where there is nothing to compare."""
    target = unwrapped(target)
    for name, theirs in recorded.items():
        own = _sample(_layer(target, name))
        if own is None or own["shape"] != theirs["shape"]:
            continue
        coarse = max(torch.finfo(getattr(torch, one["dtype"])).eps for one in (own, theirs))
        values = (torch.tensor(one["values"], dtype=torch.float64) for one in (own, theirs))
        if not torch.allclose(*values, rtol=coarse, atol=_TINY):
            return False
    return True


def _layer(target: PreTrainedModel, name: str) -> Any:
    if name == EMBEDDING:
        return target.get_input_embeddings()
    return dict(target.named_modules()).get(name)


def _sample(layer: Any) -> dict[str, Any] | None:
    weight = dense_weight(layer)
    if weight is None or weight.dim() != 2:
        return None
    rows, columns = (torch.linspace(0, size - 1, min(_SIDE, size)).long() for size in weight.shape)
    values = weight[rows.to(weight.device)][:, columns.to(weight.device)]
    return {
        "shape": list(weight.shape),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "values": values.double().cpu().tolist(),
    }
