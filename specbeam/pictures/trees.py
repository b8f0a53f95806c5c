"""The beam tree: tokens as boxes, what the draft proposed, what the target accepted, and how each beam ended.

A column is a step of the search, a box is a token, or several tokens in the same state without a branch between them.
All pictures of a trace have the same places, so that one can flip through them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbeam.core.stats import Trace

from .drawing import COLUMN, SIGN, SMALL, TEXT, Canvas, Picture, counted, mark, svg_text, text, token
from .history import DIED, FINISHED, RUNNING, History, Moment
from .palette import ACCEPTED, REJECTED, STATES
from .tree_layout import GAP, PAD, TAIL, TOP, Box, TreeLayout

_FRONT = (None, DIED, RUNNING, FINISHED)  # lines of returned sequences are drawn last, those of rejected drafts first


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
        before: shows that round's draft before the target has verified it.
        rejected: whether to draw rejected drafts; otherwise they are only counted.

    Raises ValueError for an empty trace, one without texts, and a round that it does not have.
    """
    tree = _Tree(History(trace, texts), rejected)
    return tree.picture(tree.history.at(round, before))


def frames(
    trace: Trace | Mapping[str, Any], texts: Mapping[int, str] | None = None, *, rejected: bool = True
) -> list[Picture]:
    """The tree at each of the moments of `frame_moments`: a list for a slider.

    The places are computed once, and a picture is drawn when it is first shown. Raises ValueError as `beam_tree` does.
    """
    tree = _Tree(History(trace, texts), rejected)
    return [tree.picture(tree.history.at(*moment)) for moment in frame_moments(tree.history.trace)]


def frame_moments(trace: Trace) -> list[tuple[int, bool]]:
    """The round of each frame, and whether it is before the target has verified the draft.

    There is one for the prompt, then two for each round, or one for a round that drafted nothing.
    """
    later = list(enumerate(trace.rounds))[1:]
    return [(0, False), *((n, before) for n, one in later for before in (True, False) if one.drafted or not before)]


class _Tree(TreeLayout):
    """A layout that draws itself."""

    def picture(self, moment: Moment) -> Picture:
        present = {moment.states[n] for n in self.drawn if n and n in moment.states}
        branches = {moment.branches[n] for n in self.drawn if n in moment.branches and n}
        legend = [name for name in STATES if name in present]
        legend += [name for name in (RUNNING, FINISHED, DIED) if name in branches]
        legend += ["pass", "score"][: 1 if self.crowded else 2] if present else []
        return Picture(self._title(moment), legend, lambda: self._canvas(moment))

    def _title(self, moment: Moment) -> str:
        rounds = self.history.trace.rounds
        drafted = [n for n, node in enumerate(self.history.nodes) if node.drafted == moment.round]
        if moment.before:
            return f"Pass {moment.round}, before the verdict: the draft proposes {counted(len(drafted), 'node')}"
        if moment.round == len(rounds) - 1:
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
        finding = f"of {counted(len(drafted), 'drafted node')} {taken} taken so far, " if drafted else ""
        return f"After pass {moment.round}: {finding}{steps} paid for"

    def _canvas(self, moment: Moment) -> Canvas:
        boxes = self.boxes(moment)
        left, width = self.columns[-1]
        height = TOP + (max(self.rows.values()) + 1) * (self.line + GAP) + 4
        lines = "".join(self._edge(box) for box in sorted(boxes, key=lambda box: _FRONT.index(box.branch)))
        tips = "".join(self._tip(box, moment) for box in boxes)
        svg = self._bands(moment, height) + lines + "".join(map(self._box, boxes)) + tips
        return Canvas(
            left + width + TAIL, height, svg, drawn_width=max(self.right(box.nodes[-1]) for box in boxes) + TAIL
        )

    def _bands(self, moment: Moment, height: float) -> str:
        """The pass that paid for each step, above its column; steps that are not paid for yet have none."""
        found, start = [], 0
        paid = [each for each in self.history.committed if each <= moment.verified]
        for step in range(1, len(paid) + 1):
            if step < len(paid) and paid[step] == paid[start]:
                continue
            left, right = self.columns[start][0] - 3, sum(self.columns[step - 1]) + 3
            if paid[start] % 2:
                found.append(f'<rect class="§band" x="{left:.1f}" width="{right - left:.1f}" height="{height:.1f}"/>')
            name = "prompt" if paid[start] == 0 else f"pass {paid[start]}"
            found.append(svg_text(name, (left + right) / 2, 11, "§f", "middle"))
            start = step
        for step, (left, width) in enumerate(self.columns[1:], start=1):
            found.append(svg_text(str(step), left + width / 2, 26, "§n", "middle"))
        return "".join(found)

    def _edge(self, box: Box) -> str:
        node = box.nodes[0]
        if node == 0:
            return ""
        parent = self.history.nodes[node].parent
        x0, x1 = self.right(parent), self.left(node)
        y0, y1 = self.top(parent) + self.line / 2, self.top(node) + self.line / 2
        kind = box.branch or "vain"
        if y0 == y1:
            return f'<path class="§{kind}" d="M{x0:.1f} {y0:.1f}H{x1:.1f}"/>'
        bend = min((x1 - x0) / 2, 14)
        curve = f"M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        return f'<path class="§{kind}" d="{curve}"/>'

    def _tip(self, box: Box, moment: Moment) -> str:
        """The mark after the last node of a branch."""
        node = box.nodes[-1]
        if box.branch is None or any(child in moment.branches for child in self.history.children[node].values()):
            return ""
        return mark(box.branch, self.right(node) + 3, self.top(node) + self.line / 2)

    def _box(self, box: Box) -> str:
        left, y, middle = self.left(box.nodes[0]), self.top(box.nodes[0]), self.line / 2
        width = self.right(box.nodes[-1]) - left
        kind, ids = box.state, " ".join(map(str, box.nodes))
        rect = f'<rect class="§{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{self.line:.0f}" rx="4"/>'
        if box.nodes == [0]:
            label = svg_text("prompt", left + width / 2, y + middle + TEXT / 3, "§prompt", "middle")
            return f'<g data-nodes="0">{rect}{label}</g>'
        hover = "\n\n".join(self.history.describe(n, kind, box.verified) for n in box.nodes)
        room = int((width - 2 * PAD - (SIGN if STATES[kind].sign else 0) - self.aside(box)) / COLUMN + 1e-6)
        base = y + (middle if self.crowded else 10.5) + TEXT / 3
        words = token(self.words(box.nodes, room), kind, left + PAD, base)
        return f'<g data-nodes="{ids}"><title>{text(hover)}</title>{rect}{words}{self._note(box, left, y, width)}</g>'

    def _note(self, box: Box, left: float, y: float, width: float) -> str:
        """The rounds that verified a box, and its log-probability: below its text, or the rounds beside it."""
        rounds, look = self.rounds(box), f"§n §{box.state}"
        if self.crowded:
            return svg_text(rounds, left + width - 3, y + self.line / 2 + SMALL / 3, look, "end")
        score = svg_text(self.score(box), left + width - PAD, y + 26, look, "end")
        return svg_text(rounds, left + PAD, y + 26, look) + score
