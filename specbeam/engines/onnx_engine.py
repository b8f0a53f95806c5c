"""OnnxEngine: passes over trees in ONNX Runtime, for a model in float32 on a CPU.

A pass of a few tokens is bound by reading the weights. PyTorch takes two to three times as long for it as the machine
needs; ONNX Runtime, which plans the whole pass and lays the weights out for it once, comes close.

Keys and values lie in buffers with room to grow, as those of `TorchEngine`. A pass is shown whole stretches of them,
with the unused slots hidden by the mask, and writes what is new where it belongs.
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
    """A layer that passes are shown whole: slots that are not in use cost as much as others.

    In memory the heads of a slot stand side by side, as a linear layer gives them.
    """

    growth = 64

    def _zeros(self, like: Tensor, slots: int) -> Tensor:
        return like.new_zeros((len(like), slots, like.shape[1], like.shape[3])).transpose(1, 2)


def _by_token(layer: SlotLayer) -> list[Tensor]:
    """Keys and values of a `WholeLayer`, (batch, slots, heads * head dim), without a copy."""
    return [buffer.transpose(1, 2).flatten(2) for buffer in layer.buffers]


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
        for layer in self.cache.layers:
            layer.reserve(slots, layer.growth)
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
        layer = self.cache.layers[0]
        if not layer.used or layer.batch > 1:
            return layer.buffers[0].shape[2] if layer.used else 1
        return min(-(-layer.used // WholeLayer.growth) * WholeLayer.growth, layer.buffers[0].shape[2])

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
        used, room, past, new = self.cache.layers[0].used, self._room(), [], []
        for layer in self.cache.layers:
            for stored in _by_token(layer):
                past.append(stored[:, :room] if used else stored.new_zeros(batch, 1, stored.shape[2]))
                new.append(stored[:, used : used + width])
        if batch > 1:  # the new slots of several prompts do not lie side by side
            new = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in new]
        inputs = [input_ids.contiguous(), positions.contiguous(), rows, torch.zeros(count, dtype=torch.long)]
        norms, log_probs, tokens, states = self._session.run(
            [*inputs, *mask, *past], logits, new, bool(self.state_layers)
        )
        for index, layer in enumerate(self.cache.layers):
            if batch > 1:
                for stored, states_of in zip(_by_token(layer), new[2 * index : 2 * index + 2], strict=True):
                    stored[:, used : used + width] = states_of
            layer.end(used + width)
        self.tokens += input_ids.numel()
        self._read_off = norms.view(batch, -1), log_probs.view(batch, -1, count), tokens.view(batch, -1, count)
        if states is not None and self._states != [*range(states.shape[2])]:
            states = states[:, :, self._states]
        return logits, states

    def _output(self, pick: Callable[[Tensor], Tensor], logits: Tensor, states: Tensor | None) -> Output:
        if not self._exported:
            return super()._output(pick, logits, states)
        norms, log_probs, tokens = map(pick, self._read_off)
        return Output(pick(logits), norms.tolist(), tokens.numpy(), log_probs.numpy(), states)
