"""The beam tree: tokens as boxes, what the draft proposed and the target said, and which beams live, die or return.

A column is a step of the search, a box a token, or several tokens of one kind that nothing branches off. All pictures
of one trace have the same places, so that they can be looked at one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .drawing import COLUMN, SIGN, SMALL, TEXT, Canvas, Picture, counted, mark, signed, text
from .palette import ACCEPTED, OPEN, REJECTED, STATES
from .stats import Trace
from .token_text import columns, visible
from .tree_layout import Layout, place
from .verdicts import DIED, FINISHED, RUNNING, History, Moment

CROWDED = 240  # nodes from which on boxes show no score
_LONGEST = {False: 12, True: 9}  # columns of a token, by whether it is crowded
_PAD, _GAP, _NEAR, _FAR, _TOP, _TAIL = 5.0, 4.0, 7.0, 24.0, 34.0, 22.0  # px
_NOTE = 5.6  # px of a letter of a note


def beam_tree(
    trace: Trace | Mapping[str, Any],
    texts: Mapping[int, str] | None = None,
    *,
    round: int | None = None,
    before: bool = False,
    rejected: bool = True,
) -> Picture:
    """The token tree of a decode, at its end or after a round.

    Args:
        trace: what a decoder kept with `trace=True`, or the JSON of `Trace.to_json`.
        texts: the texts of its tokens by id (`token_texts`), if they are not in the JSON.
        round: the target pass after which the tree is shown (0 is the prompt's); None shows the end.
        before: shows that round's draft before the target's verdict on it.
        rejected: whether to draw what was drafted in vain; otherwise it is only counted.

    Raises ValueError for an empty trace, one without texts, and a round that is not there.
    """
    plan = _Plan(History(trace, texts), rejected)
    return plan.picture(plan.history.at(round, before))


def frames(
    trace: Trace | Mapping[str, Any], texts: Mapping[int, str] | None = None, *, rejected: bool = True
) -> list[Picture]:
    """The tree after the prompt, and then twice for each round: the draft's proposal, and after the verdict.

    The places are computed once, and a picture draws itself when it is looked at: a list for a slider. A round that
    drafted nothing has one picture. Raises ValueError as `beam_tree` does.
    """
    plan = _Plan(History(trace, texts), rejected)
    found = [plan.picture(plan.history.at(0))]
    for number, one in enumerate(plan.history.trace.rounds):
        if number:
            found += [
                plan.picture(plan.history.at(number, before)) for before in (True, False) if one.drafted or not before
            ]
    return found


@dataclass(frozen=True)
class _Box:
    """Nodes drawn as one: a chain in one state, or a single node. `heard` is the last round whose verdict is known."""

    nodes: list[int]
    state: str
    branch: str | None
    heard: int


class _Plan:
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
                box = _Box([n], last.states[n], last.branches.get(n), last.heard)
                widths[nodes[n].depth] = max(widths[nodes[n].depth], self._width(box))
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

    def picture(self, moment: Moment) -> Picture:
        present = {moment.states[n] for n in self.drawn if n and n in moment.states}
        branches = {moment.branches[n] for n in self.drawn if n in moment.branches and n}
        legend = [name for name in STATES if name in present]
        legend += [name for name in (RUNNING, FINISHED, DIED) if name in branches]
        legend += ["pass"] if self.crowded else ["pass", "score"]
        return Picture(self._title(moment), legend, lambda: self._canvas(moment))

    def _title(self, moment: Moment) -> str:
        rounds = self.history.trace.rounds
        end = moment.round == len(rounds) - 1 and not moment.before
        drafted = [n for n, node in enumerate(self.history.nodes) if node.drafted == moment.round]
        if moment.before:
            return f"Pass {moment.round}, before the verdict: the draft proposes {counted(len(drafted), 'node')}"
        if end:
            kinds = list(moment.states.values())
            passes = counted(len(rounds), "target pass", "es")
            found = f"{counted(moment.steps, 'step')} in {passes}: {len(moment.branches) - 1} nodes taken"
            if REJECTED in kinds:
                found += f", {kinds.count(REJECTED)} drafted in vain" + ("" if self.rejected else " (not drawn)")
            return found
        steps = counted(self.history.steps_of[moment.round], "step")
        if moment.round == 0:
            return f"The prompt's pass: it pays for {steps}"
        taken = sum(moment.states[n] == ACCEPTED for n in drafted)
        said = f"of {counted(len(drafted), 'drafted node')} {taken} taken so far, " if drafted else ""
        return f"After pass {moment.round}: {said}{steps} paid for"

    def _boxes(self, moment: Moment) -> list[_Box]:
        """The nodes of a moment, chains of one kind together."""
        visible_nodes = [n for n in self.drawn if n in moment.states]
        children: dict[int, int] = dict.fromkeys(visible_nodes, 0)
        for n in visible_nodes:
            if n:
                children[self.history.nodes[n].parent] += 1
        boxes: list[_Box] = []
        box_of: dict[int, _Box] = {}
        for n in visible_nodes:
            state, branch = moment.states[n], moment.branches.get(n)
            parent = self.history.nodes[n].parent
            above = box_of.get(parent)
            if above and parent and children[parent] == 1 and (above.state, above.branch) == (state, branch):
                above.nodes.append(n)
                box_of[n] = above
            else:
                box_of[n] = _Box([n], state, branch, moment.heard)
                boxes.append(box_of[n])
        return boxes

    def _canvas(self, moment: Moment) -> Canvas:
        boxes = self._boxes(moment)
        left, width = self.columns[-1]
        height = _TOP + self.layout.height * (self.line + _GAP) + 4
        lines = "".join(self._edge(box) for box in sorted(boxes, key=_front) if box.nodes[0])
        tips = "".join(self._tip(box, moment) for box in boxes)
        return Canvas(
            left + width + _TAIL, height, self._bands(moment, height) + lines + "".join(map(self._box, boxes)) + tips
        )

    def _bands(self, moment: Moment, height: float) -> str:
        """Which pass paid for each step, above its column; what is not paid for yet has no name."""
        found, start = [], 0
        paid = [each for each in self.history.committed if each <= moment.heard]
        for step in range(1, len(paid) + 1):
            if step < len(paid) and paid[step] == paid[start]:
                continue
            left, right = self.columns[start][0] - 3, sum(self.columns[step - 1]) + 3
            if paid[start] % 2:
                found.append(f'<rect class="§band" x="{left:.1f}" width="{right - left:.1f}" height="{height:.1f}"/>')
            name = "prompt" if paid[start] == 0 else f"pass {paid[start]}"
            found.append(f'<text x="{(left + right) / 2:.1f}" y="11" text-anchor="middle" class="§f">{name}</text>')
            start = step
        for step, (left, width) in enumerate(self.columns):
            if step:
                middle = left + width / 2
                found.append(f'<text x="{middle:.1f}" y="26" text-anchor="middle" class="§n">{step}</text>')
        return "".join(found)

    def _y(self, node: int) -> float:
        return _TOP + self.layout.rows[node] * (self.line + _GAP)

    def _edge(self, box: _Box) -> str:
        node = box.nodes[0]
        parent = self.history.nodes[node].parent
        x0 = sum(self.columns[self.history.nodes[parent].depth])
        x1 = self.columns[self.history.nodes[node].depth][0]
        y0, y1 = self._y(parent) + self.line / 2, self._y(node) + self.line / 2
        kind = box.branch or "vain"
        if y0 == y1:
            return f'<path class="§{kind}" d="M{x0:.1f} {y0:.1f}H{x1:.1f}"/>'
        bend = min((x1 - x0) / 2, 14)
        return (
            f'<path class="§{kind}" d="M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} '
            f'{x1:.1f} {y1:.1f}"/>'
        )

    def _tip(self, box: _Box, moment: Moment) -> str:
        """How a branch ends, after its last node."""
        node = box.nodes[-1]
        if box.branch is None or any(child in moment.branches for child in self.history.children[node].values()):
            return ""
        x = sum(self.columns[self.history.nodes[node].depth])
        return mark(box.branch, x + 3, self._y(node) + self.line / 2)

    def _box(self, box: _Box) -> str:
        left = self.columns[self.history.nodes[box.nodes[0]].depth][0]
        width = sum(self.columns[self.history.nodes[box.nodes[-1]].depth]) - left
        y = self._y(box.nodes[0])
        kind, ids = box.state, " ".join(map(str, box.nodes))
        rect = f'<rect class="§{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{self.line:.0f}" rx="4"/>'
        base = y + (self.line / 2 if self.crowded else 10.5) + TEXT / 3
        if box.nodes == [0]:
            base = y + self.line / 2 + TEXT / 3
            label = (
                f'<text x="{left + width / 2:.1f}" y="{base:.1f}" text-anchor="middle" class="§prompt">prompt</text>'
            )
            return f'<g data-nodes="0">{rect}{label}</g>'
        hover = "\n\n".join(self.history.describe(n, kind, box.heard) for n in box.nodes)
        room = int((width - 2 * _PAD - (SIGN if STATES[kind].sign else 0) - self._aside(box)) / COLUMN + 1e-6)
        words = signed(self._words(box.nodes, room), kind, left + _PAD, base)
        return f'<g data-nodes="{ids}"><title>{text(hover)}</title>{rect}{words}{self._note(box, left, y, width)}</g>'

    def _note(self, box: _Box, left: float, y: float, width: float) -> str:
        """The rounds in which a box was verified, and its log-probability: below its text, or the rounds beside it."""
        rounds = self._rounds(box)
        if self.crowded:
            x, base = left + width - 3, y + self.line / 2 + SMALL / 3
            return f'<text x="{x:.1f}" y="{base:.1f}" text-anchor="end" class="§n §{box.state}">{rounds}</text>'
        found = f'<text x="{left + _PAD:.1f}" y="{y + 26:.1f}" class="§n §{box.state}">{rounds}</text>'
        x, score = left + width - _PAD, self._score(box)
        return found + f'<text x="{x:.1f}" y="{y + 26:.1f}" text-anchor="end" class="§n §{box.state}">{score}</text>'

    def _score(self, box: _Box) -> str:
        """The log-probability of a box's tokens after what stands before them, in nats."""
        known = [each for n in box.nodes if (each := self.history.log_prob(n)) is not None]
        return f"{sum(known):.2f}".replace("-", "−") if len(known) == len(box.nodes) and box.state != OPEN else ""

    def _rounds(self, box: _Box) -> str:
        verified = (self.history.nodes[n].verified for n in box.nodes)
        found = sorted({r for r in verified if r is not None and r <= box.heard})
        if not found or box.state == OPEN:
            return ""
        return f"p{found[0]}" if len(found) == 1 else f"p{found[0]}–{found[-1]}"

    def _words(self, nodes: list[int], room: int | None = None) -> str:
        most = _LONGEST[self.crowded] if room is None else room
        words = "".join(self.history.text(n) for n in nodes)
        return visible(words, max(most, 2))

    def _aside(self, box: _Box) -> float:
        return _NOTE * len(self._rounds(box)) + 3 if self.crowded else 0.0

    def _width(self, box: _Box) -> float:
        """What a box of one node needs in any of its states."""
        rounds, score = self._rounds(box), self._score(box)
        shown = SIGN + COLUMN * columns(self._words(box.nodes)) + self._aside(box)
        note = 0.0 if self.crowded else _NOTE * (len(rounds) + 1 + len(score))
        return 2 * _PAD + max(shown, note)


def _front(box: _Box) -> int:
    """Lines of returned sequences are drawn last, those of rejected drafts first."""
    return (None, DIED, RUNNING, FINISHED).index(box.branch)
