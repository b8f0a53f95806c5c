"""Drafts: what proposes the tokens that the target then verifies. A wrong proposal costs time, never correctness.

A draft answers one question: which tokens may follow this node, and how likely is each? Writing one takes
a method:

    class AlwaysComma(Draft):
        def propose(self, tree, node):
            return [Proposal(token=28, log_prob=-1.0)]

The source (`source.py`) asks it level by level under all running sequences and picks what is worth verifying.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from .tree import TokenTree


class Proposal(NamedTuple):
    """A token that may follow a node, with the draft's log-probability of it in nats."""

    token: int
    log_prob: float


class Draft:
    """The protocol of a draft, and its defaults. A subclass needs `propose`; the rest is there to be overridden."""

    passes = 0
    state_layers: tuple[int, ...] = ()  # which of the target's hidden states this draft reads; 0 is the embedding

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        """A decode begins, with one tree a prompt; forget the last one."""

    def follow(self, b: int, running: list[int]) -> None:
        """The running sequences of prompt `b` now end at the nodes `running`."""

    def observe(self, b: int, nodes: list[int]) -> None:
        """The target has just scored `nodes` of prompt `b`: their `tree.verdicts` are known."""

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        """The target's hidden states after the layers `state_layers`, before `observe`.

        Right after `start` of the prompts, with `nodes` None: (batch, prompt length, layers, hidden size). Later of
        the nodes that a pass scored, prompt after prompt: (number of nodes, layers, hidden size).
        """

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        """Proposals for each node of each prompt, all at once for drafts that gain from a batch."""
        return [[self.propose(tree, node) for node in asked] for tree, asked in zip(trees, nodes, strict=True)]

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        """Tokens that may follow `node`, likeliest first. Few and good ones: every one is paid for."""
        raise NotImplementedError(f"{type(self).__name__} has to define propose(tree, node).")

    def compact(self, running: list[list[int]]) -> None:
        """A moment to let go of what searches that stand at `running` cannot reach any more."""


class NoDraft(Draft):
    """Proposes nothing: the tree then holds just what the search asked for."""

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        return []


class UnionDraft(Draft):
    """Several drafts at once; a token that more than one proposes keeps the higher log-probability."""

    def __init__(self, drafts: Sequence[Draft]):
        if not drafts:
            raise ValueError("a union needs at least one draft; NoDraft() proposes nothing.")
        self.drafts = list(drafts)

    @property
    def passes(self) -> int:  # type: ignore[override]
        return sum(draft.passes for draft in self.drafts)

    @property
    def state_layers(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(sorted({layer for draft in self.drafts for layer in draft.state_layers}))

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        for draft in self.drafts:
            draft.start(trees, input_ids, attention_mask)

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        layers = self.state_layers
        for draft in self.drafts:
            if draft.state_layers:
                wanted = [layers.index(layer) for layer in draft.state_layers]
                draft.read_states(states[..., wanted, :], nodes)

    def follow(self, b: int, running: list[int]) -> None:
        for draft in self.drafts:
            draft.follow(b, running)

    def observe(self, b: int, nodes: list[int]) -> None:
        for draft in self.drafts:
            draft.observe(b, nodes)

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        answers = [draft.expand(trees, nodes) for draft in self.drafts]
        return [
            [_merge([answer[b][i] for answer in answers]) for i in range(len(asked))] for b, asked in enumerate(nodes)
        ]

    def compact(self, running: list[list[int]]) -> None:
        for draft in self.drafts:
            draft.compact(running)


def _merge(lists: list[list[Proposal]]) -> list[Proposal]:
    best: dict[int, float] = {}
    for token, log_prob in (proposal for proposals in lists for proposal in proposals):
        best[token] = max(log_prob, best.get(token, -math.inf))
    return [Proposal(token, log_prob) for token, log_prob in sorted(best.items(), key=lambda item: -item[1])]
