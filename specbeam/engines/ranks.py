"""Ranks: processes that share one target (tensor parallelism under torchrun), and have to decide alike.

Every pass is a collective of all of them: a rank that forwards something else than the others, or nothing, leaves them
waiting forever. What decides about a pass follows from the target's logits, which all ranks have alike, from clocks,
which are left out (`DraftSizeByBeams`), and from the draft, on which they agree here.

Processes that each hold a whole target decode for themselves, and have nothing to agree on.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from transformers import PreTrainedModel


class Ranks:
    """The processes of `group` (None: all that there are)."""

    def __init__(self, group: Any = None):
        self.group = group
        self.own, self.count = dist.get_rank(group), dist.get_world_size(group)

    def agree(self, failed: bool, answer: Any) -> tuple[list[int], Any]:
        """Which ranks failed, and the answer of rank 0 if none did. All ranks have to call this."""
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, (failed, None if self.own else answer), self.group)
        failures = [rank for rank, (one, _) in enumerate(found) if one]
        return failures, None if failures else found[0][1]


def sharing(model: PreTrainedModel) -> Ranks | None:
    """The processes that `model` is spread over, as DTensors; None if it is all here."""
    if dist.get_world_size() < 2:
        return None
    from torch.distributed.tensor import DTensor  # slow to import, and rarely needed

    for parameter in model.parameters():
        if isinstance(parameter, DTensor) and parameter.device_mesh.size() > 1:
            mesh = parameter.device_mesh
            return Ranks(mesh.get_group() if mesh.ndim == 1 else None)
    return None
