"""A decode gone through picture by picture, with a slider or by itself: the drafts, the verdicts on them, the beams."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from specbeam.pictures.drawing import Picture
from specbeam.pictures.side_by_side import Lane, moments, side_by_side
from specbeam.pictures.trees import frames

from .page import alert

PACE_MS = 1200  # of a picture when they play by themselves


class Steps:
    """`panel` holds a slider and, for the place where it stands, two lanes side by side and the tree.

    `slider.value` is the place among `pictures`; setting it shows that picture.
    """

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self._moments: list[tuple[int, bool]] = []
        self._lanes: list[Lane] = []
        self.slider = widgets.IntSlider(
            *(0, 0, 0), description="Picture", layout=widgets.Layout(flex="1 1 20em", min_width="0")
        )
        self.play = widgets.Play(value=0, min=0, max=0, interval=PACE_MS, show_repeat=False)
        self.lanes, self.tree = widgets.HTML(), widgets.HTML()
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(self._move, "value")
        row = widgets.HBox([self.play, self.slider], layout=widgets.Layout(width="100%", align_items="center"))
        self.panel = widgets.VBox([row, self.lanes, self.tree])

    def clear(self) -> None:
        """Show nothing."""
        self.pictures, self._moments, self._lanes = [], [], []
        self.lanes.value = self.tree.value = ""

    def explain(self, lane: Lane) -> None:
        """Show this decode, from its first draft on. Raises ValueError for a trace that cannot be drawn."""
        self.clear()
        self._moments, self._lanes = moments(lane.trace), [lane]
        self.pictures = frames(lane.trace, lane.texts)
        last = len(self.pictures) - 1
        first = min(1, last)  # before that there is the prompt alone
        self.slider.max = self.play.max = last
        self.slider.value = self.play.value = first
        self._draw()

    def compare(self, lane: Lane) -> None:
        """Put another decode beside the one that is shown."""
        self._lanes = [*self._lanes[:1], lane]
        self._draw()

    def race(self) -> Picture:
        """Both lanes at their end."""
        return side_by_side(self._lanes, len(self._lanes[0].trace.rounds))

    def telling(self) -> list[Picture]:
        """The pictures to show where there is no slider: of the pass that paid for most steps, and of the end."""
        rounds, last = self._lanes[0].trace.rounds, len(self.pictures) - 1
        best = max(range(len(rounds)), key=lambda number: (number > 0, rounds[number].steps))
        places = [place for place, (number, _) in enumerate(self._moments) if number == best and place != last]
        return [self.pictures[place] for place in (*places, last)]

    def _move(self, change: Any) -> None:
        try:
            self._draw()
        except Exception as error:  # nobody is there to catch it: it would be a traceback under the panel
            self.tree.value = alert(f"{type(error).__name__}: {error}")

    def _draw(self) -> None:
        if not self.pictures:
            return
        place = min(self.slider.value, len(self.pictures) - 1)
        number, before = self._moments[place]
        self.lanes.value = side_by_side(self._lanes, max(1, number + (not before))).html()
        self.tree.value = self.pictures[place].html(follow=True)
