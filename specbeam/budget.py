"""How many drafted nodes to verify: what more or fewer would have gained of late, against what a pass costs.

A pass verifies the first n nodes of the draft's ranking. Afterwards it is known which of the ranked nodes the search
asked for, the unverified ones included; so for every n it is known how many steps the pass would have paid for. The
average of this over the last passes, divided by the measured cost of a pass, says which n is fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .costs import CostCurve
from .growth import Ranking

MOST = 96  # nodes
MEMORY = 0.95  # what a pass counts for, one pass later
TRUST = 8.0  # how many passes the first guess counts for
EXPLORE = 8  # one pass in so many looks further than what seems best


class Budget:
    """Chooses the number of drafted nodes, pass by pass.

    Args:
        costs: seconds of a target pass.
        num_beams: running sequences a prompt.
    """

    def __init__(self, costs: CostCurve, num_beams: int):
        self.costs, self._num_beams = costs, num_beams
        sizes = np.arange(MOST + 1)
        # a first guess: about what a trained draft reached, for any number of beams
        self._steps = TRUST * (1 + 0.8 * np.log2(1 + sizes / (4 * num_beams)))
        self._levels = TRUST * np.ceil(np.log2(1 + sizes / num_beams))
        self._weights = np.full(MOST + 1, TRUST)  # a size is only judged by passes that ranked so many nodes
        self._level_s = 0.0
        self._passes = 0
        self._ranks: list[dict[int, int]] = []

    def choose(self, rows: int) -> int:
        """How many nodes to draft for a pass that has to forward `rows` tokens anyway."""
        self._passes += 1
        costs = np.array([self.costs(rows + n) for n in range(MOST + 1)])
        steps, levels = self._steps / self._weights, self._levels / self._weights
        speed = np.maximum.accumulate(steps) / (costs + self._level_s * levels)
        best = int(speed.argmax())
        if self._passes % EXPLORE == 0:
            return min(best + max(best // 2, 2 * self._num_beams), MOST)
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
        self._deepest, self._gained, self._needed = deepest, np.ones(MOST + 1), 0.0
        if deepest[-1]:
            level_s = draft_s / deepest[-1]
            self._level_s = level_s if not self._level_s else 0.8 * self._level_s + 0.2 * level_s

    def stepped(self, nodes: Sequence[Sequence[int]], known: Sequence[Sequence[bool]]) -> None:
        """The search took a step at these nodes of each prompt; `known` are those that need not be drafted."""
        if not self._ranks:
            return
        for ranks, asked, has in zip(self._ranks, nodes, known, strict=True):
            for node, there in zip(asked, has, strict=True):
                self._needed = max(self._needed, ranks.get(node, 0 if there else math.inf))
        if self._needed <= MOST:
            self._gained[int(self._needed) :] += 1

    def learn(self) -> None:
        """The pass is used up: remember what each number of nodes would have gained."""
        if not self._ranks:
            return
        seen = self._seen
        for sums, new in ((self._steps, self._gained), (self._levels, self._deepest)):
            sums[:seen] = MEMORY * sums[:seen] + new[:seen]
        self._weights[:seen] = MEMORY * self._weights[:seen] + 1
        self._ranks = []
