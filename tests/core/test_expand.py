"""Expanding: rankings are trees, and what the search can never ask for is not in them."""

from __future__ import annotations

import random
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specbeam.core.draft import Draft, Proposal
from specbeam.core.expand import expand
from specbeam.core.tree import ROOT, TokenTree, TopTokens

VOCABULARY = 20


class Likely(Draft):
    """Proposes tokens by chance, some beyond the vocabulary; counts how often it is asked."""

    def __init__(self, seed: int):
        self.dice, self.levels = random.Random(seed), 0

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        self.levels += 1
        return super().expand(trees, nodes)

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        return [Proposal(self.dice.randrange(VOCABULARY + 4), -self.dice.expovariate(1)) for _ in range(4)]


class Sure(Draft):
    """Proposes the tokens 5 and 6, the first of them with certainty."""

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        return [Proposal(5, 0.0), Proposal(6, -6.0)]


def scored_root() -> TokenTree:
    tree = TokenTree([1, 2, 3])
    tree.record(ROOT, torch.zeros(VOCABULARY), 0.0, TopTokens([7, 8, 9, 0], [-0.1, -2.5, -4.0, -5.0]))
    return tree


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 30), st.integers(1, 6))
def test_every_beginning_of_a_ranking_is_a_tree_that_the_search_could_ask_for(
    seed: int, num_beams: int, size: int, max_depth: int
) -> None:
    tree = scored_root()
    running = [tree.child(ROOT, token) for token in (7, 8, 9)[:num_beams]]
    options: dict[str, Any] = {
        "num_beams": num_beams,
        "draft_size": size,
        "max_depth": max_depth,
        "vocabulary": VOCABULARY,
    }
    (ranking,) = expand([tree], [running], Likely(seed), stop_tokens={0, 4}, **options)
    assert len(ranking.nodes) == len(set(ranking.nodes)) == len(ranking.levels)
    at_hand = {ROOT, *running}
    for node, level in zip(ranking.nodes, ranking.levels, strict=True):
        assert tree.parents[node] in at_hand
        assert tree.depths[node] <= max_depth
        assert tree.tokens[node] < VOCABULARY and tree.tokens[node] not in (0, 4)
        assert 1 <= level <= max_depth
        at_hand.add(node)


def test_a_sure_draft_is_followed_down_and_a_doubtful_branch_left_alone() -> None:
    tree = scored_root()
    running = [tree.child(ROOT, 7)]
    options: dict[str, Any] = {"num_beams": 1, "draft_size": 4, "max_depth": 20, "vocabulary": VOCABULARY}
    (ranking,) = expand([tree], [running], Sure(), stop_tokens=(), **options)
    assert [tree.tokens[node] for node in ranking.nodes[:4]] == [5, 5, 5, 5]
    assert ranking.levels[:4] == [1, 2, 3, 4]


def test_a_larger_draft_size_asks_the_draft_for_more_levels() -> None:
    def levels(size: int) -> int:
        tree, draft = scored_root(), Likely(3)
        running = [tree.child(ROOT, 7)]
        options: dict[str, Any] = {"num_beams": 1, "draft_size": size, "max_depth": 20, "vocabulary": VOCABULARY}
        expand([tree], [running], draft, stop_tokens=(), **options)
        return draft.levels

    assert levels(1) < levels(30)


def test_a_finished_prompt_gets_no_candidates() -> None:
    trees = [scored_root(), scored_root()]
    running = [[trees[0].child(ROOT, 7)], []]
    options: dict[str, Any] = {"num_beams": 1, "draft_size": 4, "max_depth": 20, "vocabulary": VOCABULARY}
    first, second = expand(trees, running, Sure(), stop_tokens=(), **options)
    assert first.nodes and not second.nodes


def test_a_leader_that_is_scored_far_ahead_does_not_make_the_draft_follow_the_others_there() -> None:
    """The search needs all running sequences, so what is known of one of them makes the rest no likelier."""

    class Counted(Sure):
        levels = 0

        def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
            self.levels += any(nodes)
            return super().expand(trees, nodes)

    tree, draft = scored_root(), Counted()
    running = [tree.child(ROOT, 7), tree.child(ROOT, 8)]
    node = running[0]
    for _ in range(12):
        tree.record(node, torch.zeros(VOCABULARY), 0.0, TopTokens([5, 6], [-0.01, -5.0]))
        node = tree.child(node, 5)
    options: dict[str, Any] = {"num_beams": 2, "draft_size": 3, "max_depth": 20, "vocabulary": VOCABULARY}
    expand([tree], [running], draft, stop_tokens=(), **options)
    assert draft.levels <= 5
