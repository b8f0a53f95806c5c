"""GraphEngine: a `TorchEngine` whose passes over trees are recorded as CUDA graphs (`cuda_graphs.py`).

A recorded pass has a fixed shape, so rows and slots are rounded up. A row too many is put at the end of its prompt,
sees the prompt, and leaves its keys in a slot that no pass looks at; a slot too many is hidden by the mask.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.core.scorer import Output, TreePass

from .cuda_graphs import GraphedPasses, Inputs, Recordings, rounded
from .families import Traits
from .torch_engine import TorchEngine, allowed, as_masks


class GraphEngine(TorchEngine):
    """Replays recorded passes.

    Args:
        recordings: those of the model, shared by all its decodes.
        model, state_layers, traits: as for `TorchEngine`.
    """

    def __init__(
        self,
        recordings: Recordings,
        model: PreTrainedModel,
        state_layers: tuple[int, ...] = (),
        traits: Traits | None = None,
    ):
        super().__init__(model, state_layers, traits)
        self._recordings = recordings
        self._passes: GraphedPasses | None = None

    def _start(self, seen: np.ndarray) -> None:
        self.close()
        self._prompt_seen = seen
        by_position = self.traits.takes_positions and not self.traits.alibi
        self._passes = self._recordings.take(self.model, len(seen)) if by_position else None
        if self._passes is None:
            super()._start(seen)
        else:
            self.cache = self._passes.cache

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""
        super().select(rows)
        self._prompt_seen = self._prompt_seen[rows]

    def close(self) -> None:
        """The decode is over: its recordings serve the next one."""
        if self._passes is not None:
            self._recordings.give_back(self._passes)
            self._passes = None
        else:
            super().close()

    def forward(self, tree_pass: TreePass) -> Output:
        """One pass over new nodes of the trees, rounded up to a shape that may be recorded already."""
        if self._passes is None or self._ahead is not None or self._types or self.traits.rope:
            return super().forward(tree_pass)
        batch, width, used = tree_pass.visible.shape
        rows, slots, prompt = rounded(width), self._passes.room(used), self._prompt_seen.shape[1]
        visible = np.zeros((batch, rows, slots), dtype=bool)
        visible[:, :width, :used] = tree_pass.visible
        visible[:, width:, :prompt] = self._prompt_seen[:, None]
        positions = np.repeat(self._prompt_seen.sum(1)[:, None], rows, 1)
        positions[:, :width] = tree_pass.positions
        rows_at, slots_at = np.full((batch, rows), prompt), np.zeros((batch, slots), dtype=np.int64)
        rows_at[:, :width], slots_at[:, :used] = self._places(tree_pass)
        places = np.full(rows, self._passes.spare)
        places[:width] = np.arange(used - width, used)
        inputs: Inputs = {
            "input_ids": torch.from_numpy(np.pad(tree_pass.tokens, ((0, 0), (0, rows - width)))),
            "position_ids": torch.from_numpy(positions),
            "places": torch.from_numpy(places),
        }
        inputs |= allowed(self.traits, visible, rows_at, slots_at)
        before = self.tokens
        logits, *states = self._passes(self._run, inputs, slots)
        for layer in self.cache.layers:
            layer.end(used)
        self.tokens = before + tree_pass.tokens.size  # not those that fill up the shape, nor of a recording
        return Output.of(tree_pass.pick(logits), self._top_tokens, tree_pass.pick(states[0]) if states else None)

    def _run(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """A pass whose inputs are all on the device: logits, and the states if they are asked for."""
        mask = as_masks({kind: inputs[kind] for kind in self.traits.kinds}, self.model.dtype)
        logits, states = self._forward(inputs["input_ids"], mask, inputs["position_ids"], None)
        return (logits,) if states is None else (logits, states)
