"""The playground without a browser: its buttons are clicked, its slider is moved, and what it shows is read."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import ipywidgets as widgets
import pytest
from tiny_models import chat_tokenizer, tiny_llama
from transformers import LogitsProcessorList

import specbeam as sb
from specbeam.apps.playground.controls import Controls
from specbeam.apps.playground.markup import method_table, same_tokens
from specbeam.apps.playground.panel import Playground
from specbeam.apps.playground.pass_slider import PassSlider
from specbeam.apps.playground.settings import DecodeSettings
from specbeam.decoding.live import LiveDecode
from specbeam.decoding.trace import Trace
from specbeam.models.load import Pair
from specbeam.pictures import TracedDecode

PROMPT = "It rains and a river is"
SETTINGS = DecodeSettings(PROMPT, num_beams=3, max_new_tokens=8)
HOSTILE = "It rains <script>alert(1)</script> <img src=x onerror=alert(2)> \u202e and"


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(tiny_llama(), sb.RecallDraft(), chat_tokenizer())


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))


def within(widget: Any) -> Iterator[Any]:
    """A widget and all that it holds."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from within(child)


def shown(playground: Playground) -> str:
    """All markup in the panel."""
    return "".join(each.value for each in within(playground.panel) if isinstance(each, widgets.HTML))


def clicked(playground: Playground) -> Playground:
    playground.start_button.click()
    playground.wait()
    return playground


def stopped_at(monkeypatch: pytest.MonkeyPatch, method: str, step: int) -> tuple[threading.Event, threading.Event]:
    """Make the decode of a method wait at a step: it has been reached, and it may go on."""
    reached, go_on = threading.Event(), threading.Event()

    def gate(input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] - start[0] == step:
            reached.set()
            assert go_on.wait(20)
        return scores

    start: list[int] = []

    class Gated(LiveDecode):
        def __init__(self, pair: Any, inputs: Any, methods: Any, every: float):
            start[:] = [inputs["input_ids"].shape[1]]
            if method in methods:
                methods[method]["logits_processor"] = LogitsProcessorList([gate])  # type: ignore[list-item]
            super().__init__(pair, inputs, methods, every)

    monkeypatch.setattr("specbeam.apps.playground.panel.LiveDecode", Gated)
    return reached, go_on


def test_run_decodes_with_the_four_methods_what_the_decoders_give(pair: Pair) -> None:
    playground = clicked(Playground(pair, SETTINGS))
    inputs = sb.render_prompt(pair.tokenizer, PROMPT)
    assert list(playground.results) == ["speculative_beam", "beam", "greedy", "speculative"]
    for name, result in playground.results.items():
        assert result.sequences == sb.METHODS[name](pair, inputs, **SETTINGS.options(name)).sequences
    assert not playground.error and "Done: 4 decodes" in playground.status.value
    assert (playground.start_button.disabled, playground.stop_button.disabled) == (False, True)
    assert playground.table.value.count("yes, as") == 2
    assert "assistant :" in playground.rendered.value and "It rains and a river is" in playground.rendered.value


def test_without_the_other_two_only_the_search_that_was_chosen_is_decoded(pair: Pair) -> None:
    playground = Playground(pair, DecodeSettings(PROMPT, method="greedy", max_new_tokens=6))
    playground.four.value = False
    clicked(playground)
    assert list(playground.results) == ["greedy", "speculative"]
    assert "speculative decoding: step" in playground.slider.progress.value


def test_the_slider_shows_the_tree_of_its_place_and_the_progress_of_both_decodes(pair: Pair) -> None:
    playground = clicked(Playground(pair, SETTINGS))
    slider = playground.slider
    assert slider.slider.value == 1 and slider.slider.max == len(slider.pictures) - 1 >= 3
    assert slider.play.max == slider.slider.max
    seen = set()
    for place, picture in enumerate(slider.pictures):
        slider.slider.value = place
        assert picture.title in slider.tree.value
        seen.add(slider.tree.value)
    assert len(seen) == len(slider.pictures)
    passes = playground.results["speculative_beam"].stats.target_passes
    assert f"beam search: step {passes} after {passes} target passes" in slider.progress.value


