"""The input widgets of the playground: pair, prompt, method and options. Decodes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from specbeam.evaluation.data import CHAT, CODE

from .settings import NAMES, DecodeSettings

DRAFTS = ("auto", "trained", "recall", "ngram", "none")
OWN = "– a prompt of your own –"
EMBEDDED = "empty: the embedded model"
_LABEL = {"description_width": "8.5em"}


class Controls:
    """The input widgets, `panel` with all of them, and their values: `settings()`, `source()`.

    Args:
        initial: the settings that they show at first.
        prompts: ready prompts to choose from; that of `initial` is put in front if it is not among them.
        target, draft: as for `load_pair`.
    """

    def __init__(
        self, initial: DecodeSettings, prompts: Sequence[str] = (), target: str | None = None, draft: str = "auto"
    ) -> None:
        ready = list(dict.fromkeys([initial.prompt, *(prompts or (*CHAT, *CODE))]))
        choices = [(_shortened(each), each) for each in ready]
        self.ready = _labelled(widgets.Dropdown, "Ready prompts", options=[(OWN, None), *choices], value=initial.prompt)
        self.prompt = _labelled(widgets.Textarea, "Prompt", value=initial.prompt, rows=4)
        self.system = _labelled(
            widgets.Text, "System prompt", value=initial.system or "", placeholder="empty: that of the chat template"
        )
        self.target = _labelled(widgets.Text, "Target", value=target or "", placeholder=EMBEDDED)
        self.draft = _labelled(
            *(widgets.Combobox, "Draft"), value=draft, options=DRAFTS, placeholder="a name, hub id or folder"
        )
        methods = [(name, key) for key, name in NAMES.items()]
        self.method = _labelled(widgets.Dropdown, "Method", options=methods, value=initial.method)
        self.num_beams = _labelled(widgets.BoundedIntText, "Beams", value=initial.num_beams, min=1, max=64)
        given = initial.num_assistant_tokens
        self.automatic = widgets.Checkbox(
            value=given is None, description="automatic", indent=False, layout=widgets.Layout(width="7em")
        )
        self.budget = _labelled(
            *(widgets.BoundedIntText, "Node budget"), value=16 if given is None else given, min=0, max=1024
        )
        self.length_penalty = _labelled(widgets.FloatText, "Length penalty", value=initial.length_penalty, step=0.1)
        self.max_new_tokens = _labelled(
            widgets.BoundedIntText, "New tokens", value=initial.max_new_tokens, min=1, max=1_000_000
        )
        self.ready.observe(self._on_ready, "value")
        self.prompt.observe(self._on_prompt, "value")
        for one in (self.method, self.automatic):
            one.observe(self._disable, "value")
        self._disable()
        self.panel = self._arranged()

    def settings(self) -> DecodeSettings:
        return DecodeSettings(
            prompt=self.prompt.value,
            system=self.system.value.strip() or None,
            method=str(self.method.value),
            num_beams=self.num_beams.value,
            num_assistant_tokens=None if self.automatic.value else self.budget.value,
            length_penalty=self.length_penalty.value,
            max_new_tokens=self.max_new_tokens.value,
        )

    def source(self) -> tuple[str | None, str]:
        """Target and draft as `load_pair` takes them."""
        return self.target.value.strip() or None, self.draft.value.strip() or "auto"

    def _on_ready(self, change: Any) -> None:
        if change["new"] is not None:
            self.prompt.value = change["new"]

    def _on_prompt(self, change: Any) -> None:
        known = [value for _, value in self.ready.options]
        self.ready.value = change["new"] if change["new"] in known else None

    def _disable(self, change: Any = None) -> None:
        """Disable options without an effect. The budget always has one: a plain method's partner is decoded too."""
        self.budget.disabled = self.automatic.value
        self.num_beams.disabled = self.length_penalty.disabled = "beam" not in str(self.method.value)

    def _arranged(self) -> widgets.Widget:
        self.budget.layout.flex = "1 1 auto"  # the width that the checkbox leaves
        budget = widgets.HBox([self.budget, self.automatic])
        columns = [
            [self.ready, self.prompt, self.system],
            [self.target, self.draft, self.method],
            [self.num_beams, budget, self.length_penalty, self.max_new_tokens],
        ]
        boxes = [
            widgets.VBox(column, layout=widgets.Layout(flex=flex, min_width="0", padding="0 12px 0 0"))
            for column, flex in zip(columns, ("3 1 24em", "2 1 19em", "2 1 19em"), strict=True)
        ]
        return widgets.HBox(boxes, layout=widgets.Layout(flex_flow="row wrap", width="100%"))


def _labelled(kind: Any, description: str, **options: Any) -> Any:
    """A widget with its label, as wide as its column."""
    layout = widgets.Layout(width="auto", min_width="0")
    return kind(description=description, style=dict(_LABEL), layout=layout, **options)


def _shortened(prompt: str) -> str:
    words = " ".join(prompt.split())
    return words if len(words) <= 70 else words[:69] + "…"
