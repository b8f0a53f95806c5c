"""TorchEngine: any causal LM of transformers whose attention takes a 4-D mask, forwarded over a tree cache."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION
from specbeam.core.scorer import Output, Request, TreePass

from .attention import GROUPED, alibi_by_position
from .families import Traits
from .tree_cache import TreeCache

CHUNK = 2048  # tokens of a prompt that are read at once: activations between layers, and masks, grow with it


class TorchEngine:
    """Forwards `model` as it is: in its dtype, on its device or devices, packed, quantized or compiled.

    Args:
        model: the causal LM.
        state_layers: hidden states to return of every pass; 0 is the embedding.
        traits: those of the model, if they are known already.
    """

    def __init__(self, model: PreTrainedModel, state_layers: tuple[int, ...] = (), traits: Traits | None = None):
        self.model, self.state_layers, self.traits = model, state_layers, traits or Traits.of(model)
        self.name, self.tokens = type(model).__name__, 0

    def prefill(self, request: Request) -> Output:
        """Read the left-padded prompts, long ones in parts of `CHUNK` tokens."""
        input_ids, mask = request.input_ids, request.attention_mask
        seen, self.tokens = mask.bool().cpu().numpy(), 0
        self._start(seen)
        positions = np.maximum(seen.cumsum(1) - 1, 0)
        options = dict(request.model_inputs) | ({"logits_to_keep": 1} if self.traits.keeps_logits else {})
        chunk = input_ids.shape[1] if request.model_inputs else CHUNK
        # The model makes its own masks from the plain one, unless a window has to follow positions instead of slots or
        # there is padding: eager attention gives NaN for a row that sees nothing, and 0 times NaN is NaN further up.
        plain = bool(seen.all()) and not self.traits.windows
        states, logits = [], None
        for begin in range(0, input_ids.shape[1], chunk):
            end = min(begin + chunk, input_ids.shape[1])
            rows, slots = positions[:, begin:end], positions[:, :end]
            part = mask[:, :end] if plain else self._mask(causal(seen, begin, end), rows, slots)
            logits, kept = self._forward(input_ids[:, begin:end], part, torch.from_numpy(rows), slots, **options)
            states.append(kept)
        assert logits is not None
        return Output.of(logits[:, -1], torch.cat(states, 1) if self.state_layers else None)

    def forward(self, tree_pass: TreePass) -> Output:
        """One pass over new nodes of the trees."""
        mask = self._mask(tree_pass.visible, tree_pass.positions, tree_pass.slot_positions)
        tokens, positions = torch.from_numpy(tree_pass.tokens), torch.from_numpy(tree_pass.positions)
        logits, states = self._forward(tokens, mask, positions, tree_pass.slot_positions)
        return Output.of(tree_pass.pick(logits), None if states is None else tree_pass.pick(states))

    def keep(self, begin: int, slots: np.ndarray) -> None:
        """Move the slots `begin + slots` to `begin`, in every layer of the cache."""
        order = torch.from_numpy(slots)
        for layer in self.cache.layers:
            layer.keep(begin, order)

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""
        for layer in self.cache.layers:
            layer.select(torch.tensor(rows))

    def rollback(self, slots: int) -> None:
        """End after this many slots; layers that a failed pass did not reach have no more."""
        for layer in self.cache.layers:
            layer.end(min(layer.used, slots))

    def close(self) -> None:
        """Free the cache."""
        self.cache = TreeCache()

    def _start(self, seen: np.ndarray) -> None:
        """A decode of prompts with these attention masks, shape (batch, prompt length), begins with an empty cache."""
        self.cache = TreeCache()

    def _mask(self, visible: np.ndarray, positions: np.ndarray, slot_positions: np.ndarray) -> Any:
        """The mask of a pass, as the model takes it."""
        # a row that fills up a shorter prompt's may see nothing: harmless, it is never read
        kinds = allowed(self.traits, visible, positions, slot_positions)
        on_device = {kind: one.to(self.model.device) for kind, one in kinds.items()}
        return as_masks(on_device, None if self.traits.alibi else self.model.dtype)

    def _forward(
        self, input_ids: Tensor, mask: Any, positions: Tensor, slot_positions: np.ndarray | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Logits (batch, rows, vocabulary), and hidden states (batch, rows, layers, hidden size) if asked for."""
        device, config, context = self.model.device, self.model.config, nullcontext()
        if self.traits.alibi and mask.dim() == 4:
            slots = torch.from_numpy(np.ascontiguousarray(slot_positions)).to(device)
            context, mask = alibi_by_position(self.model, mask, slots), torch.ones_like(slots)
        if self.traits.takes_positions:
            options["position_ids"] = positions.to(device)
        if self.state_layers:
            options["output_hidden_states"] = True
        attention = getattr(config, ATTENTION, None)
        if attention == "sdpa" and self.traits.by_name and device.type == "cpu":
            setattr(config, ATTENTION, GROUPED)
        self.tokens += input_ids.numel()
        try:
            with context:
                output = self.model(
                    input_ids=input_ids.to(device),
                    attention_mask=mask,
                    past_key_values=self.cache,
                    use_cache=True,
                    return_dict=True,
                    **options,
                )
        finally:
            if attention is not None:
                setattr(config, ATTENTION, attention)
        if not self.state_layers:
            return output.logits, None
        return output.logits, torch.stack([output.hidden_states[layer] for layer in self.state_layers], 2)


def causal(prompt_seen: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Which tokens of left-padded prompts see which, rows from `begin` to `end`: shape (batch, rows, end)."""
    slots = np.arange(end)
    rows = slots[begin:, None]
    seen = (slots <= rows) & prompt_seen[:, None, :end]
    return seen | (slots == rows)  # a padding row must see something, or softmax is 0 / 0


def allowed(
    traits: Traits, visible: np.ndarray, positions: np.ndarray, slot_positions: np.ndarray
) -> dict[str, Tensor]:
    """What each kind of layer may look at, boolean, shape (batch, 1, rows, slots).

    `visible` is what a layer without a window may look at, (batch, rows, slots); `positions` (batch, rows) and
    `slot_positions` (batch, slots) are those of the rows and the slots in their text.
    """
    kinds = dict.fromkeys(traits.kinds, torch.from_numpy(visible)[:, None])
    for kind, window in traits.windows.items():
        near = positions[:, :, None] - slot_positions[:, None] < window
        kinds[kind] = torch.from_numpy(visible & near)[:, None]
    return kinds


def as_masks(allowed: dict[str, Tensor], dtype: torch.dtype | None) -> Any:
    """The masks that transformers takes: one, or one for each kind of layer if there are several kinds.

    They are added to the attention: 0 where a look is allowed, the lowest number of `dtype` where it is not. Without a
    dtype they stay boolean.
    """
    masks = allowed
    if dtype is not None:
        lowest = torch.finfo(dtype).min
        masks = {
            kind: torch.zeros(one.shape, dtype=dtype, device=one.device).masked_fill_(~one, lowest)
            for kind, one in allowed.items()
        }
    return masks if len(masks) > 1 else next(iter(masks.values()))
