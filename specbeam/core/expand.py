"""Growing candidates: beam search on guesses, to find the nodes that the real search will ask for next.

All running sequences grow together, level by level. Where the target has spoken its own log-probabilities are
used, elsewhere the draft's; so a candidate's score is exact as far as anything is known. Which candidates to verify
is a question of how likely the search is to ask for them, whatever their level: see `_likelihood`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection
from typing import NamedTuple

from .draft import Draft
from .tree import TokenTree


class Ranking(NamedTuple):
    """Nodes worth verifying, likeliest to be asked for first; any beginning of it is a tree."""

    nodes: list[int]
    levels: list[int]  # how many levels of guessing led to each


GUESS_COST = 0.5  # nats that a level of guessing costs beyond what its log-probabilities say
AHEAD_COUNTS = 0.3  # nats; a level is only paid for once its k-th is there, so a leader far ahead helps no more
RANK_COST = 0.5  # nats for every num_beams ranks behind the last that the search would keep


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
    levels: list[dict[int, int]] = [{} for _ in trees]  # of guessing, that the search passes to reach a node
    guessed = [0] * len(trees)  # the same of the level at hand; one guess among the running sequences makes it one
    ranked: list[list[tuple[float, int]]] = [[] for _ in trees]
    leading = [max((tree.scores[n] for n in nodes), default=0.0) for tree, nodes in zip(trees, running, strict=True)]
    while any(frontier):
        unscored = [[n for n in nodes if tree.logits(n) is None] for tree, nodes in zip(trees, frontier, strict=True)]
        proposals = draft.expand(trees, unscored)
        for b, tree in enumerate(trees):
            candidates = _candidates(tree, frontier[b], dict(zip(unscored[b], proposals[b], strict=True)))
            guessed[b] += any(tree.logits(node) is None for node in frontier[b][:num_beams])
            frontier[b] = []
            best = heapq.nlargest(width, candidates)
            last_kept = best[min(num_beams, len(best)) - 1][0] if best else 0.0
            kept = [c for c in best if c[2] not in stop_tokens and 0 <= c[2] < vocabulary]
            likeliest = -math.inf
            for rank, (score, parent, token) in enumerate(kept):
                if tree.depths[parent] >= max_depth:
                    break
                node = tree.child(parent, token, score)
                levels[b][node] = guessed[b]
                value = _likelihood(guessed[b], rank, score - leading[b], score - last_kept, num_beams)
                likeliest = max(likeliest, value)
                if tree.logits(node) is None:
                    ranked[b].append((-value, node))
                frontier[b].append(node)
            if sum(-cost >= likeliest - GUESS_COST for cost, _ in ranked[b]) >= budget:
                frontier[b] = []  # the next level would bring nothing that comes before these
    return [_order(*columns) for columns in zip(trees, ranked, levels, strict=True)]


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


def _likelihood(guessed: int, rank: int, behind_best: float, ahead_of_last: float, num_beams: int) -> float:
    """How likely the search is to ask for a candidate: not a probability, but it ranks like one.

    One beam follows the likeliest path, so a path's log-probability says it all (as in EAGLE-2, Li et al. 2024). A
    beam of k keeps whatever is among the k best of its level, so what counts is by how much a score beats the k-th.
    The constants were fitted to which candidates SmolLM2-135M's searches asked for, with 1, 4 and 8 beams.

    Args:
        guessed: levels of guessing that the search passes to reach it.
        rank: its place on its level, from 0.
        behind_best: its score minus that of the best running sequence, in nats.
        ahead_of_last: its score minus that of the last candidate that the search would keep, in nats.
    """
    alone = 1 / num_beams
    over = max(0, rank + 1 - num_beams) * alone
    return (
        alone * behind_best + (1 - alone) * min(ahead_of_last, AHEAD_COUNTS) - GUESS_COST * guessed - RANK_COST * over
    )


def _order(tree: TokenTree, ranked: list[tuple[float, int]], levels: dict[int, int]) -> Ranking:
    """The candidates best first, each after the unscored ancestors that it needs."""
    open_nodes = {node for _, node in ranked}
    order: dict[int, int] = {}
    for _, node in sorted(ranked):
        chain = []
        while node in open_nodes and node not in order:
            chain.append(node)
            node = tree.parents[node]
        order.update((node, levels[node]) for node in reversed(chain))
    return Ranking(list(order), list(order.values()))
