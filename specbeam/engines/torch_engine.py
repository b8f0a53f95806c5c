"""TorchEngine: any causal LM of transformers whose attention takes a 4-D mask, forwarded over a tree cache."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION, input_device
from specbeam.core.scorer import TOKEN_TYPES, Output, Request, TreePass

from .attention import GROUPED, alibi_by_position
from .families import Traits, check_padding, check_positions, text_config
from .rope import longest_text, with_filler
from .tree_cache import TreeCache

CHUNK = 2048  # tokens of a prompt that are read at once: activations between layers, and masks, grow with it


class TorchEngine:
    """Forwards `model` as it is: in its dtype, on its device or devices, packed, quantized or compiled.

    Args:
        model: the causal LM.
        state_layers: hidden states to return of every pass; 0 is the embedding.
        traits: those of the model, if they are known already.
    """

    runtime = "torch"

    def __init__(self, model: PreTrainedModel, state_layers: tuple[int, ...] = (), traits: Traits | None = None):
        self.model, self.state_layers, self.traits = model, state_layers, traits or Traits.of(model)
        self.name, self.tokens = type(model).__name__, 0
        # the language model's own: that of a model with images would hand the name of an attention on to all its parts
        self._config = text_config(model)

    def prefill(self, request: Request) -> Output:
        """Read the prompts, long ones in parts of `CHUNK` tokens unless there are further inputs."""
        device = input_device(self.model)
        input_ids, mask = request.input_ids.to(device), request.attention_mask.to(device)
        seen, self.tokens, self._top_tokens = mask.bool().cpu().numpy(), 0, request.top_tokens
        check_padding(self.name, seen, self.traits.windows)
        self._prompt = seen.shape[1]
        self._start(seen)
        counted = np.maximum(seen.cumsum(1) - 1, 0)
        positions = torch.from_numpy(counted) if request.position_ids is None else request.position_ids
        # what the model's positions and a token's place in the row are beyond the number of tokens seen before it
        ahead = positions.cpu()[..., -1:] + 1 - torch.from_numpy(seen.sum(1))[:, None]
        self._ahead = ahead if bool(ahead.any()) else None
        self._shift = seen.shape[1] - seen.sum(1)[:, None]
        # of all prompts, also when it is finished before the others
        self._longest = longest_text(mask, request.position_ids)
        further = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in request.model_inputs.items()
        }
        self._types = {
            name: value[..., -1:] if name == "token_type_ids" else torch.zeros_like(value[..., -1:])
            for name, value in further.items()
            if name in TOKEN_TYPES
        }
        if further:
            inputs = self.model.prepare_inputs_for_generation(  # type: ignore[operator]
                input_ids,
                past_key_values=self.cache,
                attention_mask=mask,
                position_ids=positions.to(device) if self.traits.takes_positions else None,
                use_cache=True,
                is_first_iteration=True,
                **further,
            )
            logits, kept = self._read(**{**inputs, **self._options()})
            return self._output(_last, logits, kept)
        plain = self._makes_masks(seen)
        states, logits = [], None
        rope = self.traits.rope  # whose frequencies are those of the longest text in a call: then there is one call
        chunk = CHUNK if rope is None or int(positions.max()) < rope.switch else input_ids.shape[1]
        for begin in range(0, input_ids.shape[1], chunk):
            end = min(begin + chunk, input_ids.shape[1])
            places = np.broadcast_to(np.arange(end), (len(seen), end))
            part = mask[:, :end] if plain else self._mask(causal(seen, begin, end), places[:, begin:], places)
            logits, kept = self._forward(
                input_ids[:, begin:end], part, positions[..., begin:end], counted[:, :end], **self._options()
            )
            states.append(kept)
        assert logits is not None
        return self._output(_last, logits, torch.cat(states, 1) if self.state_layers else None)

    def forward(self, tree_pass: TreePass) -> Output:
        """One pass over new nodes of the trees."""
        filler = None
        if self.traits.rope is not None:
            depth = int((tree_pass.positions + self._shift).max()) - self._prompt + 1
            filler = self.traits.rope.filler_position(self._longest + depth)
            tree_pass = tree_pass if filler is None else with_filler(tree_pass)
        mask = self._mask(tree_pass.visible, *self._places(tree_pass))
        tokens, positions = torch.from_numpy(tree_pass.tokens), self._ahead_of(torch.from_numpy(tree_pass.positions))
        if filler is not None:
            positions[..., -1] = filler
        options = {name: value.expand(*value.shape[:-1], tokens.shape[1]) for name, value in self._types.items()}
        logits, states = self._forward(tokens, mask, positions, tree_pass.slot_positions, **options)
        if filler is not None:
            self.rollback(tree_pass.visible.shape[2] - 1)
        return self._output(tree_pass.pick, logits, None if states is None else tree_pass.pick(states))

    def _makes_masks(self, seen: np.ndarray) -> bool:
        """Whether the model makes its own masks of prompts with this plain one.

        Not where a window has to follow positions instead of slots, nor with padding: eager attention gives NaN for a
        row that sees nothing, and 0 times NaN is NaN further up.
        """
        return bool(seen.all()) and not self.traits.windows

    def _output(self, pick: Callable[[Tensor], Tensor], logits: Tensor, states: Tensor | None) -> Output:
        """What a pass gives, with the rows of its `logits` that `pick` takes."""
        return Output.of(pick(logits), self._top_tokens, states)

    def _options(self) -> dict[str, Any]:
        """Of a prompt only the logits at its end are needed."""
        return {"logits_to_keep": 1} if self.traits.keeps_logits else {}

    def _places(self, tree_pass: TreePass) -> tuple[np.ndarray, np.ndarray]:
        """Where in its row each new token and each slot stands, padding included: windows count these."""
        slots, prompt = tree_pass.slot_positions + self._shift, self._prompt
        slots[:, :prompt] = np.arange(prompt)
        return tree_pass.positions + self._shift, slots

    def _ahead_of(self, positions: Tensor) -> Tensor:
        """The model's positions of tokens at these positions, (batch, width)."""
        return positions if self._ahead is None else positions + self._ahead

    def keep(self, begin: int, slots: np.ndarray) -> None:
        """Move the slots `begin + slots` to `begin`, in every layer of the cache."""
        order = torch.from_numpy(slots)
        for layer in self.cache.layers:
            layer.keep(begin, order)

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""
        self._shift = self._shift[rows]
        self._ahead = None if self._ahead is None else self._ahead[..., rows, :]
        self._types = {name: value[rows] for name, value in self._types.items()}
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
        device = input_device(self.model)
        on_device = {kind: one.to(device) for kind, one in kinds.items()}
        return as_masks(on_device, None if self.traits.alibi else self.model.dtype)

    def _forward(
        self, input_ids: Tensor, mask: Any, positions: Tensor, slot_positions: np.ndarray | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Logits (batch, rows, vocabulary), and hidden states (batch, rows, layers, hidden size) if asked for."""
        device, context = input_device(self.model), nullcontext()
        if self.traits.positions is not None:
            check_positions(self.name, int(positions.max()) + 1, self.traits.positions)
        if self.traits.alibi and mask.dim() == 4:
            slots = torch.from_numpy(np.ascontiguousarray(slot_positions)).to(device)
            context, mask = alibi_by_position(self.model, mask, slots), torch.ones_like(slots)
        if self.traits.takes_positions:
            options["position_ids"] = positions.to(device)
        options |= {"input_ids": input_ids.to(device), "attention_mask": mask, "past_key_values": self.cache}
        with context:
            return self._read(use_cache=True, **options)

    def _read(self, input_ids: Tensor, **inputs: Any) -> tuple[Tensor, Tensor | None]:
        """The model's answer to its own inputs, with grouped attention where the model would call PyTorch's."""
        if self.state_layers:
            inputs["output_hidden_states"] = True
        attention = getattr(self._config, ATTENTION, None)
        grouped = attention == "sdpa" and self.traits.by_name and self.model.device.type == "cpu"
        self.tokens += input_ids.numel()
        try:
            if grouped:
                setattr(self._config, ATTENTION, GROUPED)
            output = self.model(input_ids=input_ids, return_dict=True, **inputs)
        finally:
            if grouped:
                setattr(self._config, ATTENTION, attention)
        if not self.state_layers:
            return output.logits, None
        return output.logits, torch.stack([output.hidden_states[layer] for layer in self.state_layers], 2)


def _last(values: Tensor) -> Tensor:
    """(batch, rows, …) -> (batch, …), at the end of the prompts."""
    return values[:, -1]


def causal(prompt_seen: np.ndarray, begin: int, end: int) -> np.ndarray:
    """Which tokens of padded prompts see which, rows from `begin` to `end`: shape (batch, rows, end)."""
    slots = np.arange(end)
    rows = slots[begin:, None]
    seen = (slots <= rows) & prompt_seen[:, None, :end]
    # a padding row must see something, or softmax is 0 / 0
    return seen | ((slots == rows) & ~seen.any(2, keepdims=True))


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
