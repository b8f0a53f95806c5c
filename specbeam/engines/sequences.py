"""SequenceScorer: the scorer for models that cannot take a token tree. Exact, and slower.

Every path to an asked leaf becomes a row of its own, with the whole prompt before it, and nothing is cached: recurrent
states, windows counted in slots and biases by slot are all as in a plain forward pass. Rows are filled up on the
*right*, where a causal model cannot look, so no mask is needed and positions begin at 0. A draft saves passes here as
well, but a pass costs what a prompt of that length costs.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from specbeam.core.scorer import TreeScorer
from specbeam.core.tree import ROOT, TokenTree

from .cuda_graphs import records_passes
from .families import refuse_unservable
from .graphed_scorer import GraphedScorer
from .probe import probed

_warned: set[str] = set()


def scorer_for(model: PreTrainedModel, state_layers: tuple[int, ...] = ()) -> TreeScorer:
    """A `TreeScorer`, or a `SequenceScorer` for a model that cannot take a tree; warns of that once a model class.

    A model of a family that is not known is tried on a tiny tree first (`probe.py`).

    Raises ValueError for models that cannot be decoded at all (encoder-decoder, flash attention).
    """
    refuse_unservable(model)
    reason = probed(model)
    if reason is None:
        return (GraphedScorer if records_passes(model) else TreeScorer)(model, state_layers)
    name = type(model).__name__
    if name not in _warned:
        _warned.add(name)
        warnings.warn(
            f"{name} cannot verify a token tree: {reason}. Every sequence is read from its beginning instead, which "
            "gives the same results and is slower.",
            stacklevel=2,
        )
    return SequenceScorer(model, state_layers)


class SequenceScorer(TreeScorer):
    """Scores tree nodes by forwarding the paths to them, a batch of sequences without a cache.

    Args:
        model: any causal LM of transformers.
        state_layers: hidden states to keep of every pass, in `states`; 0 is the embedding.
    """

    def __init__(self, model: PreTrainedModel, state_layers: tuple[int, ...] = ()):
        refuse_unservable(model)
        self.model, self.state_layers = model, state_layers
        self._short = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._reset()

    @torch.inference_mode()
    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Read the left-padded prompts; returns the logits at the roots, shape (batch, vocabulary)."""
        self.trees, self.rows = trees, list(range(len(trees)))
        self._scored: list[set[int]] = [set() for _ in trees]
        logits, states = self._read([tree.prompt for tree in trees])
        rows = [logits[b, len(tree.prompt) - 1] for b, tree in enumerate(trees)]
        if states is not None:
            width = input_ids.shape[1]
            self.states = states.new_zeros(len(trees), width, *states.shape[2:])
            for b, tree in enumerate(trees):
                self.states[b, width - len(tree.prompt) :] = states[b, : len(tree.prompt)]
        return torch.stack(rows)

    @torch.inference_mode()
    def score(self, nodes: list[list[int]]) -> Tensor:
        """Forward the paths to `nodes` (a list a prompt); returns logits, shape (number of nodes, vocabulary).

        Rows come in the order of the nodes, prompt after prompt.
        """
        texts, places = [], []
        for tree, asked in zip(self.trees, nodes, strict=True):
            inner = {tree.parents[node] for node in asked}
            found: dict[int, tuple[int, int]] = {}  # node -> row and column
            for leaf in (node for node in asked if node not in inner):
                node, end = leaf, len(tree.prompt) - 1
                while node != ROOT:
                    found[node] = (len(texts), end + tree.depths[node])
                    node = tree.parents[node]
                texts.append(tree.prompt + tree.path(leaf))
            places.append([found[node] for node in asked])
        logits, states = self._read(texts)
        for asked, scored in zip(nodes, self._scored, strict=True):
            scored.update(asked)
        flat = [place for asked in places for place in asked]
        if states is not None:
            width = max(map(len, nodes))
            self.states = states.new_zeros(len(nodes), width, *states.shape[2:])
            for b, asked in enumerate(places):
                for i, (row, column) in enumerate(asked):
                    self.states[b, i] = states[row, column]
        return torch.stack([logits[row, column] for row, column in flat])

    def scored(self, b: int, node: int) -> bool:
        """Whether `node` of prompt `b` was asked for before (the root always counts)."""
        return node == ROOT or node in self._scored[b]

    def take_back(self, nodes: list[list[int]]) -> None:
        """Undo the last `score(nodes)`, however far it came."""
        for asked, scored in zip(nodes, self._scored, strict=True):
            scored.difference_update(asked)

    def compact(self, running: list[list[int]]) -> None:
        """There is nothing to give up: no slot outlives its pass."""

    def _read(self, texts: list[list[int]]) -> tuple[Any, Tensor | None]:
        """Logits by [row, column] and hidden states (rows, longest text, layers, hidden size) of a pass over texts."""
        device = self.model.device
        input_ids = pad_sequence([torch.tensor(text) for text in texts], batch_first=True).to(device)
        # nothing before the end of the shortest prompt is asked for, and a vocabulary is wide
        first = min(len(tree.prompt) for tree in self.trees) - 1 if self._short else 0
        options: dict[str, Any] = {"logits_to_keep": input_ids.shape[1] - first} if self._short else {}
        if self.state_layers:
            options["output_hidden_states"] = True
        output = self.model(input_ids=input_ids, use_cache=False, return_dict=True, **options)
        self.passes += 1
        self.tokens += input_ids.numel()
        self.peak_slots = max(self.peak_slots, input_ids.numel())
        states = None
        if self.state_layers:
            states = torch.stack([output.hidden_states[layer] for layer in self.state_layers], 2)
        return _Shifted(output.logits, first), states


class _Shifted:
    """Logits whose column 0 is the text's column `first`."""

    def __init__(self, logits: Tensor, first: int):
        self.logits, self.first = logits, first

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        return self.logits[place[0], place[1] - self.first]
