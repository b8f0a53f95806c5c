"""The progress of two decodes: how far each is after so many passes, from traces known by heart."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_factory import TEXTS, node, random_trace, two_beams

from specbeam.decoding.trace import Trace, TraceRound
from specbeam.pictures import TracedDecode, progress_by_pass
from specbeam.pictures.drawing import PREFIX
from specbeam.pictures.token_text import columns

ANY = {i: f" w{i}" for i in range(400)}


def plain() -> Trace:
    """The decode of `two_beams` with a pass for each of its five steps."""
    trace = two_beams()
    rounds = [TraceRound(asked, [], step, 0.0, 0.1, steps=1) for step, asked in enumerate(trace.steps)]
    return replace(trace, rounds=rounds)


DECODES = [TracedDecode("speculative beam search", two_beams(), TEXTS), TracedDecode("beam search", plain(), TEXTS)]


@pytest.mark.parametrize(("passes", "steps"), [(1, (1, 1)), (2, (4, 2)), (3, (5, 3))])
def test_each_decode_is_at_the_step_that_its_passes_paid_for(passes: int, steps: tuple[int, int]) -> None:
    assert tuple(decode.steps(passes) for decode in DECODES) == steps
    html = progress_by_pass(DECODES, passes).html()
    labels = [int(each) for each in re.findall(r"search: step (\d+) after", html)]
    assert tuple(labels) == steps
    assert html.count(f'class="{PREFIX}steps" x') == sum(steps) + 1  # and one in the legend


def test_the_text_is_that_of_the_best_beam_then_and_of_the_result_at_the_end() -> None:
    assert [DECODES[0].text(passes) for passes in (1, 2, 3)] == [
        " humans",
        " humans and machines cooperate",
        " humans and machines cooperate bark",
    ]
    assert DECODES[1].text(2) == " humans and"


def test_the_title_says_which_is_ahead_and_at_the_end_how_many_passes_were_saved() -> None:
    assert progress_by_pass(DECODES, 2).title == (
        "After 2 target passes: speculative beam search stands at step 4, beam search at step 2"
    )
    assert progress_by_pass(DECODES, 3).title == (
        "Speculative beam search took 5 steps in 3 target passes, beam search needs 5: 2 target passes fewer"
    )
    assert progress_by_pass(DECODES[::-1], 5).title.endswith("speculative beam search needs 3: 2 target passes more")
    assert progress_by_pass(DECODES[:1], 3).title == "Speculative beam search took 5 steps in 3 target passes"


def test_no_decode_and_no_pass_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 decodes .* at least one decode"):
        progress_by_pass([], 1)
    with pytest.raises(ValueError, match=r"after 0 passes.* one pass"):
        progress_by_pass(DECODES, 0)


@given(st.integers(0, 30), st.integers(1, 9))
def test_any_trace_can_be_drawn_after_any_pass(seed: int, passes: int) -> None:
    trace = random_trace(seed)
    picture = progress_by_pass([TracedDecode("a", trace, ANY)], passes)
    assert picture.html().count("<g><title>") == len(trace.rounds) and picture.svg().startswith("<svg")


def test_tokens_that_are_markup_and_text_from_right_to_left_stay_text() -> None:
    texts = {0: "", 1: "<script>alert(1)</script>", 2: "שלום \u202eabc"}
    nodes = [node(0, -1, 0, 0.0, verified=0, asked=0), node(1, 0, 1, -0.1, verified=1, asked=1)]
    trace = Trace(nodes, [TraceRound([0], [], 0, 0, 1, 1), TraceRound([1], [], 1, 0, 1, 1)], [[0], [1]], [[1, 2]])
    html = progress_by_pass([TracedDecode("a", trace, texts)], 2).html()
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "\u202e" not in html and "שלום" in html and 'dir="auto"' in html


def test_a_long_decode_fits_into_the_width_of_a_page() -> None:
    steps = [[0]] * 600
    rounds = [TraceRound([0], [], step, 0.0, 0.1, steps=1) for step in range(600)]
    trace = Trace([node(0, -1, 0, 0.0, verified=0, asked=0)], rounds, steps, [[]])
    html = progress_by_pass([TracedDecode("a", trace, TEXTS)], 300).html()
    assert float(re.findall(r'<svg [^>]*width="(\d+)" [^>]*role="img"', html)[0]) <= 760
    assert not re.findall(r'width="-?0\.0+"', html)


@pytest.mark.parametrize("name", ["$x$ {of} " + "w" * 300, "中文" * 150])
def test_a_long_name_stays_within_its_picture(name: str) -> None:
    picture = progress_by_pass([TracedDecode(name, two_beams(), TEXTS)], 2)
    width = float(re.findall(r'<svg [^>]*width="(\d+)" [^>]*role="img"', picture.html())[0])
    label = re.findall(r">([^<]*): step 4 after 2 target passes<", picture.html())[0]
    assert label.endswith("…") and columns(label) <= 60 and 5.8 * columns(label) < width < 760
    longest = max(map(columns, re.findall(r'style="font-size:13px">([^<]*)<', picture.svg())))
    assert 7.4 * longest <= float(re.findall(r'<svg [^>]*width="(\d+)"', picture.svg())[0])
