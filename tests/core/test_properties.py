"""Properties: of trees, of what a pass over a tree says whatever came before it, and of whole searches."""

from __future__ import annotations

import math
import random
from typing import Any

import draft_cases
import pytest
import torch
from fakes import hash_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring import fail, scorer_over
from sparse import mostly_slow

from specbeam.core.scorer import TreeScorer
from specbeam.core.tree import ROOT, TokenTree, TopTokens

VOCABULARY = 9


def grown(dice: random.Random, nodes: int, prompt: int = 3) -> TokenTree:
    tree = TokenTree([dice.randrange(VOCABULARY) for _ in range(prompt)])
    for _ in range(nodes):
        tree.child(dice.randrange(len(tree)), dice.randrange(VOCABULARY), -dice.random())
    return tree


def said(tree: TokenTree, node: int) -> torch.Tensor:
    """Made-up logits that depend on the sequence alone."""
    dice = random.Random(repr((tree.prompt, tree.path(node))))
    return torch.tensor([dice.gauss(0, 2) for _ in range(VOCABULARY)])


def record(tree: TokenTree, node: int) -> None:
    row = said(tree, node)
    normalizer = row.logsumexp(-1).item()
    best = row.topk(3)
    tree.record(node, row, normalizer, TopTokens(best.indices.tolist(), (best.values - normalizer).tolist()))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(0, 40))
def test_nodes_are_sequences_numbered_parents_first_and_found_again(seed: int, nodes: int) -> None:
    dice = random.Random(seed)
    tree = grown(dice, nodes)
    paths = [tuple(tree.path(node)) for node in range(len(tree))]
    assert len(set(paths)) == len(tree)
    for node, path in enumerate(paths):
        assert len(path) == tree.depths[node]
        if node:
            assert tree.parents[node] < node
            assert paths[tree.parents[node]] == path[:-1] and tree.tokens[node] == path[-1]
            assert tree.child(tree.parents[node], tree.tokens[node]) == node
        length = dice.randrange(8)
        whole = [*tree.prompt, *path]
        assert tree.suffix(node, length) == tuple(whole[-length:] if length else [])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(1, 40))
def test_the_living_are_the_ancestors_and_descendants_of_the_running(seed: int, nodes: int) -> None:
    dice = random.Random(seed)
    tree = grown(dice, nodes)
    running = [dice.randrange(len(tree)) for _ in range(dice.randint(1, 4))]
    paths = [tree.path(node) for node in range(len(tree))]

    def related(a: int, b: int) -> bool:
        short, long = sorted((paths[a], paths[b]), key=len)
        return long[: len(short)] == short

    expected = {node for node in range(len(tree)) if any(related(node, one) for one in running)}
    assert tree.reachable(running) | {ROOT} == expected | {ROOT}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(1, 30))
def test_scores_are_sums_of_what_the_target_said_in_whatever_order_it_speaks(seed: int, nodes: int) -> None:
    dice = random.Random(seed)
    tree = grown(dice, nodes)
    order = list(range(len(tree)))
    dice.shuffle(order)
    for node in order:
        record(tree, node)
        if dice.random() < 0.3:
            tree.child(node, dice.randrange(VOCABULARY))
    for node in range(len(tree)):
        expected, place = 0.0, node
        while place != ROOT:
            parent = tree.parents[place]
            row = said(tree, parent)
            expected += (row.log_softmax(-1)[tree.tokens[place]]).item()
            place = parent
        assert math.isclose(tree.scores[node], expected, abs_tol=1e-4)
    depth = dice.randrange(6)
    tree.release(depth)
    for node in order:
        assert (tree.logits(node) is None) == (tree.depths[node] < depth)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(1, 4), st.booleans(), st.sampled_from([None, 1, 3]))
def test_a_pass_says_of_every_node_what_the_plain_model_says_of_its_sequence(
    seed: int, prompts: int, many: bool, window: int | None
) -> None:
    """Whatever was scored, compacted, finished or failed before: masks, positions and slots are right."""
    dice = random.Random(seed)
    model = hash_lm(VOCABULARY, seed % 1000)
    model.config.sliding_window = window
    trees = [TokenTree([dice.randrange(VOCABULARY) for _ in range(dice.randint(1, 6))]) for _ in range(prompts)]
    width = max(len(tree.prompt) for tree in trees)
    ids = torch.tensor([[0] * (width - len(tree.prompt)) + tree.prompt for tree in trees])
    mask = torch.tensor([[0] * (width - len(tree.prompt)) + [1] * len(tree.prompt) for tree in trees])
    scorer, roots = scorer_over(model, trees, ids, mask)
    for b, tree in enumerate(trees):
        assert torch.equal(roots.logits[b], plainly(model, tree, ROOT))
    running = [[ROOT] for _ in trees]
    for _ in range(12):
        most = 12 if many else 4
        asked = [new_nodes(dice, trees[b], scorer, b, now, most) for b, now in enumerate(running)]
        if not any(asked):
            continue
        if dice.random() < 0.25:
            fail(scorer, asked)
        rows = scorer.score(asked).logits
        flat = [(trees[b], node) for b, some in enumerate(asked) for node in some]
        for row, (tree, node) in zip(rows, flat, strict=True):
            assert torch.equal(row, plainly(model, tree, node))
        if dice.random() < 0.5:
            for b, some in enumerate(asked):
                if some:
                    running[b] = dice.sample(some, min(len(some), dice.randint(1, 3)))
            if dice.random() < 0.2 and sum(map(bool, running)) > 1:
                running[dice.choice([b for b, now in enumerate(running) if now])] = []
            scorer.compact(running)
            assert scorer.rows == [b for b, now in enumerate(running) if now]


def new_nodes(
    dice: random.Random, tree: TokenTree, scorer: TreeScorer, b: int, running: list[int], most: int
) -> list[int]:
    """Nodes under the running ones that have no slot yet, each after its parent."""
    if not running:
        return []
    found: list[int] = []
    at_hand = [node for node in sorted(tree.reachable(running)) if scorer.scored(b, node) and node >= min(running)]
    for _ in range(dice.randint(0, most)):
        node = tree.child(dice.choice([*at_hand, *found]), dice.randrange(VOCABULARY))
        if not scorer.scored(b, node) and node not in found:
            found.append(node)
    return found


def plainly(model: Any, tree: TokenTree, node: int) -> torch.Tensor:
    ids = torch.tensor([tree.prompt + tree.path(node)])
    length, window = ids.shape[1], model.config.sliding_window or ids.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    with torch.no_grad():
        return model(ids, torch.zeros(1, 1, length, length).masked_fill_(~seen, -1)).logits[0, -1]


@pytest.mark.parametrize("first", mostly_slow(range(0, 80, 20), lambda first: first < 40))
def test_random_cases_agree_with_generate_whatever_the_draft_does(first: int) -> None:
    """The first cases of `make fuzz`."""
    for number in range(first, first + 20):
        draft_cases.run_case(number)
