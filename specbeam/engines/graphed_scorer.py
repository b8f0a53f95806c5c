"""GraphedScorer: a `TreeScorer` whose passes over trees are recorded as CUDA graphs (`cuda_graphs.py`).

A recorded pass has a fixed shape, so rows and slots are rounded up. A row too many stands at the end of its prompt,
sees the prompt, and leaves its keys in a slot that nobody looks at; a slot too many is hidden by the mask.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from specbeam.core.scorer import TreeScorer

from .cuda_graphs import GraphedPasses, Inputs, Lease, rounded
from .families import has_alibi, layer_kinds
from .tree_cache import slot_layers
from .tree_mask import additive, allowed, by_kind


class GraphedScorer(TreeScorer):
    """Scores nodes of token trees by replaying recorded passes; arguments and errors as for `TreeScorer`."""

    def __init__(self, model: PreTrainedModel, state_layers: tuple[int, ...] = ()):
        super().__init__(model, state_layers)
        self._lease = Lease(model)

    def _new_cache(self, batch: int) -> Cache:
        by_position = self._takes_positions and not has_alibi(self.model)
        self._graphed: GraphedPasses | None = self._lease.start(batch) if by_position else None
        return self._graphed.cache if self._graphed else super()._new_cache(batch)

    def close(self) -> None:
        """The decode is over: its recordings serve the next one."""
        self._lease.end()

    def _pass(self, tokens: np.ndarray, seen: np.ndarray, positions: np.ndarray) -> Tensor:
        if self._graphed is None:
            return super()._pass(tokens, seen, positions)
        batch, width = tokens.shape
        used = self._prompt + self._used
        rows, slots = rounded(width), self._graphed.room(used)
        padded = np.zeros((batch, rows, slots), dtype=bool)
        padded[:, :width, :used] = seen
        padded[:, width:, : self._prompt] = self._prompt_seen[:, None]
        of_rows, of_slots = np.repeat(self._lengths[:, None], rows, 1), np.zeros((batch, slots), dtype=np.int64)
        of_rows[:, :width], of_slots[:, :used] = positions, self._positions
        places = np.full(rows, self._graphed.spare)
        places[:width] = np.arange(used - width, used)
        inputs: Inputs = {
            "input_ids": torch.from_numpy(np.pad(tokens, ((0, 0), (0, rows - width)))),
            "position_ids": torch.from_numpy(of_rows),
            "places": torch.from_numpy(places),
        }
        for kind, one in allowed(self.model, padded, of_rows, of_slots).items():
            inputs[kind] = torch.from_numpy(one)[:, None]
        logits, *states = self._graphed(self._run, inputs, slots)
        for layer in slot_layers(self._cache):
            layer.end(used)
        if states:
            self.states = states[0]
        self._count(tokens.size)
        return logits

    def _run(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """A pass whose inputs are all on the device: logits, and the states if they are asked for."""
        mask = by_kind({kind: additive(inputs[kind], self.model.dtype) for kind in layer_kinds(self.model)})
        logits = self._call(inputs["input_ids"], mask, inputs["position_ids"])
        return (logits,) if self.states is None else (logits, self.states)
