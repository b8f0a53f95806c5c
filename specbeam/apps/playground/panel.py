"""The playground: decode a prompt of your own, watch it, and then step through it pass by pass.

The decodes run in a thread, so that the notebook stays usable and a long one can be stopped. Errors appear in the
panel. Pages without JupyterLab get static HTML of the same content: `Playground.twin`.
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
from specbeam.pictures import TracedDecode, round_timeline, token_strip, token_texts
from specbeam.pictures.drawing import counted, text

from .controls import Controls
from .markup import STYLE, alert, block, method_table, static_page
from .pass_slider import PassSlider
from .settings import NAMES, PARTNERS, DecodeSettings

EVERY_S = 0.25  # between two snapshots of a running decode
TABS = ("Pass by pass", "Four methods", "Tokens and time", "Rendered prompt")


class Playground:
    """A panel that decodes a prompt with the chosen method, and shows how.

    As the last expression of a cell it is live in JupyterLab, and its `twin` on a page without a kernel. `results` are
    the `Decoded` of the last run by method, `settings` those of that run, `error` is its message or "", and `running`
    tells whether a run is going on.

    Args:
        pair: what `load_pair` returned for `target` and `draft`; None loads it at the first run.
        settings: what the controls show at first.
        prompts: ready prompts to choose from; by default those of `specbeam.load("chat")` and `("code")`.
        target, draft: as for `load_pair`.
        load: called as `load(target, draft=draft)` when another pair is chosen.
    """

    def __init__(
        self,
        pair: Pair | None = None,
        settings: DecodeSettings | None = None,
        prompts: Sequence[str] = (),
        *,
        target: str | None = None,
        draft: str = "auto",
        load: Callable[..., Pair] = load_pair,
    ) -> None:
        self.controls = Controls(settings or DecodeSettings("The future of AI is"), prompts, target, draft)
        self.results: dict[str, Decoded] = {}
        self.stopped: list[str] = []
        self.error = ""
        self.settings: DecodeSettings | None = None
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
        self.slider = PassSlider()
        self.start_button.on_click(lambda button: self.start())
        self.stop_button.on_click(lambda button: self.stop())
        self.panel = self._arranged()

    def start(self) -> None:
        """Decode in the background, as the button Run does. During a run this does nothing."""
        if self.running:
            return
        self.running = True
        self._ending.clear()
        self.error, self.message.value = "", ""
        self.start_button.disabled, self.stop_button.disabled = True, False
        self._thread = threading.Thread(target=self._work, name="specbeam playground", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run after the current step and keep its results so far, as the button Stop does."""
        self._ending.set()
        if self._live is not None:
            self._live.stop()

    def run(self) -> dict[str, Decoded]:
        """Decode with the settings of the controls, wait, and return the results by method. Raises ValueError."""
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
        """Wait until the run has ended."""
        if self._thread is not None:
            self._thread.join()

    def twin(self) -> str:
        """The last run as HTML without scripts: the text, the most telling pictures and the table."""
        if self.settings is None or not self.slider.pictures:
            return static_page([block("Playground", "<p>Nothing has been decoded yet.</p>")])
        prompt, decoded = self.settings.prompt, self.results[self.settings.method].text[0]
        quotes = (
            f"<p>{text(str(self.settings))}. The prompt:</p><blockquote>{text(prompt)}</blockquote>"
            f"<p>What was decoded:</p><blockquote>{text(decoded)}</blockquote>"
        )
        return static_page(
            [
                block("The text", quotes),
                block("Beside the same search with the other source", self.slider.final_progress().html()),
                block("Pass by pass", "".join(picture.html() for picture in self.slider.highlights())),
                block("The four methods", self.table.value),
            ]
        )

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        # one output, of which each page takes the format that it can show
        bundle: Any = self.panel._repr_mimebundle_(**options) or {}
        return {**bundle, "text/html": self.twin()}

    def _work(self) -> None:
        try:
            self.results, self.stopped, self.settings = {}, [], None
            self.slider.clear()
            self.progress.value = 0
            self.words.value = self.tokens.value = self.table.value = self.rendered.value = ""
            settings = self.controls.settings()
            pair = self._pair_of(*self.controls.source())
            inputs = render_prompt(pair.tokenizer, settings.prompt, system=settings.system)
            shown = pair.tokenizer.decode(inputs["input_ids"][0], clean_up_tokenization_spaces=False)
            self.rendered.value = f"<pre>{text(shown)}</pre>"
            inputs = inputs.to(pair.target.device)
            self._warm_up(pair, inputs)
            for name in settings.order(self.four.value):
                self._decode(pair, inputs, settings, name)
                if self._ending.is_set():
                    break
            self.status.value = text(self._summary())
        except Exception as error:  # of any kind: the panel shows it
            self._fail(error)
        finally:
            self._live, self.running = None, False
            self.start_button.disabled, self.stop_button.disabled = False, True

    def _pair_of(self, target: str | None, draft: str) -> Pair:
        """The chosen pair. Another one than that in memory is loaded, which is let go first: both may not fit."""
        if self._pair is None or self._of != (target, draft):
            self._pair = self._of = self._warm = None
            self.status.value = f"Loading {text(target or 'the embedded model')} with the draft {text(draft)} …"
            self._pair, self._of = self._load(target, draft=draft), (target, draft)
        return self._pair

    def _warm_up(self, pair: Pair, inputs: Any) -> None:
        """Make a pair's first decode, which also measures the cost of a pass: that is not the chosen method's time."""
        if self._warm is not pair:
            self.status.value = "Warming up …"
            METHODS["speculative_beam"](pair, inputs, num_beams=2, max_new_tokens=2)
            self._warm = pair

    def _decode(self, pair: Pair, inputs: Any, settings: DecodeSettings, name: str) -> None:
        chosen = name == settings.method
        self.table.value = method_table(self.results, self.stopped, name, settings.method)
        self.progress.max, self.progress.value = settings.max_new_tokens, 0
        self._live = live = LiveDecode(pair, inputs, {name: settings.options(name)}, EVERY_S)
        if self._ending.is_set():  # Stop was pressed before this decode began
            live.stop()
        for now in live:
            self._watch(name, now.shots.get(name), chosen)
        if not now.results:
            return
        self.results[name] = result = now.results[name]
        if now.stopped:
            self.stopped.append(name)
        self.table.value = method_table(self.results, self.stopped, None, settings.method)
        assert result.trace is not None
        trace = result.trace[0]
        decode = TracedDecode(NAMES[name], trace, token_texts(trace, pair.tokenizer))
        if chosen:
            self.slider.show(decode)
            self.settings = settings
            self.tokens.value = token_strip(trace, decode.texts).html() + round_timeline(trace).html()
        elif name == PARTNERS[settings.method] and not now.stopped:
            self.slider.compare(decode)

    def _watch(self, name: str, shot: Snapshot | None, chosen: bool) -> None:
        if shot is None:
            return
        self.progress.value = shot.steps
        passes = counted(shot.target_passes, "target pass", "es")
        self.status.value = text(f"{name}: {counted(shot.steps, 'step')} in {passes}, {shot.seconds:.1f} s")
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
        tabs = widgets.Tab([self.slider.panel, self.table, self.tokens, self.rendered], titles=TABS)
        panel = widgets.VBox([widgets.HTML(STYLE), self.controls.panel, above, self.message, self.words, tabs])
        panel.add_class("specbeam-play")
        return panel
