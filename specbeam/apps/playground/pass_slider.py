"""A decode picture by picture, with a slider or played: the drafts, what the target made of them, the beams."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from specbeam.pictures import Picture, TracedDecode, frames, progress_by_pass
from specbeam.pictures.trees import frame_moments

from .markup import alert

PACE_MS = 1200  # of a picture when they are played


class PassSlider:
    """`panel` holds a slider and, for its position, the progress of one or two decodes and the tree of the first.

    `slider.value` is an index of `pictures`; setting it shows that picture.
    """

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self._moments: list[tuple[int, bool]] = []
        self._decodes: list[TracedDecode] = []
        self.slider = widgets.IntSlider(
            *(0, 0, 0), description="Picture", layout=widgets.Layout(flex="1 1 20em", min_width="0")
        )
        self.play = widgets.Play(value=0, min=0, max=0, interval=PACE_MS, show_repeat=False)
        self.progress, self.tree = widgets.HTML(), widgets.HTML()
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(self._on_slide, "value")
        row = widgets.HBox([self.play, self.slider], layout=widgets.Layout(width="100%", align_items="center"))
        self.panel = widgets.VBox([row, self.progress, self.tree])

    def clear(self) -> None:
        """Show nothing."""
        self.pictures, self._moments, self._decodes = [], [], []
        self.progress.value = self.tree.value = ""

    def show(self, decode: TracedDecode) -> None:
        """Show this decode, from its first draft on. Raises ValueError for a trace that cannot be drawn."""
        self.clear()
        self._moments, self._decodes = frame_moments(decode.trace), [decode]
        self.pictures = frames(decode.trace, decode.texts)
        last = len(self.pictures) - 1
        self.slider.max = self.play.max = last
        self.slider.value = self.play.value = min(1, last)  # the first picture is the prompt alone
        self._draw()

    def compare(self, decode: TracedDecode) -> None:
        """Put the progress of another decode beside the one that is shown."""
        self._decodes = [*self._decodes[:1], decode]
        self._draw()

    def final_progress(self) -> Picture:
        """The progress of the decodes at the end of the first."""
        return progress_by_pass(self._decodes, len(self._decodes[0].trace.rounds))

    def highlights(self) -> list[Picture]:
        """The pictures to show without a slider: of the pass that paid for most steps, and of the end."""
        rounds, last = self._decodes[0].trace.rounds, len(self.pictures) - 1
        best = max(range(len(rounds)), key=lambda number: (number > 0, rounds[number].steps))
        places = [place for place, (number, _) in enumerate(self._moments) if number == best and place != last]
        return [self.pictures[place] for place in (*places, last)]

    def _on_slide(self, change: Any) -> None:
        try:
            self._draw()
        except Exception as error:  # nothing else would catch it: a traceback would appear under the panel
            self.tree.value = alert(f"{type(error).__name__}: {error}")

    def _draw(self) -> None:
        if not self.pictures:
            return
        place = min(self.slider.value, len(self.pictures) - 1)
        number, before = self._moments[place]
        self.progress.value = progress_by_pass(self._decodes, max(1, number + (not before))).html()
        self.tree.value = self.pictures[place].html(follow=True)
