"""The layout of a beam tree: boxes of tokens, the text in them, a column for each step, rows that branches share.

No markup is made here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from .drawing import COLUMN, SIGN
from .history import FINISHED, History, Moment
from .palette import OPEN
from .token_text import columns, visible

CROWDED = 240  # boxes of a tree with more nodes are lower and show no score
_LONGEST = {False: 12, True: 9}  # columns of a token, by whether the tree is crowded
PAD, GAP, _NEAR, _FAR, TOP, TAIL = 5.0, 4.0, 7.0, 24.0, 34.0, 22.0  # px
_NOTE = 5.6  # px of a letter of a note


@dataclass(frozen=True)
class Box:
    """Nodes drawn as one: a chain in one state, or a single node, as known when round `verified` was verified."""

    nodes: list[int]
    state: str
    branch: str | None
    verified: int


class TreeLayout:
    """The places of all boxes, the same at every moment of a trace."""

    def __init__(self, history: History, rejected: bool):
        self.history = history
        self.rejected = rejected
        last = history.at()
        self.drawn = [n for n in last.states if rejected or n in last.branches or n == 0]
        self.crowded = len(self.drawn) > CROWDED
        self.line = 19.0 if self.crowded else 31.0  # px of a box's height

    @cached_property
    def rows(self) -> dict[int, int]:
        """The row of each drawn node, from 0 at the top."""
        history, last = self.history, self.history.at()
        depths = [node.depth for node in history.nodes]
        reach = list(depths)  # how deep the search went below a node
        for n in reversed(self.drawn):
            if n and n in last.branches:
                parent = history.nodes[n].parent
                reach[parent] = max(reach[parent], reach[n])
        best = set(history.results[0]) if history.results else set()
        importance = {
            n: (n in last.branches, n in best, last.branches.get(n) == FINISHED, reach[n], history.nodes[n].score)
            for n in self.drawn
        }
        return assign_rows(self.drawn, [node.parent for node in history.nodes], depths, importance)

    @cached_property
    def columns(self) -> list[tuple[float, float]]:
        """The left edge and the width of each step's column, px."""
        nodes, last = self.history.nodes, self.history.at()
        depth = max(nodes[n].depth for n in self.drawn)
        widths, gaps = [54.0] + [36.0] * depth, [_NEAR] * (depth + 1)
        for n in self.drawn:
            if n:
                box = Box([n], last.states[n], last.branches.get(n), last.verified)
                widths[nodes[n].depth] = max(widths[nodes[n].depth], self._width(box))
                if self.rows[n] != self.rows[nodes[n].parent]:  # a branch begins
                    gaps[nodes[n].depth] = _FAR
        found, x = [], 0.0
        for width, gap in zip(widths, gaps, strict=True):
            x += gap
            found.append((x, width))
            x += width
        return found

    def left(self, node: int) -> float:
        return self.columns[self.history.nodes[node].depth][0]

    def right(self, node: int) -> float:
        return sum(self.columns[self.history.nodes[node].depth])

    def top(self, node: int) -> float:
        return TOP + self.rows[node] * (self.line + GAP)

    def boxes(self, moment: Moment) -> list[Box]:
        """The boxes of a moment; chains of nodes in the same state and branch share one."""
        shown = [n for n in self.drawn if n in moment.states]
        children: dict[int, int] = dict.fromkeys(shown, 0)
        for n in shown[1:]:
            children[self.history.nodes[n].parent] += 1
        boxes: list[Box] = []
        box_of: dict[int, Box] = {}
        for n in shown:
            state, branch = moment.states[n], moment.branches.get(n)
            parent = self.history.nodes[n].parent
            above = box_of.get(parent)
            if above and parent and children[parent] == 1 and (above.state, above.branch) == (state, branch):
                above.nodes.append(n)
                box_of[n] = above
            else:
                box_of[n] = Box([n], state, branch, moment.verified)
                boxes.append(box_of[n])
        return boxes

    def score(self, box: Box) -> str:
        """The log-probability of a box's tokens given those before them, in nats."""
        known = [each for n in box.nodes if (each := self.history.log_prob(n)) is not None]
        return f"{sum(known):.2f}".replace("-", "−") if len(known) == len(box.nodes) and box.state != OPEN else ""

    def rounds(self, box: Box) -> str:
        """The rounds that verified a box's nodes: p3, or p3–5."""
        verified = (self.history.nodes[n].verified for n in box.nodes)
        found = sorted({r for r in verified if r is not None and r <= box.verified})
        if not found or box.state == OPEN:
            return ""
        return f"p{found[0]}" if len(found) == 1 else f"p{found[0]}–{found[-1]}"

    def words(self, nodes: list[int], room: int | None = None) -> str:
        """The text of nodes, cut to a number of columns."""
        most = _LONGEST[self.crowded] if room is None else room
        return visible("".join(self.history.text(n) for n in nodes), max(most, 2))

    def aside(self, box: Box) -> float:
        """The width of the rounds, px, where they are beside the text."""
        return _NOTE * len(self.rounds(box)) + 3 if self.crowded else 0.0

    def _width(self, box: Box) -> float:
        """The width that a box of one node needs in any of its states, px."""
        shown = SIGN + COLUMN * columns(self.words(box.nodes)) + self.aside(box)
        note = 0.0 if self.crowded else _NOTE * (len(self.rounds(box)) + 1 + len(self.score(box)))
        return 2 * PAD + max(shown, note)


def assign_rows(
    drawn: Collection[int],
    parents: Sequence[int],
    depths: Sequence[int],
    importance: Mapping[int, tuple[float, ...]],
) -> dict[int, int]:
    """Give the drawn nodes rows; parents have smaller numbers than their children, and node 0 is the root.

    The most important child stays in its parent's row. Every other child begins a branch, in the nearest row below its
    parent that is free over the whole branch. Rows are used again, so the height is that of the widest column and not
    the number of branches.
    """
    children: dict[int, list[int]] = {n: [] for n in drawn}
    for n in sorted(drawn):
        if n:
            children[parents[n]].append(n)
    for below in children.values():
        below.sort(key=lambda n: (*(-each for each in importance[n]), n))
    rows: dict[int, int] = {}
    taken: list[set[int]] = []  # depths in use, for each row
    begins: list[tuple[int, int]] = [(0, 0)]  # first nodes of branches, and the rows of their parents
    while begins:
        start, above = begins.pop()
        branch = [start]
        while children[branch[-1]]:
            branch.append(children[branch[-1]][0])
        depths_used = {depths[n] for n in branch}
        row = above + 1 if start else 0
        while row < len(taken) and depths_used & taken[row]:
            row += 1
        while len(taken) <= row:
            taken.append(set())
        taken[row] |= depths_used
        rows |= dict.fromkeys(branch, row)
        later = [(child, row) for n in branch for child in children[n][1:]]
        # popped from the end: the most important branch is placed first, then the deepest, so that few lines cross
        begins += sorted(later, key=lambda item: (importance[item[0]][:2], depths[item[0]], -item[0]))
    return rows
