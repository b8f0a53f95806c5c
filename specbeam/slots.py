"""The cache of a token tree: one slot a node, in buffers with room to grow."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

GROWTH = 256  # slots that the cache grows by: a growth copies it all


class SlotLayer(DynamicLayer):
    """Keys and values of one layer in buffers with room to grow: a pass writes its slots and copies nothing."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = [
            states.new_empty((*states.shape[:2], 0, states.shape[3])) for states in (key_states, value_states)
        ]
        self.used = 0
        self._view()
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.used + key_states.shape[2]
        for index, states in enumerate((key_states, value_states)):
            buffer = self._buffers[index]
            if end > buffer.shape[2]:
                roomy = buffer.new_empty((*buffer.shape[:2], end + GROWTH, buffer.shape[3]))
                roomy[:, :, : self.used] = buffer[:, :, : self.used]
                self._buffers[index] = buffer = roomy
            buffer[:, :, self.used : end] = states
        self.used = end
        return self._view()

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (buffer[:, :, : self.used] for buffer in self._buffers)
        return self.keys, self.values

    def keep(self, start: int, slots: Tensor) -> None:
        """Move the slots `start + slots` (per prompt, shape (batch, kept)) to `start`, and end after them."""
        kept = slots.shape[1]
        for buffer in self._buffers:
            index = (slots.to(buffer.device) + start)[:, None, :, None].expand(-1, buffer.shape[1], -1, buffer.shape[3])
            buffer[:, :, start : start + kept] = buffer.gather(2, index)
        self.used = start + kept
        self._view()

    def cut(self, end: int) -> None:
        """Forget all slots from `end` on."""
        self.used = min(self.used, end)
        self._view()

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may come more than once."""
        self._buffers = [buffer[rows.to(buffer.device)] for buffer in self._buffers]
        self._view()
