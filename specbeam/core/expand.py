"""Expanding: beam search on guesses, to find the nodes that the real search will ask for next.

All running sequences are expanded together, level by level. Where the target has scored a node its own
log-probabilities are used, elsewhere the draft's; so a candidate's score is exact as far as anything is known. The
candidates are ranked by how likely the search is to ask for them, whatever their level: see `_likelihood`.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from .draft import Draft, Proposal
from .tree import TokenTree


class Ranking(NamedTuple):
    """Nodes worth verifying, likeliest to be asked for first; any beginning of it is a tree."""

    nodes: list[int]
    levels: list[int]  # how many levels of guessing led to each


class DraftSize:
    """How many nodes each prompt's part of a pass verifies beyond those that the search lacks: a fixed number.

    Subclasses choose it pass by pass. `most` is an upper limit, lowered where memory does not suffice for more.
    """

    most = sys.maxsize

    nodes = 0

    def __init__(self, nodes: int):
        if nodes < 0:
            raise ValueError(f"num_assistant_tokens must not be negative, got {nodes}.")
        self.nodes = nodes

    def start(self, num_beams: int) -> None:
        """A decode begins."""

    def choose(self, prompts: int) -> int:
        """How many nodes to draft for each of so many running prompts."""
        return self.nodes

    def cut(self, rankings: Sequence[Ranking], nodes: int, lacking: Sequence[int], draft_s: float) -> list[list[int]]:
        """What to verify of the rankings.

        Args:
            nodes: the number that was chosen.
            lacking: how many nodes the search lacks, a number a prompt.
            draft_s: seconds that drafting took.
        """
        return [ranking.nodes[:nodes] for ranking in rankings]

    def stepped(self, trees: Sequence[TokenTree], running: Sequence[Sequence[int]]) -> None:
        """The search takes a step from these nodes; some may not be scored yet."""

    def passed(self, tokens: int, seconds: float) -> None:
        """A pass over so many tokens took so long."""

    def finish(self) -> None:
        """The decode is over."""


GUESS_COST = 0.5  # nats that a level of guessing costs beyond what its log-probabilities say
AHEAD_COUNTS = 0.3  # nats; a level is only paid for once its k-th is there, so a leader far ahead helps no more
RANK_COST = 0.5  # nats for every num_beams ranks behind the last that the search would keep
UNPROPOSED = 0.05  # tokens that `allowed` names and no draft proposes are taken for at least so likely, all together


def expand(
    trees: Sequence[TokenTree],
    running: Sequence[Sequence[int]],
    draft: Draft,
    *,
    num_beams: int,
    draft_size: int,
    max_depth: int,
    stop_tokens: Collection[int],
    vocabulary: int,
    allowed: Callable[[Sequence[int]], Sequence[int]] | None = None,
) -> list[Ranking]:
    """Rank the unscored nodes that are worth verifying along with the missing ones of `running`.

    The draft is asked level by level until `draft_size` nodes of each prompt are at hand.

    Args:
        running: a prompt's running sequences, as nodes; empty for a prompt that is finished.
        num_beams: how many of a level's candidates the search will keep.
        max_depth: the deepest node that the search can ask for.
        stop_tokens: end-of-sequence ids; nothing is asked after them, so they are not proposed.
        vocabulary: how many logits the target gives; a draft with a padded vocabulary may propose ids beyond.
        allowed: what may follow a sequence of new tokens: nothing else is proposed, and all of it.

    Returns:
        A ranking a prompt, the missing running nodes not included. It may be longer than `draft_size`.
    """
    width = 2 * num_beams + 2
    frontier = [list(dict.fromkeys(nodes)) for nodes in running]
    levels: list[dict[int, int]] = [{} for _ in trees]  # of guessing, that the search passes to reach a node
    guessed = [0] * len(trees)  # the same of the level at hand; one guess among the running sequences makes it one
    ranked: list[list[tuple[float, int]]] = [[] for _ in trees]
    leading = [max([tree.scores[n] for n in nodes], default=0.0) for tree, nodes in zip(trees, running, strict=True)]
    while any(frontier):
        unscored = [[n for n in nodes if tree.logits(n) is None] for tree, nodes in zip(trees, frontier, strict=True)]
        proposals = draft.expand([*trees], unscored)
        for b, tree in enumerate(trees):
            known = [[one for one in some if 0 <= one[0] < vocabulary] for some in proposals[b]]
            found = dict(zip(unscored[b], known, strict=True))
            if allowed is not None:
                found = {
                    node: _permitted(tree, node, allowed(tree.path(node)), found.get(node)) for node in frontier[b]
                }
            candidates = _candidates(tree, frontier[b], found)
            guessed[b] += not {*unscored[b]}.isdisjoint(frontier[b][:num_beams])
            frontier[b] = []
            best = heapq.nlargest(width, candidates)
            last_kept = best[min(num_beams, len(best)) - 1][0] if best else 0.0
            kept = [candidate for candidate in best if candidate[2] not in stop_tokens]
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
            if len([cost for cost, _ in ranked[b] if -cost >= likeliest - GUESS_COST]) >= draft_size:
                frontier[b] = []  # the next level would bring nothing that comes before these
    return [_order(*columns) for columns in zip(trees, ranked, levels, strict=True)]


def _candidates(tree: TokenTree, nodes: list[int], proposals: dict[int, list]) -> list[tuple[float, int, int]]:
    """(score, parent, token) of what may follow `nodes`, by the target where it has scored them."""
    candidates = []
    for node in nodes:
        top = tree.top[node]
        pairs = zip(*top, strict=True) if node not in proposals and top is not None else proposals[node]
        score = tree.scores[node]
        candidates.extend([(score + log_prob, node, token) for token, log_prob in pairs])
    return candidates


def _permitted(
    tree: TokenTree, node: int, tokens: Sequence[int], proposals: Sequence[Proposal] | None
) -> list[Proposal]:
    """All that may follow a node: by the target where it has scored it, else as proposed, the rest alike."""
    if tree.logits(node) is not None:
        return [*map(Proposal, tokens, tree.log_probs(node, tokens))]
    known = {token: log_prob for token, log_prob in proposals or () if token in tokens}
    left = [token for token in tokens if token not in known]
    mass = max(1.0 - sum(map(math.exp, known.values())), UNPROPOSED)
    return [Proposal(token, known.get(token, math.log(mass / max(len(left), 1)))) for token in tokens]


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
    candidates = {node for _, node in ranked}
    order: dict[int, int] = {}
    for _, node in sorted(ranked):
        chain = []
        while node in candidates and node not in order:
            chain.append(node)
            node = tree.parents[node]
        order.update([(node, levels[node]) for node in reversed(chain)])
    return Ranking(list(order), list(order.values()))
