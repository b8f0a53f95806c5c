"""FeatureDraft: guesses from the target's own hidden states, with a trained `FeatureModel`.

Where the target has scored a node's parent, the model sees what the target was thinking there. Further down it goes on
from its own outputs, level by level. Those guesses are forgotten with the next round, and the running sequences are
read again with the target's states, so an error lasts one round at most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from specbeam.core.draft import Draft, Proposal
from specbeam.core.scorer import TreeScorer
from specbeam.core.tree import ROOT, TokenTree
from specbeam.engines.attention import grouped_attention
from specbeam.engines.tree_mask import additive, causal

from .eagle_model import FeatureModel

Reading = tuple[Tensor, list[Proposal]]  # the model's output at a node, and the likeliest tokens after it


class FeatureDraft(Draft):
    """Proposes what a trained feature model finds likely.

    Args:
        model: the feature model, trained for the target that it is used with.
        width: proposals a node.
    """

    def __init__(self, model: FeatureModel, width: int = 8):
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}.")
        self.model, self.width = model, width
        self.state_layers = model.config.layers
        self._scorer = _FeatureScorer(model)

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._trees, self._prompts = trees, (input_ids, attention_mask)
        self._known: list[dict[int, Tensor]] = [{} for _ in trees]  # the fused state where the target has scored
        self._final: list[set[int]] = [set() for _ in trees]  # read with the target's state before them
        # the output at a node and what it proposes, of this round; the root's stays
        self._guessed: list[dict[int, Reading]] = [{} for _ in trees]
        self._roots: dict[int, Reading] = {}

    @torch.inference_mode()
    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        fused = self.model.fused(states)
        if nodes is None:
            outputs = self._scorer.start_with(self._trees, *self._prompts, fused)
            self.passes += 1
            for b, read in enumerate(self._readings(outputs)):
                self._known[b][ROOT] = fused[b, -1]
                self._roots[b] = self._guessed[b][ROOT] = read
            return
        rows = iter(fused)
        for b, scored in enumerate(nodes):
            self._known[b].update((node, next(rows)) for node in scored)

    def follow(self, b: int, running: list[int]) -> None:
        self._guessed[b] = {ROOT: self._roots[b]}

    @torch.inference_mode()
    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        unread = [self._unread(b, tree, asked) for b, (tree, asked) in enumerate(zip(trees, nodes, strict=True))]
        while any(unread):
            # a node whose parent is a guess waits for its parent's output
            wave = [
                [n for n in left if tree.parents[n] in self._known[b] or tree.parents[n] in self._guessed[b]]
                for b, (tree, left) in enumerate(zip(trees, unread, strict=True))
            ]
            self._read(trees, wave)
            unread = [[n for n in left if n not in self._guessed[b]] for b, left in enumerate(unread)]
        return [[self._guessed[b][node][1] for node in asked] for b, asked in enumerate(nodes)]

    def compact(self, running: list[list[int]]) -> None:
        self._scorer.compact(running)

    def _unread(self, b: int, tree: TokenTree, nodes: list[int]) -> list[int]:
        """The asked nodes and what they stand on, as far as it has not been read as well as it can be."""
        unread: set[int] = set()
        for node in nodes:
            while node not in unread and node not in self._guessed[b]:
                if node in self._final[b] and node not in nodes:
                    break
                unread.add(node)
                node = tree.parents[node]
        return sorted(unread)

    def _read(self, trees: list[TokenTree], wave: list[list[int]]) -> None:
        before = []
        for b, (tree, asked) in enumerate(zip(trees, wave, strict=True)):
            known, guessed = self._known[b], self._guessed[b]
            for node in asked:
                parent = tree.parents[node]
                if parent in known:
                    before.append(known[parent])
                    self._final[b].add(node)
                else:
                    before.append(guessed[parent][0])
        readings = iter(self._readings(self._scorer.score_with(wave, torch.stack(before))))
        self.passes += 1
        for b, asked in enumerate(wave):
            self._guessed[b].update((node, next(readings)) for node in asked)

    def _readings(self, outputs: Tensor) -> list[Reading]:
        log_probs = self.model.logits(outputs).float().log_softmax(-1)
        best = log_probs.topk(min(self.width, log_probs.shape[-1]))
        rows = zip(outputs, self.model.kept[best.indices].tolist(), best.values.tolist(), strict=True)
        return [(output, list(map(Proposal, tokens, values))) for output, tokens, values in rows]


class _FeatureScorer(TreeScorer):
    """A `TreeScorer` that drives a feature model: the same slots and masks, with a state beside each token."""

    def __init__(self, model: FeatureModel):
        self.model: Any = model
        self.state_layers = ()
        self._reset()

    def start_with(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor, fused: Tensor) -> Tensor:
        """Outputs at the ends of the prompts, (batch, hidden size).

        `fused` are the target's states at all their tokens, shape (batch, prompt length, hidden size).
        """
        self._before = torch.cat([fused[:, :1], fused[:, :-1]], 1)
        outputs = self.start(trees, input_ids, attention_mask)
        # before a prompt's first token there is no state, so nobody shall look at it
        first = self._prompt_seen.argmax(1)
        self._prompt_seen[np.arange(len(first)), first] = False
        return outputs

    def score_with(self, nodes: list[list[int]], before: Tensor) -> Tensor:
        """The model's outputs at `nodes`, prompt after prompt, from the states before them, (nodes, hidden size)."""
        counts = [len(asked) for asked in nodes]
        width = max(counts)
        rows = before.split(counts)
        self._before = torch.stack([F.pad(rows[b], (0, 0, 0, width - len(rows[b]))) for b in self.rows])
        return self.score(nodes)

    def _prompt_mask(self, attention_mask: Tensor) -> Tensor:
        return self._mask(causal(self._prompt_seen, self._begin, self._positions.shape[1]), self._positions)

    def _mask(self, seen: np.ndarray, positions: np.ndarray) -> Tensor:
        return additive(torch.from_numpy(seen)[:, None].to(self._before.device), self._before.dtype)

    def _forward(self, input_ids: Tensor, mask: Any, positions: np.ndarray, **options: Any) -> Tensor:
        """The model's outputs, shape (batch, rows, hidden size), in place of a causal LM's logits."""
        model, device = self.model, self._before.device
        before = self._before[:, self._begin : self._begin + input_ids.shape[1]]
        inputs = model.joined(before, input_ids.to(device))
        places = torch.from_numpy(np.ascontiguousarray(positions)).to(device)
        query, key, value = model.project(inputs, places)
        key, value = self._cache.update(key, value, 0)
        attended, _ = grouped_attention(None, query, key, value, mask)
        self._count(input_ids.numel())
        return model.finish(inputs, attended.transpose(1, 2))
