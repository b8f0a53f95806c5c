"""The cache of a token tree: one slot a node, in buffers with room to grow."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from specbeam.compat import CACHE_LAYERS

from .memory import ran_out


class SlotLayer(DynamicLayer):
    """Keys and values of one layer in buffers with room to grow: a pass writes its slots and copies nothing.

    A pass of a fixed shape (`fix`) writes where it is told to and sees as many slots as it is told to, its mask says
    which of them; its buffers stay where they are in memory.
    """

    growth = 256  # slots that it grows by: a growth copies it all
    stay = False  # whether the buffers of a smaller batch stay where they are
    fixed: tuple[Tensor, int] | None = None  # the slots that a pass of a fixed shape writes, and how many it sees

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.batch = key_states.shape[0]
        self.buffers = [
            states.new_empty((*states.shape[:2], 0, states.shape[3])) for states in (key_states, value_states)
        ]
        self.end(0)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.fixed is not None:
            places, shown = self.fixed
            for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[: self.batch].index_copy_(2, places, states)
            keys, values = (buffer[: self.batch, :, :shown] for buffer in self.buffers)
            return keys, values
        end = self.used + key_states.shape[2]
        self.reserve(end, self.growth)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: self.batch, :, self.used : end] = states
        self.end(end)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def reserve(self, slots: int, room: int) -> None:
        """See that there is room for so many slots, and make `room` beyond them where there was not."""
        for index, buffer in enumerate(self.buffers):
            if slots <= buffer.shape[2]:
                continue
            # a slot that was never written may be looked at with a weight of 0, which does not hide a NaN
            roomy = self._zeros(buffer, slots + room)
            roomy[:, :, : self.used] = buffer[:, :, : self.used]
            self.buffers[index] = roomy

    def _zeros(self, like: Tensor, slots: int) -> Tensor:
        return like.new_zeros((*like.shape[:2], slots, like.shape[3]))

    def keep(self, start: int, slots: Tensor) -> None:
        """Move the slots `start + slots` (per prompt, shape (batch, kept), rising) to `start`, and end after them."""
        kept = slots.shape[1]
        for buffer in self.buffers:
            rows = buffer[: self.batch]
            index = (slots.to(buffer.device) + start)[:, None, :, None].expand(-1, buffer.shape[1], -1, buffer.shape[3])
            try:
                rows[:, :, start : start + kept] = rows.gather(2, index)
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                for row, moved in zip(rows, slots.tolist(), strict=True):
                    for place, slot in enumerate(moved):  # no slot moves up, so none is lost before its turn
                        row[:, start + place] = row[:, start + slot]
        self.end(start + kept)

    def end(self, slots: int) -> None:
        """The first so many slots are in use, and none behind them."""
        self.used = slots
        self.keys, self.values = [buffer[: self.batch, :, :slots] for buffer in self.buffers]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may come more than once."""
        for index, buffer in enumerate(self.buffers):
            try:
                chosen = self._chosen(buffer, rows.to(buffer.device))
                if self.stay:
                    buffer[: len(rows)] = chosen
                else:
                    self.buffers[index] = chosen
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error) or rows.tolist() != sorted(set(rows.tolist())):
                    raise
                for place, row in enumerate(rows.tolist()):
                    buffer[place] = buffer[row]
        self.batch = len(rows)
        self.end(self.used)

    def _chosen(self, buffer: Tensor, rows: Tensor) -> Tensor:
        return buffer[rows]

    def again(self, batch: int) -> bool:
        """Begin anew with `batch` prompts in the same buffers; whether they have the rows."""
        if not self.is_initialized or batch > self.buffers[0].shape[0]:
            return False
        self.batch, self.fixed = batch, None
        for buffer in self.buffers:
            buffer.zero_()
        self.end(0)
        return True


class TreeCache(Cache):
    """A cache of `SlotLayer`s, as many as the model turns out to have."""

    layers: list[SlotLayer]  # type: ignore[assignment]

    def __init__(self) -> None:
        options: dict[str, Any] = {CACHE_LAYERS: SlotLayer}
        super().__init__(**options)
