"""TokenTree: paths, suffixes, scores and what a search can still reach, on random trees."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specbeam.core.tree import ROOT, TokenTree, TopTokens

VOCABULARY = 5


def random_tree(seed: int, size: int = 25) -> tuple[TokenTree, dict[int, list[int]], dict[int, torch.Tensor]]:
    """A tree with some nodes scored, each node's tokens, and the log-probabilities at the scored ones."""
    randomness = random.Random(seed)
    tree = TokenTree([randomness.randrange(VOCABULARY) for _ in range(randomness.randint(1, 4))])
    sequences: dict[int, list[int]] = {ROOT: []}
    said: dict[int, torch.Tensor] = {}
    for _ in range(size):
        parent, token = randomness.randrange(len(tree)), randomness.randrange(VOCABULARY)
        sequences[tree.child(parent, token, -randomness.random())] = [*sequences[parent], token]
        if randomness.random() < 0.5:
            node = randomness.randrange(len(tree))
            row = torch.tensor([randomness.random() * 3 for _ in range(VOCABULARY)])
            said.setdefault(node, row.log_softmax(-1))
            if tree.logits(node) is None:
                best = said[node].topk(2)
                tree.record(node, row, float(row.logsumexp(-1)), TopTokens(best.indices.tolist(), best.values.tolist()))
    return tree, sequences, said


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 8))
def test_paths_and_suffixes_are_the_tokens_that_led_to_a_node(seed: int, length: int) -> None:
    tree, sequences, _ = random_tree(seed)
    assert len(set(map(tuple, sequences.values()))) == len(tree) == len(sequences)
    for node, tokens in sequences.items():
        assert tree.path(node) == tokens
        assert tree.depths[node] == len(tokens)
        whole = tree.prompt + tokens
        assert tree.suffix(node, length) == tuple(whole[max(0, len(whole) - length) :])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_a_score_is_the_targets_sum_of_log_probabilities_wherever_the_target_has_spoken(seed: int) -> None:
    tree, _, said = random_tree(seed)
    for node in range(1, len(tree)):
        parent = tree.parents[node]
        if parent in said:
            gained = tree.scores[node] - tree.scores[parent]
            assert gained == pytest.approx(float(said[parent][tree.tokens[node]]), abs=1e-5)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_living_nodes_are_the_ancestors_and_descendants_of_running_ones(seed: int, beams: int) -> None:
    tree, sequences, _ = random_tree(seed)
    running = random.Random(seed).choices(range(len(tree)), k=beams)

    def related(a: list[int], b: list[int]) -> bool:
        return a[: len(b)] == b or b[: len(a)] == a

    expected = {n for n, tokens in sequences.items() if any(related(tokens, sequences[r]) for r in running)}
    assert tree.reachable(running) | {ROOT} == expected | {ROOT}


def test_released_logits_are_gone_above_a_depth_and_verdicts_stay() -> None:
    tree = TokenTree([3])
    row, verdict = torch.zeros(VOCABULARY), TopTokens([0], [-1.6])
    tree.record(ROOT, row, 1.6, verdict)
    child = tree.child(ROOT, 2)
    tree.record(child, row, 1.6, verdict)
    tree.release(1)
    assert tree.logits(ROOT) is None
    assert tree.logits(child) is not None
    assert tree.top[ROOT] == verdict
