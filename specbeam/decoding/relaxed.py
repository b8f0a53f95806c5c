"""Two ways to give up exactness for speed. Both are off unless asked for, and results say so (`Decoded.exact`).

*Relaxed acceptance*, for one beam: a drafted and verified token may stand in for the likeliest one if the target finds
it almost as likely (Leviathan et al. 2023, appendix A.5, call this leniency).

*Dynamic width*, for several beams: a step is committed although some running sequences are not verified yet, if they
look too weak to be among the best `num_beams` of the next step. It is a bet: how they would go on is not known.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from specbeam.core.beam import NEVER, Narrow
from specbeam.core.source import Source
from specbeam.core.stats import Stats
from specbeam.core.tree import TokenTree


class RelaxedPick:
    """Greedy's pick that prefers what is verified already, if it is good enough.

    Args:
        tolerance: nats; how much less likely than the best a token may be. 0 is exact.
        top_r: a token among so many likeliest is good enough, however unlikely. 1 is exact.
        stop_tokens: where the best token ends the sequence, it is taken: a finished sequence needs no further pass.
        stats: counts the steps that did not take the best token.
    """

    def __init__(self, tolerance: float, top_r: int, stop_tokens: Collection[int], stats: Stats):
        self.tolerance, self.top_r, self._stop_tokens, self._stats = tolerance, top_r, stop_tokens, stats

    def __call__(self, scores: Tensor, trees: Sequence[TokenTree], nodes: Sequence[int]) -> Tensor:
        """(rows, vocabulary) -> (rows,); row b is what the target says at `nodes[b]` of `trees[b]`."""
        best = scores.argmax(-1)
        rows = zip(scores, trees, nodes, best.tolist(), strict=True)
        return torch.tensor([self._one(*row) for row in rows], device=scores.device)

    def _one(self, row: Tensor, tree: TokenTree, node: int, best: int) -> int:
        verified = [token for token, child in tree.children[node].items() if tree.logits(child) is not None]
        if best in self._stop_tokens or best in verified or not verified:
            return best
        token = max(verified, key=lambda token: float(row[token]))
        behind, rank = float(row[best] - row[token]), int((row > row[token]).sum()) + 1
        if not math.isfinite(behind) or (behind > self.tolerance and rank > self.top_r):
            return best
        self._stats.relaxed_steps += 1
        return token


def droppable_rows(
    tree: TokenTree,
    nodes: Sequence[int],
    scores: Sequence[float],
    *,
    margin: float,
    num_beams: int,
    stop_tokens: Collection[int],
) -> list[int] | None:
    """Which rows a step can do without, so that it needs no pass; None if it needs one.

    A row that is not verified is expected to go on as well as the verified ones do on average. It can be done without
    if it then ends up more than `margin` nats below the `num_beams`-th best continuation of the verified rows.

    Args:
        nodes: the running sequences of one prompt.
        scores: theirs, in nats.
        margin: nats; may be negative, which drops more.
    """
    missing = [row for row, node in enumerate(nodes) if tree.logits(node) is None]
    known = [(scores[row], tree.top[node]) for row, node in enumerate(nodes) if row not in missing]
    tops = [(score, top) for score, top in known if top is not None]
    continuations = sorted(
        score + log_prob
        for score, top in tops
        for token, log_prob in zip(top.tokens, top.log_probs, strict=True)
        if token not in stop_tokens
    )
    if not missing:
        return []
    if len(continuations) < num_beams:
        return None
    usual = sum(top.log_probs[0] for _, top in tops) / len(tops)
    strongest = max(scores[row] for row in missing) + usual
    return missing if strongest < continuations[-num_beams] - margin else None


def narrowed_by(margin: float) -> Narrow:
    """Beam search's `narrow` that drops rows with `droppable_rows`.

    Only a step that then needs no pass at all is narrowed: a pass serves the weak rows for next to nothing.
    """

    def narrow(source: Source, nodes: list[list[int]], scores: Tensor) -> tuple[list[list[int]], Tensor]:
        handicap = torch.zeros_like(scores)
        options = {"margin": margin, "num_beams": scores.shape[1], "stop_tokens": source.request.stop_tokens}
        rows = [
            droppable_rows(t, n, s, **options) for t, n, s in zip(source.trees, nodes, scores.tolist(), strict=True)
        ]
        if any(one is None for one in rows) or not any(rows):
            return nodes, handicap
        source.stats.relaxed_steps += 1
        narrowed = []
        for b, (some, without) in enumerate(zip(nodes, rows, strict=True)):
            assert without is not None
            handicap[b, without] = NEVER
            kept = [node for row, node in enumerate(some) if row not in without]
            narrowed.append([kept[0] if row in without else node for row, node in enumerate(some)])
        return narrowed, handicap

    return narrow


def check_relaxed(margin: float | None, tolerance: float, top_r: int) -> None:
    """Raises ValueError for values that make no sense, naming value and remedy."""
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float) or math.isnan(margin)):
        raise ValueError(f"margin must be a number of nats, or None for exact beam search, got {margin!r}.")
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not number or not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a number of nats from 0 (exact), got {tolerance!r}.")
    if isinstance(top_r, bool) or not isinstance(top_r, int) or top_r < 1:
        raise ValueError(f"top_r must be a whole number of at least 1 (exact), got {top_r!r}.")