def test_stop_keeps_what_there_is_and_leaves_the_other_methods_out(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = stopped_at(monkeypatch, "beam", 3)
    playground = Playground(pair, DecodeSettings(PROMPT, method="beam", num_beams=2, max_new_tokens=400))
    playground.start_button.click()
    assert reached.wait(20) and playground.running and not playground.stop_button.disabled
    playground.start_button.click()  # one run at a time: this does nothing
    playground.stop_button.click()
    go_on.set()
    playground.wait()
    assert list(playground.results) == ["beam"] and playground.stopped == ["beam"]
    assert len(playground.results["beam"].sequences[0]) == 4
    assert "Stopped" in playground.status.value and ", stopped" in playground.table.value
    assert playground.slider.pictures and not playground.start_button.disabled
    assert "data-nodes" in playground.twin()


def test_stop_during_the_second_decode_keeps_the_first_one_whole(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = stopped_at(monkeypatch, "beam", 2)
    playground = Playground(pair, SETTINGS)
    playground.start_button.click()
    assert reached.wait(20)
    playground.stop_button.click()
    go_on.set()
    playground.wait()
    assert list(playground.results) == ["speculative_beam", "beam"] and playground.stopped == ["beam"]
    assert "yes, as" not in playground.table.value  # half a text proves nothing
    assert "needs" not in playground.slider.final_progress().title  # nor is there anything to compare with


def test_a_second_run_after_a_stopped_one_is_whole(pair: Pair) -> None:
    playground = Playground(pair, SETTINGS)
    playground.start()
    playground.stop()
    playground.wait()
    assert playground.run().keys() == sb.METHODS.keys() and not playground.stopped


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "   "}, "is empty"),
        ({"draft": "<b>no</b> such"}, "&lt;b&gt;no&lt;/b&gt; such"),
    ],
)
def test_an_error_is_said_in_the_panel_and_the_next_run_is_as_if_nothing_had_been(
    pair: Pair, change: dict[str, Any], words: str
) -> None:
    def load(target: str | None, draft: str) -> Pair:
        if draft != "auto":
            raise OSError(f"there is no {draft}")
        return pair

    playground = clicked(Playground(pair, SETTINGS, load=load))
    before = {name: getattr(playground.controls, name).value for name in change}
    for name, value in change.items():
        getattr(playground.controls, name).value = value
    clicked(playground)
    assert words in playground.message.value and 'role="alert"' in playground.message.value
    assert not playground.results and not playground.start_button.disabled and playground.stop_button.disabled
    assert not playground.slider.tree.value and "Nothing has been decoded" in playground.twin()
    with pytest.raises(ValueError, match=r"\w"):
        playground.run()
    for name, value in before.items():
        getattr(playground.controls, name).value = value
    assert clicked(playground).results.keys() == sb.METHODS.keys() and not playground.message.value


