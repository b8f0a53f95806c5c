"""The web page itself: Gradio's components, and which action answers which button.

Imports Gradio, so `server` imports this only when the page is launched. All markup comes from `markup` and the
pictures, which escape what visitors and models wrote.
"""

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

import gradio as gr

from specbeam.evaluation.data import CHAT, CODE

from .actions import Actions, Update
from .markup import PIECES, TEMPLATES, models, shown
from .settings import METHODS, Settings, settings

NAMES = ("prompt", "system", "method", "num_beams", "max_new_tokens", "length_penalty", "num_assistant_tokens")
FOLLOW, LOOK = (TEMPLATES.get_template(name).render() for name in ("follow.js", "look.js"))


class Page:
    """The page of some actions. `blocks` is what Gradio launches."""

    def __init__(self, actions: Actions):
        self.actions, self.limits = actions, actions.queue.limits
        self.parts: dict[str, Any] = {}
        with gr.Blocks(title="specbeam", analytics_enabled=False) as self.blocks:
            pair = actions.queue.pair
            self._part(gr.HTML, "head", PIECES.header(models(pair), shown(pair.name)))
            with gr.Row():
                with gr.Column(scale=1, min_width=300):
                    self._controls()
                with gr.Column(scale=2, min_width=300):
                    self._results()
            self._part(gr.HTML, "foot", PIECES.foot())
            self._wire()

    def _controls(self) -> None:
        limits = self.limits
        texts = [*CHAT, *CODE]
        self._part(gr.Textbox, "prompt", CHAT[0], label="Prompt", lines=3, max_lines=8)
        choices = [(shorten(each, 60, placeholder=" …"), each) for each in texts]
        self._part(gr.Dropdown, "examples", choices, value=None, label="Examples", filterable=False)
        with gr.Row():
            self._part(gr.Button, "run", "Run", variant="primary", min_width=80)
            self._part(gr.Button, "race", "Race all four", min_width=110)
            self._part(gr.Button, "stop", "Stop", variant="stop", interactive=False, min_width=80)
        methods = [(label, name) for name, label in METHODS.items()]
        self._part(gr.Radio, "method", methods, value=Settings.method, label="Method")
        number: dict[str, Any] = {"step": 1, "precision": 0, "buttons": []}
        beams, new = min(Settings.num_beams, limits.num_beams), min(Settings.max_new_tokens, limits.max_new_tokens)
        label = "Beams of the beam searches"
        self._part(gr.Slider, "num_beams", 1, limits.num_beams, beams, label=label, **number)
        label = "New tokens at most"
        self._part(gr.Slider, "max_new_tokens", 1, limits.max_new_tokens, new, label=label, **number)
        with gr.Accordion("More options", open=False):
            self._part(gr.Textbox, "system", label="System prompt", lines=2)
            info = "Beam scores are divided by length to this power."
            self._part(gr.Number, "length_penalty", 1.0, label="Length penalty", info=info, step=0.1)
            info = "Of the speculative methods. Empty: as many as save time on this machine, which may be none."
            label = "Drafted tokens a pass at most"
            # a text, because an empty number becomes 0 when the accordion opens
            self._part(gr.Textbox, "num_assistant_tokens", label=label, placeholder="automatic", info=info)

    def _results(self) -> None:
        with gr.Tabs(selected="run", elem_id="results") as self.parts["show"]:
            with gr.Tab("One run", id="run"):
                self._part(gr.HTML, "status", PIECES.note("Press Run to see the text come and the tree grow."))
                for name in ("answer", "links", "strip"):
                    self._part(gr.HTML, name)
                self._part(gr.HTML, "tree", js_on_load=FOLLOW)
                with gr.Row(visible=False, equal_height=True, elem_id="steps") as self.parts["steps"]:
                    self._part(gr.Button, "back", "◀ Back", min_width=66)
                    number: dict[str, Any] = {"step": 1, "precision": 0, "buttons": [], "min_width": 150, "scale": 4}
                    self._part(gr.Slider, "slider", 0, 1, 0, label="The tree, pass by pass", **number)
                    self._part(gr.Button, "next", "Next ▶", min_width=66)
                self._part(gr.HTML, "timeline")
            with gr.Tab("Race of all four", id="race"):
                words = "Press “Race all four”: each method decodes the prompt, one after the other on one model."
                self._part(gr.HTML, "race_status", PIECES.note(words))
                for name in ("cards", "race_links"):
                    self._part(gr.HTML, name)

    def _wire(self) -> None:
        parts, controls = self.parts, {self.parts[name] for name in NAMES}
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        long: dict[str, Any] = {**quiet, "concurrency_limit": None}  # the queue's line decides whose turn it is
        quick: dict[str, Any] = {**quiet, "queue": False}
        both = [parts[name] for name in ("run", "race", "stop", "show")]
        single = [parts[name] for name in ("status", "answer", "links", "strip", "tree", "steps", "slider", "timeline")]
        several = [parts[name] for name in ("race_status", "cards", "race_links")]
        parts["run"].click(self._run, controls, [*both, *single], js=LOOK, **long)
        parts["race"].click(self._race, controls, [*both, *several], js=LOOK, **long)
        parts["stop"].click(self._stop, None, None, **quick)
        parts["examples"].input(lambda chosen: chosen or "", parts["examples"], parts["prompt"], **quick)
        tree, slider = parts["tree"], parts["slider"]
        slider.input(self._step, slider, tree, trigger_mode="always_last", **quick)
        for name, by in (("back", -1), ("next", 1)):
            parts[name].click(self._move, [slider, gr.State(by)], [slider, tree], **quick)
        wanted = gr.State(False)
        filled = self.blocks.load(self._fill, None, [wanted, parts["status"], *controls], **quick)
        filled.then(self._run_if, {wanted, *controls}, [*both, *single], **long)
        self._wanted = wanted
        self.blocks.unload(self._leave)
        gr.api(self._decode, api_name="decode", concurrency_limit=None)  # type: ignore[attr-defined]

    def _part(self, kind: Any, name: str, *values: Any, **options: Any) -> None:
        if kind is gr.HTML:  # it has its own style, and scripts only where they are given
            options = {"js_on_load": None, "apply_default_css": False, **options}
        self.parts[name] = kind(*values, elem_id=name, **options)

    def _given(self, values: dict[Any, Any]) -> dict[str, Any]:
        return {name: values[self.parts[name]] for name in NAMES}

    def _updates(self, update: Update) -> dict[Any, Any]:
        """Update for named parts as Gradio takes them."""
        update, found = dict(update), {}
        if "busy" in update:
            busy = update.pop("busy")
            for name in ("run", "race", "stop"):
                found[self.parts[name]] = gr.Button(interactive=busy == (name == "stop"))
        if "show" in update:
            found[self.parts["show"]] = gr.Tabs(selected=update.pop("show"))
        if "frames" in update:
            count = update.pop("frames")
            found[self.parts["steps"]] = gr.Row(visible=count > 1)
            if count > 1:
                found[self.parts["slider"]] = gr.Slider(maximum=count - 1, value=count - 1)
        return found | {self.parts[name]: markup for name, markup in update.items()}

    def _run(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from map(self._updates, self.actions.run(_name(request), self._given(values)))

    def _race(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from map(self._updates, self.actions.race(_name(request), self._given(values)))

    def _run_if(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """What a link begins."""
        if values[self._wanted]:
            yield from self._run(values, request)
        else:
            yield {self.parts["stop"]: gr.skip()}

    def _fill(self, request: gr.Request) -> dict[Any, Any]:
        """The controls as the page's address says. An address that says something wrong fills nothing."""
        query = dict(request.query_params)
        given = {name: query[name] for name in NAMES if name in query}
        if not given:
            return {self._wanted: False}
        try:
            asked = settings(given, self.limits)
        except ValueError as error:
            return {self._wanted: False, self.parts["status"]: PIECES.refusal(f"This link does not fit here. {error}")}
        values = {name: getattr(asked, name) for name in NAMES}
        values["num_assistant_tokens"] = "" if asked.num_assistant_tokens is None else str(asked.num_assistant_tokens)
        return {self._wanted: query.get("run") == "1"} | {self.parts[name]: value for name, value in values.items()}

    def _stop(self, request: gr.Request) -> None:
        self.actions.stop(_name(request))

    def _leave(self, request: gr.Request) -> None:
        self.actions.leave(_name(request))

    def _step(self, number: Any, request: gr.Request) -> str:
        return self.actions.step(_name(request), int(number or 0))

    def _move(self, number: Any, by: int, request: gr.Request) -> dict[Any, Any]:
        number = max(0, min(int(number or 0) + by, len(self.actions.pictures(_name(request))) - 1))
        return {self.parts["slider"]: number, self.parts["tree"]: self.actions.step(_name(request), number)}

    def _decode(
        self,
        prompt: str,
        method: str = Settings.method,
        num_beams: int = Settings.num_beams,
        max_new_tokens: int = Settings.max_new_tokens,
        length_penalty: float = Settings.length_penalty,
        num_assistant_tokens: int | None = None,
        system: str = "",
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> tuple[str, dict]:
        """Decode a prompt. Returns the text and a dictionary: statistics, tokens, score, and the link's query."""
        given = Settings(prompt, system, method, num_beams, max_new_tokens, length_penalty, num_assistant_tokens)
        try:
            return self.actions.decode(_name(request), vars(given))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None


def _name(request: gr.Request) -> str:
    """A visitor's name: a secret between the browser's page and the server."""
    return request.session_hash or "api"
