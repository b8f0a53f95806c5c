"""The round timeline: heights are times, numbers are the trace's own."""

import re
import xml.etree.ElementTree as ET

import pytest
from trace_factory import random_trace, two_beams

from specbeam.decoding.trace import Trace
from specbeam.pictures import round_timeline
from specbeam.pictures.drawing import PREFIX

SVG = "{http://www.w3.org/2000/svg}"


def columns(picture):
    """For each pass: heights by part, and the numbers below."""
    found = []
    for group in ET.fromstring(picture.html()).iter(f"{SVG}g"):
        bars: dict[str, list[float]] = {}
        for rect in group.iter(f"{SVG}rect"):
            name = (rect.get("class") or "").removeprefix(PREFIX)
            bars.setdefault(name, []).append(float(rect.get("height", 0)))
        found.append((bars, [text.text for text in group.iter(f"{SVG}text")]))
    return found


def test_bars_are_as_high_as_their_times_and_steps_are_counted():
    picture = round_timeline(two_beams())
    prompt, first, second = columns(picture)
    assert first[0]["target"][0] == pytest.approx(2 * first[0]["draft"][0], abs=0.11)
    assert [len(each[0]["steps"]) for each in (prompt, first, second)] == [1, 3, 1]
    assert first[1] == ["1", "8", "6", "3"] and second[1] == ["2", "2", "0", "1"]
    assert picture.title == "5 steps in 3 target passes, the prompt's included; after it 600 ms, of which 33% drafting"


def test_a_prompt_that_takes_much_longer_is_cut_and_says_its_time():
    prompt = columns(round_timeline(two_beams()))[0]
    assert "1000" in prompt[1] and "draft" not in prompt[0]
    html = round_timeline(two_beams()).html()
    assert html.count(f'class="{PREFIX}cut"') == 1
    short = two_beams()
    short.rounds[0].target_s = 0.2
    assert f'class="{PREFIX}cut"' not in round_timeline(short).html()


def test_one_pass_no_time_and_json_are_drawn_and_an_empty_trace_is_not():
    trace = two_beams()
    assert round_timeline(trace.to_json()).svg() == round_timeline(trace).svg()
    one = Trace(trace.nodes, trace.rounds[:1], trace.steps[:1])
    one.rounds[0].target_s = 0.0
    assert len(columns(round_timeline(one))) == 1
    with pytest.raises(ValueError, match=r"empty.*trace=True"):
        round_timeline(Trace([], [], []))


@pytest.mark.parametrize("seed", range(5))
def test_the_axis_reaches_over_all_passes_but_the_prompts(seed):
    trace = random_trace(seed, steps=9)
    html = round_timeline(trace).html()
    top = max(float(each) for each in re.findall(rf'text-anchor="end" class="{PREFIX}n">([\d.]+)<', html))
    assert top >= 1e3 * max(one.draft_s + one.target_s for one in trace.rounds[1:])
