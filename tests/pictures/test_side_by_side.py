"""Two decodes beside each other: what stands where after how many passes, from traces known by heart."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_factory import TEXTS, node, random_trace, two_beams

from specbeam.core.stats import Trace, TraceRound
from specbeam.pictures.side_by_side import Lane, moments, side_by_side
from specbeam.pictures.style import PREFIX
from specbeam.pictures.trees import frames

ANY = {i: f" w{i}" for i in range(400)}


def plain() -> Trace:
    """The decode of `two_beams` with a pass for each of its five steps."""
    trace = two_beams()
    rounds = [TraceRound(asked, [], step, 0.0, 0.1, steps=1) for step, asked in enumerate(trace.steps)]
    return replace(trace, rounds=rounds)


LANES = [Lane("speculative beam search", two_beams(), TEXTS), Lane("beam search", plain(), TEXTS)]


@pytest.mark.parametrize(("passes", "steps"), [(1, (1, 1)), (2, (4, 2)), (3, (5, 3))])
def test_each_lane_stands_at_the_step_that_its_passes_paid_for(passes: int, steps: tuple[int, int]) -> None:
    assert tuple(lane.steps(passes) for lane in LANES) == steps
    html = side_by_side(LANES, passes).html()
    labels = [int(each) for each in re.findall(r"search: step (\d+) after", html)]
    assert tuple(labels) == steps
    assert html.count(f'class="{PREFIX}steps" x') == sum(steps) + 1  # and one in the legend


def test_the_words_are_those_of_the_best_beam_then_and_of_the_result_at_the_end() -> None:
    assert [LANES[0].words(passes) for passes in (1, 2, 3)] == [
        " humans",
        " humans and machines cooperate",
        " humans and machines cooperate bark",
    ]
    assert LANES[1].words(2) == " humans and"


def test_the_title_says_who_is_ahead_and_at_the_end_what_was_saved() -> None:
    assert side_by_side(LANES, 2).title == (
        "After 2 target passes: speculative beam search stands at step 4, beam search at step 2"
    )
    assert side_by_side(LANES, 3).title == (
        "Speculative beam search took 5 steps in 3 target passes, beam search needs 5: 2 target passes fewer"
    )
    assert side_by_side(LANES[::-1], 5).title.endswith("speculative beam search needs 3: 2 target passes more")
    assert side_by_side(LANES[:1], 3).title == "Speculative beam search took 5 steps in 3 target passes"


def test_no_lane_and_no_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="one lane or more"):
        side_by_side([], 1)
    with pytest.raises(ValueError, match="one pass or more"):
        side_by_side(LANES, 0)


@given(st.integers(0, 50), st.integers(0, 8))
def test_there_is_a_moment_for_each_frame_of_the_tree(seed: int, drafted: int) -> None:
    trace = random_trace(seed, drafted=drafted)
    pictures = frames(trace, ANY)
    found = moments(trace)
    assert len(found) == len(pictures)
    assert [before for _, before in found] == ["before the verdict" in picture.title for picture in pictures]


@given(st.integers(0, 30), st.integers(1, 9))
def test_any_trace_can_be_drawn_after_any_pass(seed: int, passes: int) -> None:
    trace = random_trace(seed)
    picture = side_by_side([Lane("a", trace, ANY)], passes)
    assert picture.html().count("<g><title>") == len(trace.rounds) and picture.svg().startswith("<svg")


def test_tokens_that_are_markup_and_text_from_right_to_left_stay_text() -> None:
    texts = {0: "", 1: "<script>alert(1)</script>", 2: "שלום \u202eabc"}
    nodes = [node(0, -1, 0, 0.0, verified=0, asked=0), node(1, 0, 1, -0.1, verified=1, asked=1)]
    trace = Trace(nodes, [TraceRound([0], [], 0, 0, 1, 1), TraceRound([1], [], 1, 0, 1, 1)], [[0], [1]], [[1, 2]])
    html = side_by_side([Lane("a", trace, texts)], 2).html()
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "\u202e" not in html and "שלום" in html and 'dir="auto"' in html


def test_a_long_decode_fits_into_the_width_of_a_page() -> None:
    steps = [[0]] * 600
    rounds = [TraceRound([0], [], step, 0.0, 0.1, steps=1) for step in range(600)]
    trace = Trace([node(0, -1, 0, 0.0, verified=0, asked=0)], rounds, steps, [[]])
    html = side_by_side([Lane("a", trace, TEXTS)], 300).html()
    assert float(re.findall(r'<svg [^>]*width="(\d+)" [^>]*role="img"', html)[0]) <= 760
    assert not re.findall(r'width="-?0\.0+"', html)
