"""Which token may look at which in a pass, and the masks of a model's layers that say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .families import Traits


def causal(prompt_seen: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Which tokens of left-padded prompts see which, rows from `begin` to `end`: shape (batch, rows, end)."""
    slots = np.arange(end)
    rows = slots[begin:, None]
    seen = (slots <= rows) & prompt_seen[:, None, :end]
    return seen | (slots == rows)  # a padding row must see something, or softmax is 0 / 0


def allowed(
    traits: Traits, visible: np.ndarray, positions: np.ndarray, slot_positions: np.ndarray
) -> dict[str, np.ndarray]:
    """What each kind of layer may look at, boolean, shape (batch, rows, slots).

    `visible` is what a layer without a window may look at; `positions` (batch, rows) and `slot_positions` (batch,
    slots) are those of the rows and the slots in their text.
    """
    kinds = dict.fromkeys(traits.kinds, visible)
    for kind, window in traits.windows.items():
        kinds[kind] = visible & (positions[:, :, None] - slot_positions[:, None] < window)
    return kinds


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a look is allowed and the lowest number where it is not, shape (batch, 1, rows, slots)."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)


def by_kind(masks: dict[str, Any]) -> Any:
    """As transformers takes them: one mask, or one for each kind of layer if there are several kinds."""
    return masks if len(masks) > 1 else next(iter(masks.values()))
