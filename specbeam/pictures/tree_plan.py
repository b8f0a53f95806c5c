"""What a beam tree shows and where: boxes of tokens, their notes, columns wide enough for them. No markup in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .drawing import COLUMN, SIGN
from .palette import OPEN
from .token_text import columns, visible
from .tree_layout import Layout, place
from .verdicts import FINISHED, History, Moment

CROWDED = 240  # nodes from which on boxes show no score
_LONGEST = {False: 12, True: 9}  # columns of a token, by whether it is crowded
PAD, GAP, _NEAR, _FAR, TOP, TAIL = 5.0, 4.0, 7.0, 24.0, 34.0, 22.0  # px
_NOTE = 5.6  # px of a letter of a note


@dataclass(frozen=True)
class Box:
    """Nodes drawn as one: a chain in one state, or a single node. `heard` is the last round whose verdict is known."""

    nodes: list[int]
    state: str
    branch: str | None
    heard: int


class TreePlan:
    """Where everything stands, for all moments of a trace."""

    def __init__(self, history: History, rejected: bool):
        self.history = history
        self.rejected = rejected
        last = history.at()
        self.drawn = [n for n in last.states if rejected or n in last.branches or n == 0]
        self.crowded = len(self.drawn) > CROWDED

    @cached_property
    def layout(self) -> Layout:
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
        return place(self.drawn, [node.parent for node in history.nodes], depths, importance)

    @cached_property
    def columns(self) -> list[tuple[float, float]]:
        """The left edge and the width of each step's column."""
        nodes, layout, last = self.history.nodes, self.layout, self.history.at()
        depth = max(nodes[n].depth for n in self.drawn)
        widths, gaps = [54.0] + [36.0] * depth, [_NEAR] * (depth + 1)
        for n in self.drawn:
            if n:
                box = Box([n], last.states[n], last.branches.get(n), last.heard)
                widths[nodes[n].depth] = max(widths[nodes[n].depth], self.width(box))
                if layout.first[n]:
                    gaps[nodes[n].depth] = _FAR
        found, x = [], 0.0
        for width, gap in zip(widths, gaps, strict=True):
            x += gap
            found.append((x, width))
            x += width
        return found

    @property
    def line(self) -> float:
        """The height of a row's boxes."""
        return 19.0 if self.crowded else 31.0

    def boxes(self, moment: Moment) -> list[Box]:
        """The nodes of a moment, chains of one kind together."""
        visible_nodes = [n for n in self.drawn if n in moment.states]
        children: dict[int, int] = dict.fromkeys(visible_nodes, 0)
        for n in visible_nodes:
            if n:
                children[self.history.nodes[n].parent] += 1
        boxes: list[Box] = []
        box_of: dict[int, Box] = {}
        for n in visible_nodes:
            state, branch = moment.states[n], moment.branches.get(n)
            parent = self.history.nodes[n].parent
            above = box_of.get(parent)
            if above and parent and children[parent] == 1 and (above.state, above.branch) == (state, branch):
                above.nodes.append(n)
                box_of[n] = above
            else:
                box_of[n] = Box([n], state, branch, moment.heard)
                boxes.append(box_of[n])
        return boxes

    def y(self, node: int) -> float:
        return TOP + self.layout.rows[node] * (self.line + GAP)

    def score(self, box: Box) -> str:
        """The log-probability of a box's tokens after what stands before them, in nats."""
        known = [each for n in box.nodes if (each := self.history.log_prob(n)) is not None]
        return f"{sum(known):.2f}".replace("-", "−") if len(known) == len(box.nodes) and box.state != OPEN else ""

    def rounds(self, box: Box) -> str:
        verified = (self.history.nodes[n].verified for n in box.nodes)
        found = sorted({r for r in verified if r is not None and r <= box.heard})
        if not found or box.state == OPEN:
            return ""
        return f"p{found[0]}" if len(found) == 1 else f"p{found[0]}–{found[-1]}"

    def words(self, nodes: list[int], room: int | None = None) -> str:
        most = _LONGEST[self.crowded] if room is None else room
        words = "".join(self.history.text(n) for n in nodes)
        return visible(words, max(most, 2))

    def aside(self, box: Box) -> float:
        return _NOTE * len(self.rounds(box)) + 3 if self.crowded else 0.0

    def width(self, box: Box) -> float:
        """What a box of one node needs in any of its states."""
        rounds, score = self.rounds(box), self.score(box)
        shown = SIGN + COLUMN * columns(self.words(box.nodes)) + self.aside(box)
        note = 0.0 if self.crowded else _NOTE * (len(rounds) + 1 + len(score))
        return 2 * PAD + max(shown, note)
