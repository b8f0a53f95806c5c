"""The beam tree: tokens as boxes, what the draft proposed and the target said, and which beams live, die or return.

A column is a step of the search, a box a token, or several tokens of one kind that nothing branches off. All pictures
of one trace have the same places, so that they can be looked at one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbeam.core.stats import Trace

from .drawing import COLUMN, SIGN, Canvas, Picture, counted, mark, signed, text
from .palette import ACCEPTED, REJECTED, STATES
from .style import SMALL, TEXT
from .tree_plan import GAP, PAD, TAIL, TOP, Box, TreePlan
from .verdicts import DIED, FINISHED, RUNNING, History, Moment


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
    plan = _Tree(History(trace, texts), rejected)
    return plan.picture(plan.history.at(round, before))


def frames(
    trace: Trace | Mapping[str, Any], texts: Mapping[int, str] | None = None, *, rejected: bool = True
) -> list[Picture]:
    """The tree after the prompt, and then twice for each round: the draft's proposal, and after the verdict.

    The places are computed once, and a picture draws itself when it is looked at: a list for a slider. A round that
    drafted nothing has one picture. Raises ValueError as `beam_tree` does.
    """
    plan = _Tree(History(trace, texts), rejected)
    found = [plan.picture(plan.history.at(0))]
    for number, one in enumerate(plan.history.trace.rounds):
        if number:
            found += [
                plan.picture(plan.history.at(number, before)) for before in (True, False) if one.drafted or not before
            ]
    return found


class _Tree(TreePlan):
    """A plan that draws itself."""

    def picture(self, moment: Moment) -> Picture:
        present = {moment.states[n] for n in self.drawn if n and n in moment.states}
        branches = {moment.branches[n] for n in self.drawn if n in moment.branches and n}
        legend = [name for name in STATES if name in present]
        legend += [name for name in (RUNNING, FINISHED, DIED) if name in branches]
        legend += ["pass", "score"][: 1 if self.crowded else 2] if present else []
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
            found = f"{counted(moment.steps, 'step')} in {passes}: {counted(len(moment.branches) - 1, 'node')} taken"
            if REJECTED in kinds:
                found += f", {kinds.count(REJECTED)} drafted in vain" + ("" if self.rejected else " (not drawn)")
            return found
        steps = counted(self.history.steps_of[moment.round], "step")
        if moment.round == 0:
            return f"The prompt's pass: it pays for {steps}"
        taken = sum(moment.states[n] == ACCEPTED for n in drafted)
        said = f"of {counted(len(drafted), 'drafted node')} {taken} taken so far, " if drafted else ""
        return f"After pass {moment.round}: {said}{steps} paid for"

    def _canvas(self, moment: Moment) -> Canvas:
        boxes = self.boxes(moment)
        left, width = self.columns[-1]
        deepest = max(self.history.nodes[box.nodes[-1]].depth for box in boxes)
        height = TOP + self.layout.height * (self.line + GAP) + 4
        lines = "".join(self._edge(box) for box in sorted(boxes, key=_front) if box.nodes[0])
        tips = "".join(self._tip(box, moment) for box in boxes)
        drawn = self._bands(moment, height) + lines + "".join(map(self._box, boxes)) + tips
        return Canvas(left + width + TAIL, height, drawn, reached=sum(self.columns[deepest]) + TAIL)

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

    def _edge(self, box: Box) -> str:
        node = box.nodes[0]
        parent = self.history.nodes[node].parent
        x0 = sum(self.columns[self.history.nodes[parent].depth])
        x1 = self.columns[self.history.nodes[node].depth][0]
        y0, y1 = self.y(parent) + self.line / 2, self.y(node) + self.line / 2
        kind = box.branch or "vain"
        if y0 == y1:
            return f'<path class="§{kind}" d="M{x0:.1f} {y0:.1f}H{x1:.1f}"/>'
        bend = min((x1 - x0) / 2, 14)
        return (
            f'<path class="§{kind}" d="M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} '
            f'{x1:.1f} {y1:.1f}"/>'
        )

    def _tip(self, box: Box, moment: Moment) -> str:
        """How a branch ends, after its last node."""
        node = box.nodes[-1]
        if box.branch is None or any(child in moment.branches for child in self.history.children[node].values()):
            return ""
        x = sum(self.columns[self.history.nodes[node].depth])
        return mark(box.branch, x + 3, self.y(node) + self.line / 2)

    def _box(self, box: Box) -> str:
        left = self.columns[self.history.nodes[box.nodes[0]].depth][0]
        width = sum(self.columns[self.history.nodes[box.nodes[-1]].depth]) - left
        y = self.y(box.nodes[0])
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
        room = int((width - 2 * PAD - (SIGN if STATES[kind].sign else 0) - self.aside(box)) / COLUMN + 1e-6)
        words = signed(self.words(box.nodes, room), kind, left + PAD, base)
        return f'<g data-nodes="{ids}"><title>{text(hover)}</title>{rect}{words}{self._note(box, left, y, width)}</g>'

    def _note(self, box: Box, left: float, y: float, width: float) -> str:
        """The rounds in which a box was verified, and its log-probability: below its text, or the rounds beside it."""
        rounds = self.rounds(box)
        if self.crowded:
            x, base = left + width - 3, y + self.line / 2 + SMALL / 3
            return f'<text x="{x:.1f}" y="{base:.1f}" text-anchor="end" class="§n §{box.state}">{rounds}</text>'
        found = f'<text x="{left + PAD:.1f}" y="{y + 26:.1f}" class="§n §{box.state}">{rounds}</text>'
        x, score = left + width - PAD, self.score(box)
        return found + f'<text x="{x:.1f}" y="{y + 26:.1f}" text-anchor="end" class="§n §{box.state}">{score}</text>'


def _front(box: Box) -> int:
    """Lines of returned sequences are drawn last, those of rejected drafts first."""
    return (None, DIED, RUNNING, FINISHED).index(box.branch)
