"""Growing candidates: beam search on guesses, to find the nodes that the real search will ask for next.

All running sequences grow together, level by level. Where the target has spoken its own log-probabilities are
used, elsewhere the draft's; so a candidate's score is exact as far as anything is known. A beam of k commits a
step only if all its k nodes are foreseen: the budget goes to wide levels first, not to one long chain.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from typing import NamedTuple

from .drafts import Draft
from .tree import TokenTree


class Ranking(NamedTuple):
    """Nodes worth verifying, likeliest to be asked for first; any beginning of it is a tree."""

    nodes: list[int]
    levels: list[int]  # how many levels of guessing led to each


DEPTH_COST = 0.25  # a level further down counts like this many times num_beams ranks further behind


def grow(
    trees: list[TokenTree],
    running: list[list[int]],
    draft: Draft,
    *,
    num_beams: int,
    budget: int,
    max_depth: int,
    stop_tokens: Collection[int],
    vocabulary: int,
) -> list[Ranking]:
    """Rank the unscored nodes that are worth verifying along with the missing ones of `running`.

    The draft is asked level by level until `budget` nodes of each prompt are at hand.

    Args:
        running: a prompt's running sequences, as nodes; empty for a prompt that is finished.
        num_beams: how many of a level's candidates the search will keep.
        max_depth: the deepest node that the search can ask for.
        stop_tokens: end-of-sequence ids; nothing is asked after them, so they are not proposed.
        vocabulary: how many logits the target gives; a draft with a padded vocabulary may propose ids beyond.

    Returns:
        A ranking a prompt, the missing running nodes not included. It may be longer than `budget`.
    """
    width = 2 * num_beams + 2
    frontier = [list(dict.fromkeys(nodes)) for nodes in running]
    guesses: list[dict[int, int]] = [{} for _ in trees]  # how many levels of guessing led to a node
    ranked: list[list[tuple[float, int]]] = [[] for _ in trees]
    while any(frontier):
        unscored = [[n for n in nodes if tree.logits(n) is None] for tree, nodes in zip(trees, frontier, strict=True)]
        proposals = draft.expand(trees, unscored)
        for b, tree in enumerate(trees):
            candidates = _candidates(tree, frontier[b], dict(zip(unscored[b], proposals[b], strict=True)))
            frontier[b] = []
            best = heapq.nlargest(width, candidates)
            kept = [c for c in best if c[2] not in stop_tokens and 0 <= c[2] < vocabulary]
            for rank, (score, parent, token) in enumerate(kept):
                if tree.depths[parent] >= max_depth:
                    break
                node = tree.child(parent, token, score)
                guessed = guesses[b][node] = guesses[b].get(parent, 0) + (tree.logits(parent) is None)
                if tree.logits(node) is None:
                    ranked[b].append(
                        (DEPTH_COST * guessed + max(0, rank + 1 - num_beams) / num_beams + rank * 1e-3, node)
                    )
                frontier[b].append(node)
            if frontier[b] and _enough(ranked[b], budget, DEPTH_COST * min(guesses[b][n] for n in frontier[b])):
                frontier[b] = []
    return [_order(*columns) for columns in zip(trees, ranked, guesses, strict=True)]


def _candidates(tree: TokenTree, nodes: list[int], proposals: dict[int, list]) -> list[tuple[float, int, int]]:
    """(score, parent, token) of what may follow `nodes`, by the target where it has spoken."""
    found = []
    for node in nodes:
        if node in proposals:
            pairs = proposals[node]
        else:
            verdict = tree.verdicts[node]
            assert verdict is not None
            pairs = zip(verdict.tokens, verdict.log_probs, strict=True)
        score = tree.scores[node]
        found.extend((score + log_prob, node, token) for token, log_prob in pairs)
    return found


def _enough(ranked: list[tuple[float, int]], budget: int, next_cost: float) -> bool:
    """Whether `budget` candidates are at hand that all come before the best of the next level."""
    return sum(cost <= next_cost for cost, _ in ranked) >= budget


def _order(tree: TokenTree, ranked: list[tuple[float, int]], guesses: dict[int, int]) -> Ranking:
    """The candidates best first, each after the unscored ancestors that it needs."""
    open_nodes = {node for _, node in ranked}
    order: dict[int, int] = {}
    for _, node in sorted(ranked):
        chain = []
        while node in open_nodes and node not in order:
            chain.append(node)
            node = tree.parents[node]
        order.update((node, guesses[node]) for node in reversed(chain))
    return Ranking(list(order), list(order.values()))
