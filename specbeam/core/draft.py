"""Draft: proposes the tokens that the target then verifies. A wrong proposal costs time, never correctness.

A draft answers one question: which tokens may follow this node, and how likely is each? Writing one takes a method:

    class AlwaysComma(Draft):
        def propose(self, tree, node):
            return [Proposal(token=28, log_prob=-1.0)]

It is asked level by level under all running sequences (`expand.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .tree import TokenTree


class Proposal(NamedTuple):
    """A token that may follow a node, with the draft's log-probability of it in nats."""

    token: int
    log_prob: float


class Draft:
    """The protocol of a draft, and its defaults. A subclass needs `propose`; everything else may be overridden."""

    passes = 0  # of a model that drafts, since the draft was made
    state_layers: tuple[int, ...] = ()  # which of the target's hidden states this draft reads; 0 is the embedding

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        """A decode begins, with one tree a prompt; forget the last one."""

    def follow(self, b: int, running: list[int]) -> None:
        """The running sequences of prompt `b` now end at the nodes `running`."""

    def observe(self, b: int, nodes: list[int]) -> None:
        """The target has just scored `nodes` of prompt `b`: their `tree.top` is known."""

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        """The target's hidden states after the layers `state_layers`; comes before `observe`.

        Right after `start` those of the prompts, with `nodes` None: (batch, prompt length, layers, hidden size). Later
        those of the nodes that a pass scored, prompt after prompt: (number of nodes, layers, hidden size).
        """

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        """Proposals for each node of each prompt, all at once for drafts that gain from a batch."""
        return [[self.propose(tree, node) for node in asked] for tree, asked in zip(trees, nodes, strict=True)]

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        """Tokens that may follow `node`, likeliest first. Few and good ones: every one is paid for."""
        raise NotImplementedError(f"{type(self).__name__} has to define propose(tree, node).")

    def compact(self, running: list[list[int]]) -> None:
        """A moment to free what searches with these running sequences cannot reach any more."""

    def finish(self) -> None:
        """The decode is over, or was abandoned: free what was kept for it."""


class NoDraft(Draft):
    """Proposes nothing: the tree then holds just what the search asked for."""

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        return []
