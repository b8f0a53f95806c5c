"""The web page in a browser: what a visitor does, and what must then be there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from demo_pair import WORDS, Brake, braked_pair

import specbeam as sb
from specbeam.apps.demo import server as demo
from specbeam.apps.demo.settings import METHODS, Limits
from specbeam.decoding.trace import Trace
from specbeam.pictures import History
from specbeam.pictures.token_text import visible

pytest_plugins = ["browser"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting", "ignore:The copy keyword is deprecated"),  # Gradio's
]
PROMPT = "w1 w2 w3"


class Served:
    """A page with its pair, and what visitors do on it."""

    def __init__(self, pair: Any, brake: Brake | None = None):
        self.pair, self.brake = pair, brake
        self.blocks = demo.launch(pair, port=None, limits=Limits(max_new_tokens=200, waiting=5), wait=False)
        self.url = self.blocks.local_url


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    pytest.importorskip("gradio")
    found = Served(*braked_pair())
    yield found
    found.blocks.close()


@pytest.fixture
def served(server: Served) -> Iterator[Served]:
    yield server
    if server.brake is not None:
        server.brake.seconds = 0.0
        server.brake.open.set()


def ready(page: Any) -> Any:
    page.wait_for_selector("#run:enabled")
    return page


def choose(page: Any, prompt: str = PROMPT, method: str | None = None, tokens: int | None = None) -> None:
    page.fill("#prompt textarea", prompt)
    if method is not None:
        page.get_by_label(METHODS[method], exact=True).check()
    if tokens is not None:
        page.fill("#max_new_tokens input[type=number]", str(tokens))
        page.press("#max_new_tokens input[type=number]", "Tab")


def status(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#status')?.innerText?.includes(words)", arg=words)


def run(page: Any, **chosen: Any) -> None:
    choose(page, **chosen)
    page.evaluate("document.querySelectorAll('#links .sb-record').forEach((e) => e.classList.add('old'))")
    page.click("#run")
    page.wait_for_selector("#links .sb-record:not(.old)")
    ready(page)


def record(page: Any, inside: str = "#links") -> dict[str, Any]:
    with page.expect_download() as download:
        page.click(f"{inside} .sb-record")
    assert download.value.suggested_filename.startswith("specbeam-")
    with open(download.value.path(), encoding="utf-8") as file:
        return json.load(file)


def answer(words: str) -> str:
    """A text as the page shows it: what would turn the reading direction is a sign."""
    return words.strip().replace("\u202e", visible("\u202e"))


def nodes(page: Any) -> set[int]:
    return set(page.evaluate(
        "[...document.querySelectorAll('#tree [data-nodes]')].flatMap(g => g.dataset.nodes.split(' ').map(Number))"
    ))  # fmt: skip


@pytest.mark.parametrize("method", list(METHODS))
def test_each_method_runs_and_its_tree_has_the_nodes_of_the_same_decode(
    served: Served, visitors: Any, method: str
) -> None:
    page = ready(visitors.open(served.url))
    run(page, method=method, tokens=14)
    options = {"num_beams": 4} if "beam" in method else {}
    inputs = sb.render_prompt(served.pair.tokenizer, PROMPT)
    plain = sb.METHODS[method](served.pair, inputs, max_new_tokens=14, **options)
    found = record(page)["results"][method]
    assert found["sequences"] == plain.sequences
    assert page.inner_text("#answer") == answer(plain.text[0])
    trace = Trace.from_json(found["trace"])  # of this very decode: how much is drafted depends on the clock
    taken = {n for step in trace.steps for n in step}
    drafted = {n for one in trace.rounds for n in (*one.asked, *one.drafted)}
    returned = {n for path in History(found["trace"]).results for n in path}  # its end is never asked about
    assert nodes(page) == taken | drafted | returned
    assert page.locator("#timeline [data-round]").count() == len(trace.rounds)
    assert f"in {len(trace.rounds)} target pass" in page.inner_text("#status")


def test_a_run_can_be_stepped_through_pass_by_pass(served: Served, visitors: Any) -> None:
    page = ready(visitors.open(served.url))
    run(page, tokens=14)
    end = page.inner_text("#tree")
    number = page.locator("#slider input[type=number]")
    last = int(number.input_value())
    page.click("#back")
    page.wait_for_function(f"document.querySelector('#slider input[type=number]').value == {last - 1}")
    page.wait_for_function("end => document.querySelector('#tree').innerText != end", arg=end)
    page.click("#next")
    page.wait_for_function("end => document.querySelector('#tree').innerText == end", arg=end)
    number.fill("0")
    number.press("Enter")
    page.wait_for_selector('#tree:has-text("The prompt\'s pass")')
    trace = Trace.from_json(record(page)["results"]["speculative_beam"]["trace"])
    assert nodes(page) == {0, *trace.steps[1]}


def test_the_four_methods_race_and_the_speculative_ones_find_the_same(served: Served, visitors: Any) -> None:
    page = ready(visitors.open(served.url))
    choose(page, tokens=12)
    page.click("#race")
    page.wait_for_selector("#race_links .sb-record")
    for method in METHODS:
        card = page.inner_text(f"#cards [data-method={method}]")
        assert "tokens/s" in card and "12 tokens" in card and "steps a pass" in card
    assert "✓ the same 12 tokens as greedy" in page.inner_text("#cards [data-method=speculative]")
    assert "✓ the same 12 tokens as beam search" in page.inner_text("#cards [data-method=speculative_beam]")
    assert len(record(page, "#race_links")["results"]) == 4


def test_stop_ends_the_decode_and_keeps_what_there_is(served: Served, visitors: Any) -> None:
    assert served.brake is not None
    served.brake.seconds = 0.03
    page = ready(visitors.open(served.url))
    choose(page, method="greedy", tokens=200)
    page.click("#run")
    page.wait_for_selector("#answer .sb-answer")
    page.click("#stop")
    status(page, "Stopped")
    passes = served.brake.passes
    tokens = record(page)["results"]["greedy"]["sequences"][0]
    assert 0 < len(tokens) < 200
    page.wait_for_timeout(200)
    assert served.brake.passes == passes  # nothing goes on behind the page


def test_a_visitor_who_leaves_frees_the_model(served: Served, visitors: Any) -> None:
    assert served.brake is not None
    served.brake.seconds = 0.1
    first, second = ready(visitors.open(served.url)), ready(visitors.open(served.url))
    choose(first, method="greedy", tokens=200)
    first.click("#run")
    first.wait_for_selector("#answer .sb-answer")
    choose(second, method="greedy", tokens=2)
    second.click("#run")
    status(second, "1 visitor before you")
    first.context.close()
    status(second, "Done")  # within the page's patience, which is 20 s as the first decode was


def test_two_visitors_at_once_both_get_their_answers_in_turn(served: Served, visitors: Any) -> None:
    assert served.brake is not None
    served.brake.open.clear()
    first, second = ready(visitors.open(served.url)), ready(visitors.open(served.url))
    choose(first, prompt="w1 w2", tokens=8)
    choose(second, prompt="w3 w4", tokens=8)
    first.click("#run")
    status(first, "Reading the prompt")
    second.click("#run")
    status(second, "1 visitor before you")
    served.brake.open.set()
    for page, prompt in ((first, "w1 w2"), (second, "w3 w4")):
        status(page, "Done")
        inputs = sb.render_prompt(served.pair.tokenizer, prompt)
        plain = sb.beam(served.pair, inputs, num_beams=4, max_new_tokens=8)
        assert record(page)["results"]["speculative_beam"]["sequences"] == plain.sequences


def test_a_link_fills_the_page_runs_and_gives_the_same_text(served: Served, visitors: Any) -> None:
    page = ready(visitors.open(served.url))
    page.get_by_text("More options").click()
    page.fill("#system textarea", "w5 <b> & % +")
    page.fill("#num_assistant_tokens textarea", "7")
    run(page, prompt="w1 ½\n👩‍👩‍👧 # ? w2", tokens=11)
    link = page.get_attribute("#links .sb-link", "href")
    again = visitors.open(served.url + link)
    status(again, "Done")
    assert again.inner_text("#answer") == page.inner_text("#answer")
    ours, theirs = record(page), record(again)
    assert ours["parameters"] == theirs["parameters"] and ours["parameters"]["num_assistant_tokens"] == 7
    key = "speculative_beam"
    assert ours["results"][key]["sequences"] == theirs["results"][key]["sequences"]
    assert again.input_value("#prompt textarea") == "w1 ½\n👩‍👩‍👧 # ? w2"
    assert again.get_attribute("#links .sb-link", "href") == link


def test_a_link_that_asks_too_much_is_refused_and_runs_nothing(served: Served, visitors: Any) -> None:
    page = ready(visitors.open(served.url + "?prompt=w1&num_beams=99&run=1"))
    status(page, "whole number from 1 to 16")
    assert page.locator("#answer .sb-answer").count() == 0


def test_an_untouched_budget_stays_automatic_when_the_options_are_opened(served: Served, visitors: Any) -> None:
    page = ready(visitors.open(served.url))
    page.get_by_text("More options").click()
    page.wait_for_selector("#num_assistant_tokens textarea:visible")
    run(page, tokens=4)
    assert record(page)["parameters"]["num_assistant_tokens"] is None


def test_markup_in_prompts_and_answers_stays_text(served: Served, visitors: Any) -> None:
    page = ready(visitors.open(served.url))
    prompt = " ".join(WORDS[1:12])
    run(page, prompt=prompt, method="beam", tokens=40)
    steps = int(page.locator("#slider input[type=number]").input_value())
    for _ in range(min(steps, 5)):
        page.click("#back")
    page.click("#race")
    page.wait_for_selector("#race_links .sb-record")
    again = visitors.open(served.url + page.get_attribute("#race_links .sb-link", "href"))
    status(again, "Done")
    for each in (page, again):
        assert each.evaluate("window.hacked") is None
        assert each.locator("script", has_text="window.hacked=1</").count() == 0
        assert each.locator("img[src=x]").count() == 0
        assert WORDS[1] in each.text_content("body")
    assert again.input_value("#prompt textarea") == prompt


@pytest.mark.parametrize(
    ("prompt", "words"), [("w " * 2500, "5000 characters"), ("w1 " * 1100, "1100 tokens"), (" ", "empty")]
)
def test_prompts_that_are_too_long_or_empty_are_refused_in_the_page(
    served: Served, visitors: Any, prompt: str, words: str
) -> None:
    page = ready(visitors.open(served.url))
    choose(page, prompt=prompt)
    page.click("#run")
    status(page, words)
    run(page, tokens=3)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_nothing_is_wider_than_the_window(served: Served, visitors: Any, width: int, dark: bool) -> None:
    page = ready(visitors.open(served.url, width=width, dark=dark))
    run(page, tokens=20)
    page.click("#race")
    page.wait_for_selector("#race_links .sb-record")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.model
def test_the_embedded_pair_shows_text_tree_and_equality(visitors: Any) -> None:
    pytest.importorskip("gradio")
    served = Served(sb.load_pair())
    try:
        page = ready(visitors.open(served.url))
        run(page, prompt="The future of AI is", tokens=12)
        inputs = sb.render_prompt(served.pair.tokenizer, "The future of AI is")
        plain = sb.beam(served.pair, inputs.to(served.pair.target.device), num_beams=4, max_new_tokens=12)
        assert page.inner_text("#answer").strip() == plain.text[0].strip()
        trace = Trace.from_json(record(page)["results"]["speculative_beam"]["trace"])
        assert nodes(page) >= {n for step in trace.steps for n in step}
        page.click("#race")
        page.wait_for_selector("#race_links .sb-record", timeout=60_000)
        assert page.inner_text("#cards").count("✓ the same 12 tokens") == 2
    finally:
        served.blocks.close()
