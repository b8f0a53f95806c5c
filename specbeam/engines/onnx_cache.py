"""Keys and values as an exported pass takes and gives them: of all layers that are alike in one buffer.

A pass is shown whole stretches of it, slots that are not in use included, and what it returns is written with one
operation for all layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .tree_cache import SlotLayer


class Bank(SlotLayer):
    """Keys and values of all layers that are as wide as each other, (batch, keys and values, slots, heads * head dim).

    In memory the keys, or the values, of a layer stand together, so that a pass can read them where they are.
    """

    growth = 64  # slots that are not in use cost a pass as much as others

    def __init__(self, batch: int, number: int, width: int):
        super().__init__()
        self.batch, self.used = batch, 0
        self.buffers = [self._zeros(torch.empty(batch, number, 0, width), 0)]
        self.is_initialized = True

    def past(self) -> list[Tensor]:
        """What a pass is shown: (batch, slots, heads * head dim) of each, at least one slot of zeros."""
        (buffer,) = self.buffers
        if not self.used:
            return [buffer.new_zeros(self.batch, 1, buffer.shape[3])] * buffer.shape[1]
        return [each[: self.batch, : self.shown] for each in buffer.unbind(1)]

    @property
    def shown(self) -> int:
        """Slots of the past that a pass is shown: at least one, as products over nothing are not all alike."""
        room = self.buffers[0].shape[2]
        if not self.used:
            return 1
        # those of several prompts stand together only if they are shown whole
        return room if self.batch > 1 else min(-(-self.used // self.growth) * self.growth, room)

    def append(self, new: Tensor) -> None:
        """Write those of new tokens, (keys and values, batch, tokens, heads * head dim), behind the others."""
        end = self.used + new.shape[2]
        self.buffers[0][: self.batch, :, self.used : end] = new.transpose(0, 1)
        self.end(end)

    def end(self, slots: int) -> None:
        self.used = slots

    def _chosen(self, buffer: Tensor, rows: Tensor) -> Tensor:
        return buffer.transpose(0, 1).index_select(1, rows).transpose(0, 1)

    def _zeros(self, like: Tensor, slots: int) -> Tensor:
        batch, number, _, width = like.shape
        return like.new_zeros(number, batch, slots, width).transpose(0, 1)
