"""How many drafted nodes to verify: what more or fewer would have gained of late, against what a pass costs.

A pass verifies the first n nodes of the draft's ranking. Afterwards it is known which of the ranked nodes the search
asked for, the unverified ones included. So for every n it is known which steps n nodes would have paid for, and how
many nodes would have been missing at the step that they did not pay for, which the next pass has to forward anyway.
Steps gained over steps refused says how many steps a pass brings, steps a pass over its cost which n is fastest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbeam.core.expand import Ranking

from .latency import CostCurve

MOST = 96  # nodes
MEMORY = 0.97  # what a pass counts for, one pass later
TRUST = 24  # how many passes the first guess counts for
TRUST_QUALITY = 12  # how many refused steps the guess counts for that the draft is as good as the first guess says
EXPLORE = 8  # one pass in so many looks further than what seems best
ALIKE = 0.98  # of two sizes that differ by less than 2 % the smaller is taken


class Budget:
    """Chooses the number of drafted nodes, pass by pass.

    What a few passes tell of one size is little, so it is held against a first guess, the curve of a usual draft,
    which is scaled by how much better or worse this draft does at the sizes chosen so far.

    Args:
        costs: seconds of a target pass.
        num_beams: running sequences a prompt.
    """

    def __init__(self, costs: CostCurve, num_beams: int):
        self.costs, self._num_beams = costs, num_beams
        sizes = np.arange(MOST + 1)
        # the first guess: about what SmolLM2-135M's trained draft reached, for any number of beams
        self._usual_gain = 0.8 * np.log2(1 + sizes / (4 * num_beams))
        self._usual_missing = num_beams / (1 + 3 * sizes / num_beams)
        self._usual_levels = np.ceil(np.log2(1 + sizes / num_beams))
        # of every size, over the passes of late: steps gained and refused, nodes missing where refused, levels, passes
        self._gained, self._refused, self._missing, self._levels, self._counted = np.zeros((5, MOST + 1))
        self._quality = np.zeros(2)  # steps gained at the chosen sizes, and what the first guess expects
        self._level_s = 0.0
        self._passes = 0
        self._chosen = 0
        self._ranks: list[dict[int, int]] = []

    def steps(self) -> np.ndarray:
        """Expected steps of a pass by the number of drafted nodes, shape (MOST + 1,)."""
        gained, expected = self._quality + TRUST_QUALITY
        guess = TRUST * self._usual_gain * gained / expected
        return 1 + (guess + self._gained) / (TRUST + self._refused)

    def choose(self, prompts: int = 1) -> int:
        """How many nodes to draft for each of the prompts of a pass."""
        self._passes += 1
        missing = (TRUST * self._usual_missing + self._missing) / (TRUST + self._refused)
        levels = (TRUST * self._usual_levels + self._levels) / (TRUST + self._counted)
        rows = prompts * (np.arange(MOST + 1) + missing)
        speed = self.steps() / (np.array([self.costs(n) for n in rows]) + self._level_s * levels)
        best = int((speed >= ALIKE * speed.max()).argmax())
        if self._passes % EXPLORE == 0:
            best = min(best + max(best // 2, 2 * self._num_beams), MOST)
        self._chosen = best
        return best

    def planned(self, rankings: Sequence[Ranking], draft_s: float) -> None:
        """What the draft ranked for this pass, a ranking a prompt, and how long that took."""
        self._ranks = [{node: rank for rank, node in enumerate(one.nodes, 1)} for one in rankings]
        self._seen = min(max(map(len, self._ranks)), MOST) + 1
        deepest = np.zeros(MOST + 1)
        for ranking in rankings:
            reached = np.maximum.accumulate(np.array([0, *ranking.levels[:MOST]]))
            deepest[: len(reached)] = np.maximum(deepest[: len(reached)], reached)
            deepest[len(reached) :] = np.maximum(deepest[len(reached) :], reached[-1])
        if deepest[-1]:
            level_s = draft_s / deepest[-1]
            self._level_s = level_s if not self._level_s else 0.8 * self._level_s + 0.2 * level_s
        # one level more than that of the last node shows that nothing better comes
        self._deepest = np.where(np.arange(MOST + 1) > 0, np.minimum(deepest + 1, deepest[-1]), 0)
        self._open = np.ones(MOST + 1, dtype=bool)  # sizes that have paid for every step so far
        self._steps, self._lacks = np.zeros((2, MOST + 1))

    def stepped(self, nodes: Sequence[Sequence[int]], known: Sequence[Sequence[bool]]) -> None:
        """The search took a step at these nodes of each prompt; `known` are those that need not be drafted."""
        if not self._ranks:
            return
        lacks = np.zeros(MOST + 1)
        for ranks, asked, has in zip(self._ranks, nodes, known, strict=True):
            lacking = np.zeros(MOST + 1)
            for node, there in dict(zip(asked, has, strict=True)).items():
                lacking[: ranks.get(node, 0 if there else MOST + 1)] += 1
            lacks = np.maximum(lacks, lacking)
        refused = self._open & (lacks > 0)
        self._lacks[refused] = lacks[refused]
        self._open &= ~refused
        self._steps[self._open] += 1

    def learn(self) -> None:
        """The pass is used up: remember what each number of nodes would have gained."""
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
