"""The playground: a prompt of one's own, decoded while one looks on, and then gone through pass by pass.

The decodes run in a thread, so that the notebook stays usable and a long one can be stopped. What goes wrong is said
in the panel. Whoever has no JupyterLab at hand gets a still picture of the same: `Playground.twin`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets

from specbeam.decoding.decoders import METHODS, Decoded
from specbeam.decoding.live import LiveDecode, Snapshot
from specbeam.models.load import Pair, load_pair
from specbeam.models.prompts import render_prompt
from specbeam.pictures.drawing import counted, text
from specbeam.pictures.side_by_side import Lane
from specbeam.pictures.timeline import round_timeline
from specbeam.pictures.token_strip import token_strip
from specbeam.pictures.token_text import token_texts

from .controls import Controls
from .page import STYLE, alert, block, still
from .steps import Steps
from .trial import NAMES, PARTNERS, Trial, method_table

EVERY_S = 0.25  # between two looks at a running decode
TABS = ("Pass by pass", "Four methods", "Tokens and time", "Rendered prompt")


class Playground:
    """A panel that decodes a prompt with a method of one's choice, and shows how.

    The last expression of a cell shows it: live in JupyterLab, and as its `twin` where no kernel stands behind the
    page. `results` are the `Decoded` of the last run by method, `error` is what it failed of, or "", and
    `running` says whether a run goes on.

    Args:
        pair: what `load_pair` returned for `target` and `draft`; loaded at the first run if it is None.
        trial: what the controls show at first.
        prompts: ready prompts to choose from; those of `specbeam.load("chat")` and `("code")` if there are none.
        target, draft: as for `load_pair`.
        load: called as `load(target, draft=draft)` when another pair is chosen.
    """

    def __init__(
        self,
        pair: Pair | None = None,
        trial: Trial | None = None,
        prompts: Sequence[str] = (),
        *,
        target: str | None = None,
        draft: str = "auto",
        load: Callable[..., Pair] = load_pair,
    ) -> None:
        self.controls = Controls(trial or Trial("The future of AI is"), prompts, target, draft)
        self.results: dict[str, Decoded] = {}
        self.stopped: list[str] = []
        self.error = ""
        self.trial: Trial | None = None  # that of the results
        self._pair, self._of, self._load = pair, (target, draft) if pair is not None else None, load
        self._warm: Pair | None = None
        self._thread: threading.Thread | None = None
        self._ending, self._live = threading.Event(), None
        self.running = False
        self.start_button = widgets.Button(description="Run", button_style="primary", icon="play")
        self.stop_button = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.four = widgets.Checkbox(
            value=True, description="all four methods", indent=False, layout=widgets.Layout(width="11em")
        )
        self.progress = widgets.IntProgress(min=0, max=1, layout=widgets.Layout(width="12em"))
        self.status, self.message, self.words = widgets.HTML("Ready."), widgets.HTML(), widgets.HTML()
        self.table, self.tokens, self.rendered = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.steps = Steps()
        self.start_button.on_click(lambda button: self.start())
        self.stop_button.on_click(lambda button: self.stop())
        self.panel = self._arranged()

    def start(self) -> None:
        """What the button Run does: decode in the background. Nothing happens while a run goes on."""
        if self.running:
            return
        self.running = True
        self._ending.clear()
        self.error, self.message.value = "", ""
        self.start_button.disabled, self.stop_button.disabled = True, False
        self._thread = threading.Thread(target=self._work, name="specbeam playground", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What the button Stop does: end the run after the step that it is at, and keep what there is by then."""
        self._ending.set()
        if self._live is not None:
            self._live.stop()

    def run(self) -> dict[str, Decoded]:
        """Decode what the controls say and return the results by method, once there are all. Raises ValueError."""
        self.start()
        try:
            self.wait()
        except KeyboardInterrupt:
            self.stop()
            raise
        if self.error:
            raise ValueError(self.error)
        return self.results

    def wait(self) -> None:
        """Until the run has ended."""
        if self._thread is not None:
            self._thread.join()

    def twin(self) -> str:
        """The last run as HTML without scripts: the text, its most telling pictures and the table."""
        if self.trial is None or not self.steps.pictures:
            return still([block("Playground", "<p>Nothing has been decoded yet.</p>")])
        return still(
            [
                block(
                    "The text",
                    f"<p>{text(self.trial.words())}. The prompt:</p><blockquote>{text(self.trial.prompt)}</blockquote>"
                    f"<p>What was decoded:</p><blockquote>{text(self.results[self.trial.method].text[0])}</blockquote>",
                ),
                block("Beside the same search with the other source", self.steps.race().html()),
                block("Pass by pass", "".join(picture.html() for picture in self.steps.telling())),
                block("The four methods", self.table.value),
            ]
        )

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        # one output, of which each page takes what it can show
        bundle: Any = self.panel._repr_mimebundle_(**options) or {}
        return {**bundle, "text/html": self.twin()}

    def _work(self) -> None:
        try:
            self.results, self.stopped, self.trial = {}, [], None
            self.steps.clear()
            self.progress.value = 0
            self.words.value = self.tokens.value = self.table.value = self.rendered.value = ""
            trial = self.controls.trial()
            order = trial.order(self.four.value)
            pair = self._pair_of(*self.controls.source())
            inputs = render_prompt(pair.tokenizer, trial.prompt, system=trial.system)
            shown = pair.tokenizer.decode(inputs["input_ids"][0], clean_up_tokenization_spaces=False)
            self.rendered.value = f"<pre>{text(shown)}</pre>"
            inputs = inputs.to(pair.target.device)
            self._warm_up(pair, inputs)
            for name in order:
                self._decode(pair, inputs, trial, name)
                if self._ending.is_set():
                    break
            self.status.value = text(self._summary())
        except Exception as error:  # whatever it is, the panel says it
            self._fail(error)
        finally:
            self._live, self.running = None, False
            self.start_button.disabled, self.stop_button.disabled = False, True

    def _pair_of(self, target: str | None, draft: str) -> Pair:
        """The chosen pair. It is loaded if it is not the one in memory, which goes first: both may not fit."""
        if self._pair is None or self._of != (target, draft):
            self._pair = self._of = self._warm = None
            self.status.value = f"Loading {text(target or 'the embedded model')} with the draft {text(draft)} …"
            self._pair, self._of = self._load(target, draft=draft), (target, draft)
        return self._pair

    def _warm_up(self, pair: Pair, inputs: Any) -> None:
        """The first decode of a pair also measures what a pass costs, which is not the chosen method's time."""
        if self._warm is not pair:
            self.status.value = "Warming up …"
            METHODS["speculative_beam"](pair, inputs, num_beams=2, max_new_tokens=2)
            self._warm = pair

    def _decode(self, pair: Pair, inputs: Any, trial: Trial, name: str) -> None:
        chosen = name == trial.method
        self.table.value = method_table(self.results, self.stopped, name, trial.method)
        self.progress.max, self.progress.value = trial.max_new_tokens, 0
        self._live = live = LiveDecode(pair, inputs, name, trial.options(name), EVERY_S)
        if self._ending.is_set():  # Stop was pressed just before there was anything to stop
            live.stop()
        for shot in live:
            self._watch(name, shot, chosen)
        result = live.wait()
        if live.stopped:
            self.stopped.append(name)
        self.results[name] = result
        self.table.value = method_table(self.results, self.stopped, None, trial.method)
        assert result.trace is not None
        lane = Lane(NAMES[name], result.trace[0], token_texts(result.trace[0], pair.tokenizer))
        if chosen:
            self.steps.explain(lane)
            self.trial = trial
            self.tokens.value = token_strip(lane.trace, lane.texts).html() + round_timeline(lane.trace).html()
        elif name == PARTNERS[trial.method] and not live.stopped:
            self.steps.compare(lane)

    def _watch(self, name: str, shot: Snapshot, chosen: bool) -> None:
        self.progress.value = shot.steps
        passes = counted(shot.target_passes, "target pass", "es")
        said = f"{name}: {counted(shot.steps, 'step')} in {passes}, {shot.seconds:.1f} s"
        self.status.value = text(said)
        if chosen:
            self.words.value = block(NAMES[name].capitalize(), f'<p class="words" dir="auto">{text(shot.text)}</p>')

    def _summary(self) -> str:
        if self._ending.is_set():
            return "Stopped. What was decoded by then is below."
        taken = [result.stats for result in self.results.values()]
        seconds = sum(stats.prefill_s + stats.decode_s for stats in taken)
        return f"Done: {counted(len(taken), 'decode')} in {seconds:.1f} s."

    def _fail(self, error: Exception) -> None:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        self.error = kind + (" ".join(str(error).split()) or "no reason was given.")
        self.message.value = alert(self.error)
        self.status.value = "Nothing was decoded." if not self.results else "This run ended early."

    def _arranged(self) -> widgets.Widget:
        row = partial(widgets.HBox, layout=widgets.Layout(flex_flow="row wrap", align_items="center", width="100%"))
        above = row([self.start_button, self.stop_button, self.four, self.progress, self.status])
        tabs = widgets.Tab([self.steps.panel, self.table, self.tokens, self.rendered], titles=TABS)
        panel = widgets.VBox([widgets.HTML(STYLE), self.controls.panel, above, self.message, self.words, tabs])
        panel.add_class("specbeam-play")
        return panel
