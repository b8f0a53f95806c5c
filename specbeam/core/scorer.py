"""TreeScorer: one causal LM over any set of tree nodes in one pass. It owns the KV cache and the mask.

A pass puts the asked nodes of every prompt side by side and lets each attend to the prompt, to its own
ancestors and to itself: tree attention (Miao et al. 2023, SpecInfer, section 4.2). Each node has one slot in
the cache, whatever the number of sequences that run through it, and the prompt is there once.

    prompt     | slots of the tree
    . . . . .  | a  b  c  d          b and c follow a, d follows c
    x x x x x  | x  -  x  x   <- the mask row of d
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from specbeam.engines.attention import alibi_by_position, grouped
from specbeam.engines.families import bound, has_alibi, refuse_unservable, takes, windows
from specbeam.engines.tree_cache import GROWTH, slot_cache, slot_layers
from specbeam.engines.tree_mask import additive, allowed, by_kind, causal

from .tree import ROOT, TokenTree

_FEW = 32  # slots too few to be worth tidying
CHUNK = 2048  # tokens of a prompt that are read at once: what lies between layers, and masks, grow with it


class TreeScorer:
    """Scores nodes of one or several token trees, one tree a prompt, with a causal LM.

    Args:
        model: any causal LM of transformers whose attention takes a 4-D mask; others: `sequences.scorer_for`.
        state_layers: hidden states to keep of every pass, in `states`; 0 is the embedding.

    Raises:
        ValueError: for models that a tree cannot serve (encoder-decoder, recurrent, flash attention).
    """

    def __init__(self, model: PreTrainedModel, state_layers: tuple[int, ...] = ()):
        refuse_unservable(model)
        reason = bound(model)
        if reason is not None:
            raise ValueError(
                f"{type(model).__name__} cannot be decoded over a token tree: {reason}; "
                "specbeam.engines.sequences.scorer_for(model) serves it by sequences."
            )
        self.model, self.state_layers = model, state_layers
        self._takes_positions = takes(model, "position_ids")
        self._reset()

    def _reset(self) -> None:
        self.states: Tensor | None = None  # of the last pass: (batch, rows, layers, hidden size)
        self._begin = 0  # where in the prompt the part that is being read begins
        self.passes = 0
        self.tokens = 0
        self.peak_slots = 0

    @torch.inference_mode()
    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Forward the left-padded prompts once; returns the logits at the roots, shape (batch, vocabulary).

        `input_ids` and `attention_mask` have shape (batch, prompt length); a mask entry of 0 is padding.
        """
        batch, self._prompt = input_ids.shape
        self.trees = trees
        self.rows = list(range(batch))  # the prompts that are still read, in the order of the cache's rows
        self._cache = self._new_cache(batch)
        self._prompt_seen = attention_mask.bool().cpu().numpy()
        self._lengths = self._prompt_seen.sum(1)
        self._positions = np.maximum(self._prompt_seen.cumsum(1) - 1, 0)  # of every slot, tree slots to follow
        self._slots: list[dict[int, int]] = [{} for _ in range(batch)]
        self._seen = np.zeros((batch, 0, 0), dtype=bool)
        self._used = 0
        options = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(self.model.forward).parameters else {}
        positions, states, logits = self._positions, [], None
        for begin in range(0, self._prompt, CHUNK):
            self._begin, end = begin, min(begin + CHUNK, self._prompt)
            self._positions = positions[:, :end]
            mask = self._prompt_mask(attention_mask[:, :end])
            logits = self._forward(input_ids[:, begin:end], mask, positions[:, begin:end], **options)
            states.append(self.states)
        self._begin = 0
        if self.state_layers:
            self.states = torch.cat(states, 1)
        assert logits is not None
        return logits[:, -1]

    @torch.inference_mode()
    def score(self, nodes: list[list[int]]) -> Tensor:
        """Forward `nodes` (a list a prompt) in one pass; returns logits of shape (number of nodes, vocabulary).

        Rows come in the order of the nodes, prompt after prompt. Every parent is a root, has been scored before or
        stands earlier in the same list. Where this raises, `take_back` makes as if it had not been called.
        """
        self._used_before = self._used
        nodes = [nodes[b] for b in self.rows]
        batch, width = len(nodes), max(map(len, nodes))
        self._reserve(self._used + width)
        tokens = np.zeros((batch, width), dtype=np.int64)
        positions = np.repeat(self._lengths[:, None], width, axis=1)
        for row, b in enumerate(self.rows):
            tree, slots, seen = self.trees[b], self._slots[b], self._seen[row]
            for i, node in enumerate(nodes[row]):
                slot = slots[node] = self._used + i
                parent = tree.parents[node]
                if parent != ROOT:
                    seen[slot] = seen[slots[parent]]
                seen[slot, slot] = True
                tokens[row, i] = tree.tokens[node]
                positions[row, i] += tree.depths[node] - 1
        self._used += width
        in_tree = self._seen[:, self._used - width : self._used, : self._used]
        in_prompt = np.broadcast_to(self._prompt_seen[:, None], (batch, width, self._prompt))
        self._positions = np.concatenate([self._positions, positions], axis=1)
        logits = self._pass(tokens, np.concatenate([in_prompt, in_tree], axis=2), positions)
        if batch == 1:
            return logits[0, :width]
        return torch.cat([logits[row, : len(asked)] for row, asked in enumerate(nodes)])

    def take_back(self, nodes: list[list[int]]) -> None:
        """Undo the last `score(nodes)`, however far it came: slots that are half written must never be seen."""
        self._used = self._used_before
        self._seen[:, self._used :] = False
        self._positions = self._positions[:, : self._prompt + self._used]
        for slots, asked in zip(self._slots, nodes, strict=True):
            for node in asked:
                slots.pop(node, None)
        for layer in slot_layers(self._cache):
            layer.end(min(layer.used, self._prompt + self._used))

    def scored(self, b: int, node: int) -> bool:
        """Whether `node` of prompt `b` has a slot in the cache (the root always has)."""
        return node == ROOT or node in self._slots[b]

    @torch.inference_mode()
    def compact(self, running: list[list[int]]) -> None:
        """Give up the slots of nodes that searches standing at `running` cannot use, once they are a third of all.

        A prompt without running nodes is finished: it leaves the batch, and costs nothing from then on.
        """
        self._drop([row for row, b in enumerate(self.rows) if not running[b]])
        if self._used < _FEW:
            return
        living = [self.trees[b].living(running[b]) for b in self.rows]
        slots_of = [self._slots[b] for b in self.rows]
        kept = [[node for node in slots if node in alive] for slots, alive in zip(slots_of, living, strict=True)]
        width = max(map(len, kept))
        if 3 * width > 2 * self._used:
            return
        order = np.zeros((len(kept), width), dtype=np.int64)
        for row, nodes in enumerate(kept):
            order[row, : len(nodes)] = [slots_of[row][node] for node in nodes]
            self._slots[self.rows[row]] = {node: slot for slot, node in enumerate(nodes)}
        seen = np.zeros_like(self._seen)
        seen[:, :width, :width] = [rows[np.ix_(index, index)] for rows, index in zip(self._seen, order, strict=True)]
        for row, nodes in enumerate(kept):
            seen[row, :, len(nodes) :] = False  # what fills up a shorter list is a copy of its first slot
        self._seen, self._used = seen, width
        in_tree = np.take_along_axis(self._positions[:, self._prompt :], order, axis=1)
        self._positions = np.concatenate([self._positions[:, : self._prompt], in_tree], axis=1)
        slots = torch.from_numpy(order)
        for layer in slot_layers(self._cache):
            layer.keep(self._prompt, slots)

    def close(self) -> None:
        """The decode is over."""

    def _drop(self, finished: list[int]) -> None:
        """Take these rows out of the cache."""
        kept = [row for row in range(len(self.rows)) if row not in finished]
        if not finished or not kept:
            return
        self.rows = [self.rows[row] for row in kept]
        self._prompt_seen, self._lengths = self._prompt_seen[kept], self._lengths[kept]
        self._seen, self._positions = self._seen[kept], self._positions[kept]
        for layer in slot_layers(self._cache):
            layer.select(torch.tensor(kept))

    def _new_cache(self, batch: int) -> Cache:
        return slot_cache()

    def _reserve(self, slots: int) -> None:
        if slots > self._seen.shape[1]:
            roomy = np.zeros((len(self._seen), slots + GROWTH, slots + GROWTH), dtype=bool)
            roomy[:, : self._used, : self._used] = self._seen[:, : self._used, : self._used]
            self._seen = roomy

    def _prompt_mask(self, attention_mask: Tensor) -> Any:
        """The model makes its own from the plain mask, unless a window has to follow positions instead of slots.

        Where there is padding it is ours as well: eager attention gives NaN for a row that sees nothing, and from the
        second layer on whoever multiplies that by 0 gets NaN too.
        """
        if self._prompt_seen.all() and not windows(self.model):
            return attention_mask
        seen = causal(self._prompt_seen, self._begin, self._positions.shape[1])
        return self._mask(seen, self._positions[:, self._begin :])

    def _mask(self, seen: np.ndarray, positions: np.ndarray) -> Any:
        """Additive mask (batch, 1, nodes, slots) from `seen` (batch, nodes, slots); one a kind of layer if they differ.

        A model with ALiBi gets what is allowed, as booleans.
        """
        # a padded slot beyond the last node of a shorter prompt may see nothing: harmless, it is never read
        kinds = {
            kind: torch.from_numpy(one)[:, None].to(self.model.device)
            for kind, one in allowed(self.model, seen, positions, self._positions).items()
        }
        if has_alibi(self.model):
            return by_kind(kinds)
        return by_kind({kind: additive(one, self.model.dtype) for kind, one in kinds.items()})

    def _pass(self, tokens: np.ndarray, seen: np.ndarray, positions: np.ndarray) -> Tensor:
        """One pass over tokens of the trees; returns logits (batch, rows, vocabulary), of as many rows or more.

        tokens and positions have shape (batch, rows), seen (batch, rows, slots).
        """
        return self._forward(torch.from_numpy(tokens), self._mask(seen, positions), positions)

    def _forward(self, input_ids: Tensor, mask: Any, positions: np.ndarray, **options: Any) -> Tensor:
        device, attention = self.model.device, grouped(self.model)
        if mask is not None and has_alibi(self.model) and mask.dim() == 4:
            slots = self._places(self._positions)
            attention, mask = alibi_by_position(self.model, mask, slots), torch.ones_like(slots)
        with attention:
            logits = self._call(input_ids.to(device), mask, self._places(positions), **options)
        self._count(input_ids.numel())
        return logits

    def _call(self, input_ids: Tensor, mask: Any, positions: Tensor, **options: Any) -> Tensor:
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            **({"position_ids": positions} if self._takes_positions else {}),
            past_key_values=self._cache,
            use_cache=True,
            return_dict=True,
            **({"output_hidden_states": True} if self.state_layers else {}),
            **options,
        )
        if self.state_layers:
            self.states = torch.stack([output.hidden_states[layer] for layer in self.state_layers], 2)
        return output.logits

    def _places(self, positions: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(positions)).to(self.model.device)

    def _count(self, tokens: int) -> None:
        self.passes += not self._begin  # a prompt that is read in parts is one pass all the same
        self.tokens += tokens
        self.peak_slots = max(self.peak_slots, len(self.rows) * (self._prompt + self._used))