def test_a_bug_in_a_picture_is_said_where_the_picture_would_stand(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    playground = clicked(Playground(pair, SETTINGS))
    monkeypatch.setattr("specbeam.apps.playground.pass_slider.progress_by_pass", lambda *_: 1 / 0)
    playground.slider.slider.value = 2
    assert "ZeroDivisionError" in playground.slider.tree.value


def test_a_pair_is_loaded_once_and_again_only_when_another_one_is_chosen(pair: Pair) -> None:
    loaded: list[Any] = []

    def load(target: str | None, draft: str) -> Pair:
        loaded.append((target, draft))
        return pair

    playground = Playground(None, DecodeSettings(PROMPT, max_new_tokens=2), target="a/b", draft="recall", load=load)
    for _ in range(2):
        clicked(playground)
    playground.controls.target.value, playground.controls.draft.value = " ", ""
    for _ in range(2):
        clicked(playground)
    assert loaded == [("a/b", "recall"), (None, "auto")] and not playground.error


def test_a_prompt_that_holds_markup_stays_text_everywhere(pair: Pair) -> None:
    playground = clicked(
        Playground(pair, DecodeSettings(HOSTILE, system="<b>bold</b> & is", max_new_tokens=6), [HOSTILE])
    )
    assert not playground.error
    pages = [shown(playground), playground.twin()]
    for picture in playground.slider.pictures:
        pages += [picture.html(), picture.svg()]
    for page in pages:
        tags = Tags(page).found
        assert not {"script", "img", "unk"} & {tag for tag, _ in tags}
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
        assert "\u202e" not in page
    assert "&lt;script&gt;" in playground.twin() and "&lt;unk&gt;" in playground.rendered.value


def test_one_output_serves_jupyterlab_and_pages_without_a_kernel(pair: Pair) -> None:
    playground = Playground(pair, SETTINGS)
    assert "Nothing has been decoded" in playground._repr_mimebundle_()["text/html"]
    playground.run()
    bundle = playground._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= bundle.keys()
    twin = bundle["text/html"]
    result = playground.results["speculative_beam"]
    assert result.text[0] in twin and PROMPT in twin and "<table" in twin and "<script" not in twin
    assert playground.slider.pictures[-1].title in twin and "before the verdict" in twin


def test_what_is_chosen_becomes_the_options_of_each_method() -> None:
    controls = Controls(DecodeSettings(PROMPT, num_beams=5))
    controls.system.value, controls.length_penalty.value = "  Be brief. ", 0.5
    assert controls.settings() == DecodeSettings(PROMPT, "Be brief.", num_beams=5, length_penalty=0.5)
    assert controls.budget.disabled and controls.source() == (None, "auto")
    controls.automatic.value, controls.budget.value = False, 0
    settings = controls.settings()
    assert settings.options("greedy") == {"max_new_tokens": 32, "do_sample": False, "trace": True}
    beam = {"max_new_tokens": 32, "do_sample": False, "trace": True, "num_beams": 5, "length_penalty": 0.5}
    assert settings.options("speculative_beam") == {**beam, "num_assistant_tokens": 0}
    assert settings.options("beam") == beam and not controls.num_beams.disabled
    controls.method.value = "speculative"
    assert controls.num_beams.disabled and controls.length_penalty.disabled


def test_a_ready_prompt_fills_the_field_and_a_changed_one_is_ones_own() -> None:
    controls = Controls(DecodeSettings(PROMPT), ["a river", "long " * 40])
    controls.ready.value = "a river"
    assert controls.prompt.value == "a river"
    controls.prompt.value = "a river is long"
    assert controls.ready.value is None and controls.prompt.value == "a river is long"
    controls.prompt.value = "long " * 40
    assert controls.ready.value == "long " * 40
    assert all(len(label) <= 70 for label, _ in controls.ready.options)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'magic'.*speculative_beam"):
        Controls(DecodeSettings(PROMPT, method="magic"))


def test_the_table_says_where_a_text_differs_and_what_is_under_way(pair: Pair) -> None:
    inputs = sb.render_prompt(pair.tokenizer, PROMPT)
    beam = sb.beam(pair, inputs, num_beams=2, max_new_tokens=4)
    other = sb.speculative_beam(pair, inputs, num_beams=2, max_new_tokens=4)
    assert same_tokens("speculative_beam", {"beam": beam, "speculative_beam": other}) == "yes, as beam"
    other.sequences[0][2] += 1
    assert same_tokens("speculative_beam", {"beam": beam, "speculative_beam": other}).endswith("from token 3 on")
    assert same_tokens("speculative_beam", {"speculative_beam": other}) == same_tokens("beam", {"beam": beam}) == ""
    html = method_table({"beam": beam}, running="greedy", chosen="beam")
    cells = [re.findall(r"<t[dh][^>]*>([^<]*)<", row) for row in html.split("<tr")[2:]]
    assert [row[1] for row in cells] == ["running …", "4", "–", "–"]
    assert html.count('class="chosen"') == 1


def test_a_slider_without_a_decode_can_be_moved_and_shows_nothing() -> None:
    slider = PassSlider()
    slider.slider.max = 5
    slider.slider.value = 3
    assert slider.tree.value == ""
    with pytest.raises(ValueError, match="empty"):
        slider.show(TracedDecode("beam search", Trace([], [], []), {}))
