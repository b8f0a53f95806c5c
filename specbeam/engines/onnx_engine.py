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
from .onnx_cache import Bank
from .onnx_session import Session
from .torch_engine import TorchEngine, allowed

_HIDDEN = torch.finfo(torch.float32).min


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
            banks = self._session.layout.banks
            self._banks = [Bank(len(seen), len(numbers), width) for width, numbers in banks.items()]
            self.cache.layers = [*self._banks]
            self._bound: tuple[Any, ...] = ()

    def _makes_masks(self, seen: np.ndarray) -> bool:
        return not self._exported and super()._makes_masks(seen)

    def _mask(self, visible: np.ndarray, positions: np.ndarray, slot_positions: np.ndarray) -> Any:
        """Added to scores: whole buffers first, then the new tokens; (batch, 1, rows, slots + rows) a kind."""
        if not self._exported:
            return super()._mask(visible, positions, slot_positions)
        batch, rows, slots = visible.shape
        for bank in self._banks:
            bank.reserve(slots, bank.growth)
        used, room = slots - rows, self._banks[0].shown
        masks = []
        for shown in allowed(self.traits, visible, positions, slot_positions).values():
            mask = torch.full((batch, 1, rows, room + rows), _HIDDEN)
            mask[..., :used].masked_fill_(shown[..., :used], 0.0)
            mask[..., room:].masked_fill_(shown[..., used:], 0.0)
            masks.append(mask)
        return masks

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
        inputs = [input_ids.contiguous(), positions.contiguous(), rows, torch.zeros(count, dtype=torch.long), *mask]
        top, states, new = self._session.run(self._binding(), inputs, logits, bool(self.state_layers))
        for bank, fresh in zip(self._banks, new, strict=True):
            bank.append(fresh)
        self.tokens += input_ids.numel()
        self._read_off = [each.unflatten(0, (batch, -1)) for each in top]
        if states is not None and self._states != [*range(states.shape[2])]:
            states = states[:, :, self._states]
        return logits, states

    def close(self) -> None:
        super().close()
        self._banks, self._bound = [], ()

    def _binding(self) -> Any:
        """The slots of the past, bound for a pass: anew only where there are more of them, or elsewhere."""
        stretch = [(each.batch, each.shown, each.buffers[0].shape, each.buffers[0].data_ptr()) for each in self._banks]
        if not self._bound or self._bound[0] != stretch:
            numbers, past = self._session.layout.banks.values(), {}
            for bank, some in zip(self._banks, numbers, strict=True):
                past |= zip(some, bank.past(), strict=True)
            tensors = [past[number] for number in range(len(past))]
            self._bound = stretch, self._session.bind(tensors), tensors
        return self._bound[1]

    def _output(self, pick: Callable[[Tensor], Tensor], logits: Tensor, states: Tensor | None) -> Output:
        if not self._exported:
            return super()._output(pick, logits, states)
        norms, log_probs, tokens = map(pick, self._read_off)
        return Output(pick(logits), norms.tolist(), tokens.numpy(), log_probs.numpy(), states)
