"""The beam tree: tokens as boxes, what the draft proposed, what the target accepted, and how each beam ended.

A column is a step of the search, a box is a token, or several tokens in the same state without a branch between them.
All pictures of a trace have the same places, so that one can flip through them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from specbeam.decoding.trace import Trace

from .drawing import COLUMN, SIGN, Canvas, Picture, counted, markup
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
        height = TOP + (max(self.rows.values()) + 1) * (self.line + GAP) + 4
        svg = markup(
            "tree.svg.j2",
            tree=self,
            moment=moment,
            height=height,
            boxes=boxes,
            back_to_front=sorted(boxes, key=lambda box: _FRONT.index(box.branch)),
            PAD=PAD,
        )
        drawn_width = max(self.right(box.nodes[-1]) for box in boxes) + TAIL
        return Canvas(sum(self.columns[-1]) + TAIL, height, svg, drawn_width=drawn_width)

    def bands(self, moment: Moment) -> Iterator[tuple[int, float, float]]:
        """Each pass with the columns that it paid for, from left to right (px)."""
        paid = [each for each in self.history.committed if each <= moment.verified]
        for number, group in groupby(range(len(paid)), key=paid.__getitem__):
            steps = list(group)
            yield number, self.columns[steps[0]][0] - 3, sum(self.columns[steps[-1]]) + 3

    def is_tip(self, box: Box, moment: Moment) -> bool:
        """Whether a branch ends with this box."""
        children = self.history.children[box.nodes[-1]].values()
        return box.branch is not None and not any(child in moment.branches for child in children)

    def hover(self, box: Box) -> str:
        return "\n\n".join(self.history.describe(n, box.state, box.verified) for n in box.nodes)

    def fitted(self, box: Box) -> str:
        """The text of a box, cut to its width."""
        width = self.right(box.nodes[-1]) - self.left(box.nodes[0])
        sign = SIGN if STATES[box.state].sign else 0
        return self.words(box.nodes, int((width - 2 * PAD - sign - self.aside(box)) / COLUMN + 1e-6))
