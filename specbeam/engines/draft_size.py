"""How many drafted nodes to verify: what more or fewer would have gained of late, against what a pass costs.

A pass verifies the first n nodes of the draft's ranking. Afterwards it is known which of the ranked nodes the search
asked for, the unverified ones included. So for every n it is known which steps n nodes would have paid for, and how
many nodes would have been missing at the step that they did not pay for, which the next pass has to forward anyway.
Steps gained over steps refused says how many steps a pass brings, steps a pass over its latency which n is fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from specbeam.core.expand import DraftSize, Ranking
from specbeam.core.tree import TokenTree

MOST = 96  # nodes
MEMORY = 0.97  # what a pass counts for, one pass later
TRUST = 24  # how many passes the first guess counts for
TRUST_QUALITY = 12  # how many refused steps the guess counts for that the draft is as good as the first guess says
EXPLORE = 32  # one pass in so many looks further than what seems best, and ever fewer where nothing is drafted
LEVEL_SHARE, NODES_SHARE = 0.06, 0.25  # what a level of drafting costs until decodes tell, see `_usual_level_s`
TOO_FAST = 0.8  # of what the curve says; a short context alone makes a pass 5 % faster
FEWEST_PASSES = 8
ALIKE = 0.98  # of two sizes that differ by less than 2 % the smaller is taken
WORTH = 1.05  # by how much drafting has to be faster than none: estimates are noisy, and the best of many is flattered


@dataclass(frozen=True)
class LatencyCurve:
    """Seconds of a pass over `nodes` tokens, never falling; a straight line between the measured points."""

    nodes: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self):
        rising = list(self.nodes) == sorted(set(self.nodes)) and list(self.seconds) == sorted(self.seconds)
        if len(self.nodes) < 2 or len(self.nodes) != len(self.seconds) or not rising or self.seconds[0] <= 0:
            raise ValueError(
                f"a latency curve needs at least two points with rising nodes and positive seconds that do not fall, "
                f"got nodes={self.nodes} and seconds={self.seconds}."
            )

    def __call__(self, nodes: float | np.ndarray) -> np.ndarray:
        """Seconds of passes over so many tokens; beyond the last point the last slope goes on."""
        (x0, x1), (y0, y1) = self.nodes[-2:], self.seconds[-2:]
        beyond = np.maximum(np.asarray(nodes) - x1, 0) * (y1 - y0) / (x1 - x0)
        return np.interp(nodes, self.nodes, self.seconds) + beyond


class DraftSizeByBeams(DraftSize):
    """A number that follows from the number of beams alone."""

    def __init__(self) -> None:
        """Nothing is chosen before the decode begins."""

    def start(self, num_beams: int) -> None:
        self.nodes = 4 + 4 * num_beams


class AdaptiveDraftSize(DraftSize):
    """Chooses the number of drafted nodes, pass by pass.

    What a few passes tell of one size is little, so it is held against a first guess, the curve of a usual draft,
    which is scaled by how much better or worse this draft does at the sizes chosen so far.

    Args:
        latency: seconds of a target pass.
        correct: is called at the end if passes were clearly faster than the curve says. Slower ones prove nothing: the
            machine may be busy.
        level_s: seconds of a level of drafting by the number of beams. They are what earlier decodes took, measured by
            their passes, and this one adds its own at its end; nothing that it chooses depends on its own clock.
    """

    def __init__(
        self, latency: LatencyCurve, correct: Callable[[], object] = dict, level_s: dict[int, float] | None = None
    ):
        self.latency, self._correct, self._known_level_s = latency, correct, {} if level_s is None else level_s
        self._shares: list[float] = []
        self._level_times: list[float] = []

    def start(self, num_beams: int) -> None:
        self._num_beams, self._sizes = num_beams, np.arange(MOST + 1)
        # the first guess: about what SmolLM2-135M's trained draft reached, and rather less than more for beams, which
        # often do without a draft on a CPU
        usual = 0.8 if num_beams == 1 else 0.65
        self._usual_gain = usual * np.log2(1 + self._sizes / (4 * num_beams))
        self._usual_missing = num_beams / (1 + 3 * self._sizes / num_beams)
        self._usual_levels = np.ceil(np.log2(1 + self._sizes / num_beams))
        # of every size, over the passes of late: steps gained and refused, nodes missing where refused, levels, passes
        self._gained, self._refused, self._missing, self._levels, self._counted = np.zeros((5, MOST + 1))
        self._quality = np.zeros(2)  # steps gained at the chosen sizes, and what the first guess expects
        self._level_s = self._known_level_s.get(num_beams, self._usual_level_s())
        self._passes = self._chosen = 0
        self._look, self._wait = EXPLORE, EXPLORE  # the pass that looks further next, and how many lie between two
        self._ranks: list[dict[int, int]] = []  # of the nodes of the last ranking, by prompt; empty once learned from

    def _usual_level_s(self) -> float:
        """A part of a pass over one token, and a part of what the nodes that a level looks at would add to it."""
        one, level = self.latency(1), self.latency(2 * self._num_beams + 2)
        return float(LEVEL_SHARE * one + NODES_SHARE * (level - one))

    def steps(self) -> np.ndarray:
        """Expected steps of a pass by the number of drafted nodes, shape (MOST + 1,)."""
        gained, expected = self._quality + TRUST_QUALITY
        guess = TRUST * self._usual_gain * gained / expected
        return 1 + (guess + self._gained) / (TRUST + self._refused)

    def learn(self) -> None:
        """The last pass is used up: remember what each number of nodes would have gained."""
        if not self._ranks:
            return
        seen = slice(self._seen)  # nothing is known of more nodes than were ranked
        for sums, new in (
            (self._gained, self._steps),
            (self._refused, ~self._open),
            (self._missing, self._lacks),
            (self._levels, self._deepest),
            (self._counted, np.ones(MOST + 1)),
        ):
            sums[seen] = MEMORY * sums[seen] + new[seen]
        chosen = min(self._chosen, self._seen - 1)
        expected = self._usual_gain[chosen] * (not self._open[chosen])
        self._quality = MEMORY * self._quality + (self._steps[chosen], expected)
        self._ranks = []

    def choose(self, prompts: int) -> int:
        """How many nodes to draft for each of the prompts of a pass."""
        self.learn()
        self._passes += 1
        missing = (TRUST * self._usual_missing + self._missing) / (TRUST + self._refused)
        levels = (TRUST * self._usual_levels + self._levels) / (TRUST + self._counted)
        pass_s = self.latency(prompts * (self._sizes + missing))
        speed = self.steps() / (pass_s + self._level_s * levels)
        best = int((speed >= ALIKE * speed.max()).argmax()) if speed.max() > WORTH * speed[0] else 0
        if self._passes == self._look:
            early, self._wait = self._wait == EXPLORE, EXPLORE if best else 2 * self._wait
            self._look += self._wait
            if best or not early:  # a draft that was not asked so far has to read the prompt first: that can wait
                best = min(best + max(best // 2, 2 * self._num_beams), MOST)
        self._chosen = best
        return best

    def cut(self, rankings: Sequence[Ranking], nodes: int, lacking: Sequence[int], draft_s: float) -> list[list[int]]:
        """A pass is as wide as its widest prompt: one that lacks fewer nodes has room for more candidates."""
        self._ranks = [{node: rank for rank, node in enumerate(one.nodes, 1)} for one in rankings]
        self._seen = min(max(map(len, self._ranks)), MOST) + 1
        deepest = np.zeros(MOST + 1)
        for ranking in rankings:
            reached = np.maximum.accumulate(np.array([0, *ranking.levels[:MOST]]))
            deepest = np.maximum(deepest, np.pad(reached, (0, MOST + 1 - len(reached)), mode="edge"))
        if deepest[-1]:
            self._level_times.append(draft_s / deepest[-1])
        # one level more than that of the last node shows that nothing better comes
        self._deepest = np.where(self._sizes > 0, np.minimum(deepest + 1, deepest[-1]), 0)
        self._open = np.ones(MOST + 1, dtype=bool)  # sizes that have paid for every step so far
        self._steps, self._lacks = np.zeros((2, MOST + 1))
        width = max([lacks + len(one.nodes[:nodes]) for lacks, one in zip(lacking, rankings, strict=True)])
        return [one.nodes[: width - lacks] for lacks, one in zip(lacking, rankings, strict=True)]

    def stepped(self, trees: Sequence[TokenTree], running: Sequence[Sequence[int]]) -> None:
        """Which sizes would have paid for a step from these nodes; nodes that are scored need not be drafted."""
        if not self._ranks:
            return
        lacks = np.zeros(MOST + 1)
        for ranks, tree, nodes in zip(self._ranks, trees, running, strict=True):
            lacking = np.zeros(MOST + 1)
            for node in dict.fromkeys(nodes):
                lacking[: ranks.get(node, MOST + 1 if tree.logits(node) is None else 0)] += 1
            lacks = np.maximum(lacks, lacking)
        refused = self._open & (lacks > 0)
        self._lacks[refused] = lacks[refused]
        self._open &= ~refused
        self._steps[self._open] += 1

    def passed(self, tokens: int, seconds: float) -> None:
        self._shares.append(seconds / float(self.latency(tokens)))

    def finish(self) -> None:
        if len(self._shares) < FEWEST_PASSES:
            return
        share = median(self._shares)
        if self._level_times:
            # a machine that is busy is slow at both, and what counts is one in terms of the other
            self._known_level_s[self._num_beams] = median(self._level_times) / share
        if share < TOO_FAST:
            self._correct()
