"""Who sees whom in a pass: from what may be seen at all to the masks that a model's layers add to their attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .families import layer_kinds, windows


def causal(prompt_seen: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Which tokens of left-padded prompts see which, rows from `begin` to `end`: shape (batch, rows, end)."""
    slots = np.arange(end)
    rows = slots[begin:, None]
    seen = (slots <= rows) & prompt_seen[:, None, :end]
    return seen | (slots == rows)  # a padding row must see something, or softmax is 0 / 0


def allowed(
    model: PreTrainedModel, seen: np.ndarray, positions: np.ndarray, of_slots: np.ndarray
) -> dict[str, np.ndarray]:
    """What each kind of layer may look at, boolean, shape (batch, rows, slots).

    `seen` is what a layer without a window may look at; `positions` (batch, rows) and `of_slots` (batch, slots) say
    where the rows and the slots stand in their text.
    """
    looks_back, kinds = windows(model), {}
    for kind in layer_kinds(model):
        kinds[kind] = seen
        if kind in looks_back:
            kinds[kind] = seen & (positions[:, :, None] - of_slots[:, None] < looks_back[kind])
    return kinds


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a look is allowed and the lowest number where it is not, shape (batch, 1, rows, slots)."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)


def by_kind(masks: dict[str, Any]) -> Any:
    """As transformers takes them: one mask, or one for each kind of layer if there are several kinds."""
    return masks if len(masks) > 1 else next(iter(masks.values()))
