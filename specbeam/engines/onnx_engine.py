"""OnnxEngine: passes over trees in ONNX Runtime, for a model in float32 on a CPU.

A pass of a few tokens is bound by reading the weights. PyTorch takes two to three times as long for it as the machine
needs; ONNX Runtime, which plans the whole pass and lays the weights out for it once, comes close.

Keys and values lie in the same buffers as those of `TorchEngine`, with room to grow. A pass is shown whole buffers,
with the unused slots hidden by the mask, so that nothing is copied but what is new.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.core.scorer import Output, Request

from .families import Traits, check_positions
from .onnx_session import Session
from .torch_engine import TorchEngine, allowed
from .tree_cache import SlotLayer

_HIDDEN = torch.finfo(torch.float32).min


class WholeLayer(SlotLayer):
    """A layer that passes are shown whole: slots that are not in use cost as much as others."""

    growth = 64


class OnnxEngine(TorchEngine):
    """Forwards a model with an exported graph; a prompt with further inputs (images) with the model itself.

    Args:
        session: of this model, with these hidden states or more.
        model, state_layers, traits: as for `TorchEngine`.
    """

    runtime = "onnx"

    def __init__(
        self,
        session: Session,
        model: PreTrainedModel,
        state_layers: tuple[int, ...] = (),
        traits: Traits | None = None,
    ):
        super().__init__(model, state_layers, traits)
        self._session, self._exported = session, True
        self._states = [session.layout.state_layers.index(layer) for layer in state_layers]

    def prefill(self, request: Request) -> Output:
        """Read the prompts, long ones in parts."""
        self._exported = not request.model_inputs
        return super().prefill(request)

    def _start(self, seen: np.ndarray) -> None:
        super()._start(seen)
        if self._exported:
            empty = [torch.empty(len(seen), heads, 0, dim) for heads, dim in self._session.layout.shapes]
            for keys, values in zip(empty[::2], empty[1::2], strict=True):
                self.cache.layers.append(layer := WholeLayer())
                layer.lazy_initialization(keys, values)

    def _makes_masks(self, seen: np.ndarray) -> bool:
        return not self._exported and super()._makes_masks(seen)

    def _mask(self, visible: np.ndarray, positions: np.ndarray, slot_positions: np.ndarray) -> Any:
        """Added to scores: whole buffers first, then the new tokens; (batch, 1, rows, slots + rows) a kind."""
        if not self._exported:
            return super()._mask(visible, positions, slot_positions)
        batch, rows, slots = visible.shape
        used, room = slots - rows, self._room()
        masks = []
        for shown in allowed(self.traits, visible, positions, slot_positions).values():
            mask = torch.full((batch, 1, rows, room + rows), _HIDDEN)
            mask[..., :used].masked_fill_(shown[..., :used], 0.0)
            mask[..., room:].masked_fill_(shown[..., used:], 0.0)
            masks.append(mask)
        return masks

    def _room(self) -> int:
        """Slots of the past that a pass is shown: at least one, as products over nothing are not all alike."""
        return max(self.cache.layers[0].buffers[0].shape[2], 1)

    def _forward(
        self, input_ids: Tensor, mask: Any, positions: Tensor, slot_positions: np.ndarray | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        if not self._exported:
            return super()._forward(input_ids, mask, positions, slot_positions, **options)
        if self.traits.positions is not None:
            check_positions(self.name, int(positions.max()) + 1, self.traits.positions)
        batch, width = input_ids.shape
        rows = torch.arange(width)[-options.get("logits_to_keep", width) :]
        logits = torch.empty(batch, len(rows), self._session.vocabulary)
        count = min(self._top_tokens, self._session.vocabulary)
        past = [buffer for layer in self.cache.layers for buffer in layer.buffers]
        if not past[0].shape[2]:
            past = [buffer.new_zeros(*buffer.shape[:2], 1, buffer.shape[3]) for buffer in past]
        inputs = [input_ids, positions, rows, torch.zeros(count, dtype=torch.long), *mask, *past]
        norms, log_probs, tokens, states, new = self._session.run(inputs, logits, bool(self.state_layers))
        for layer, keys, values in zip(self.cache.layers, new[::2], new[1::2], strict=True):
            layer.update(keys, values)
        self.tokens += input_ids.numel()
        self._read_off = norms.view(batch, -1), log_probs.view(batch, -1, count), tokens.view(batch, -1, count)
        return logits, None if states is None else states[:, :, self._states]

    def _output(self, pick: Callable[[Tensor], Tensor], logits: Tensor, states: Tensor | None) -> Output:
        if not self._exported:
            return super()._output(pick, logits, states)
        norms, log_probs, tokens = map(pick, self._read_off)
        return Output(pick(logits), norms.tolist(), tokens.numpy(), log_probs.numpy(), states)
