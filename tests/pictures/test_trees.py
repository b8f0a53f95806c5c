"""The beam tree and its frames: every node once, every state by its sign, the same places in every round."""

import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_factory import TEXTS, node, random_trace, two_beams

from specbeam.decoding.trace import Trace, TraceRound
from specbeam.pictures import History, beam_tree, frames
from specbeam.pictures.drawing import PREFIX
from specbeam.pictures.tree_layout import CROWDED
from specbeam.pictures.trees import frame_moments

SVG = "{http://www.w3.org/2000/svg}"
WORD = st.text(max_size=6)
ANY = {i: f" w{i}" for i in range(400)}


def boxes(picture) -> dict[tuple[int, ...], tuple[str, str]]:
    """State and text of each box by its nodes."""
    found = {}
    for group in ET.fromstring(picture.html()).iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        words = [one.text or "" for one in group.iter(f"{SVG}text") if f"{PREFIX}n" not in (one.get("class") or "")]
        assert rect is not None
        nodes = tuple(map(int, (group.get("data-nodes") or "").split()))
        found[nodes] = ((rect.get("class") or "").removeprefix(PREFIX), "".join(words))
    return found


def lines(picture) -> Counter[str]:
    """How many lines and marks there are of each kind, the legend's left out."""
    drawing = next(one for one in ET.fromstring(picture.html()).iter(f"{SVG}svg") if one.get("role") == "img")
    return Counter((path.get("class") or "").removeprefix(PREFIX) for path in drawing.iter(f"{SVG}path"))


def test_a_known_tree_has_a_box_for_every_kind_of_node():
    picture = beam_tree(two_beams(), TEXTS)
    assert boxes(picture) == {
        (0,): ("prompt", "prompt"),
        (1,): ("undrafted", "humans"),
        (2,): ("undrafted", "dogs"),
        (3,): ("accepted", "✓and"),
        (4,): ("accepted", "✓machines"),
        (5,): ("rejected", "✗fight"),
        (6,): ("accepted", "✓bark"),
        (7,): ("rejected", "✗or"),
        (8,): ("corrected", "→cooperate"),
        (9,): ("accepted", "✓dogs"),
        (10,): ("corrected", "→$5_"),
        (11,): ("undrafted", "bark"),
    }
    assert lines(picture) == Counter(finished=5, end=1, died=4, stop=3, vain=2)
    assert picture.title == "5 steps in 3 target passes: 9 nodes taken, 2 drafted in vain"


def test_scores_and_passes_stand_in_the_boxes_and_in_words_on_hover():
    html = beam_tree(two_beams(), TEXTS).html()
    notes = re.findall(rf'class="{PREFIX}n {PREFIX}corrected">([^<]*)<', html)
    assert notes == ["p2", "−0.10", "p2", "−0.50"]
    assert "verified in pass 2" in html and "drafted and accepted, in pass 1" in html
    assert re.findall(r">(prompt|pass \d)<", html) == ["prompt", "pass 1", "pass 2", "prompt"]


def test_a_chain_of_one_kind_is_one_box_with_its_text():
    nodes = [node(0, -1, 0, 0.0, 0, asked=0)]
    nodes += [node(n, n - 1, n, -float(n), n, asked=n) for n in range(1, 9)]
    rounds = [TraceRound([n], [], n, 0.0, 1.0, 1) for n in range(9)]
    trace = Trace(nodes, rounds, [[n] for n in range(9)], [[*range(1, 9), 1]])
    found = boxes(beam_tree(trace, {**TEXTS, 9: ""}))
    assert found[tuple(range(1, 10))] == ("undrafted", "humans dogs and machines fight bark or cooperate humans")


def test_text_that_is_longer_than_its_box_is_cut():
    shown = boxes(beam_tree(two_beams(), {**TEXTS, 8: " incomprehensibilities"}))
    assert shown[(8,)][1].endswith("…") and len(shown[(8,)][1]) < 15


def test_rejected_drafts_can_be_left_out_and_are_still_counted():
    picture = beam_tree(two_beams(), TEXTS, rejected=False)
    kinds = {state for state, _ in boxes(picture).values()}
    assert kinds == {"prompt", "undrafted", "accepted", "corrected"}
    assert picture.title.endswith("2 drafted in vain (not drawn)")
    assert "rejected" not in picture.legend


def test_frames_show_each_proposal_and_then_its_verdict():
    found = frames(two_beams(), TEXTS)
    assert [each.title for each in found] == [
        "The prompt's pass: it pays for 1 step",
        "Pass 1, before the verdict: the draft proposes 6 nodes",
        "After pass 1: of 6 drafted nodes 4 taken so far, 3 steps paid for",
        "5 steps in 3 target passes: 9 nodes taken, 2 drafted in vain",
    ]
    counts = [Counter(state for state, _ in boxes(each).values()) for each in found]
    assert counts[0] == Counter(prompt=1, undrafted=2)
    assert sum(len(nodes) for nodes, (state, _) in boxes(found[1]).items() if state == "open") == 6
    assert counts[2]["rejected"] == 2 and "open" not in counts[2]
    assert found[-1].html() == beam_tree(two_beams(), TEXTS).html()
    assert found[1].html() == beam_tree(two_beams(), TEXTS, round=1, before=True).html()
    assert lines(found[0]) == Counter(running=2, tip=2)


@given(st.integers(0, 50), st.integers(0, 8))
def test_there_is_a_moment_for_each_frame_of_the_tree(seed, drafted):
    trace = random_trace(seed, drafted=drafted)
    pictures, moments = frames(trace, ANY), frame_moments(trace)
    assert len(moments) == len(pictures)
    assert [before for _, before in moments] == ["before the verdict" in picture.title for picture in pictures]


def test_a_proposal_does_not_give_away_its_verdict():
    html = frames(two_beams(), TEXTS)[1].html()
    for nodes in ("3", "4 5", "6", "7", "9"):
        box = re.search(rf'<g data-nodes="{nodes}">.*?</g>', html, re.S)
        assert box and ("verified" not in box[0] and "log-prob" not in box[0] and "−" not in box[0])
    assert html.count(f'class="{PREFIX}open"') > 3


def test_nothing_moves_from_frame_to_frame():
    found = frames(random_trace(4, beams=4, steps=8), ANY)
    places: dict[str, str] = {}
    for each in found:
        html = each.html()
        for nodes, x, y in re.findall(r'data-nodes="(\d+)[ \d]*">.*?<rect [^>]*?x="([\d.]+)" y="([\d.]+)"', html, re.S):
            assert places.setdefault(nodes, f"{x},{y}") == f"{x},{y}"
    assert len({re.search(r'viewBox="0 0 (\d+ \d+)" role', each.html())[1] for each in found}) == 1  # type: ignore[index]


@pytest.mark.parametrize("results", [[], [[2]]])
def test_a_decode_of_one_token_or_none_is_drawn(results):
    trace = Trace([node(0, -1, 0, 0.0, 0, asked=0)], [TraceRound([0], [], 0, 0.0, 1.0, 1)], [[0]], results)
    picture = beam_tree(trace, TEXTS)
    assert len(boxes(picture)) == 1 + len(results)
    assert picture.title == f"1 step in 1 target pass: {'1 node' if results else '0 nodes'} taken"
    assert len(frames(trace, TEXTS)) == 1


def test_wide_beams_are_drawn_whole():
    trace = random_trace(1, beams=64, steps=12, drafted=64, vocabulary=300)
    picture = beam_tree(trace, ANY)
    shown = [n for nodes in boxes(picture) for n in nodes]
    assert len(shown) == len(set(shown)) > CROWDED
    assert set(shown) == set(History(trace, ANY).at().states)
    assert "score" not in picture.legend and "score" in beam_tree(two_beams(), TEXTS).legend


def test_what_is_not_there_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"rounds 0 .* to 2"):
        beam_tree(two_beams(), TEXTS, round=7)
    with pytest.raises(ValueError, match="token_texts"):
        frames(two_beams())
    with pytest.raises(ValueError, match="empty"):
        frames(Trace([], [], []), TEXTS)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 8), st.lists(st.text(max_size=6), min_size=9, max_size=9)
)
def test_any_tree_is_well_formed_with_every_node_once_in_every_frame(seed, beams, steps, words):
    trace, texts = random_trace(seed, beams, steps), dict(enumerate(words))
    history = History(trace, texts)
    for each in frames(trace, texts):
        shown = [n for nodes in boxes(each) for n in nodes]
        assert len(shown) == len(set(shown))
        ET.fromstring(each.svg())
    assert set(shown) == set(history.at().states)
    assert beam_tree(trace.to_json(texts)).html() == each.html()


def test_a_tree_that_is_followed_ends_with_its_last_box_and_keeps_all_of_them() -> None:
    pictures = frames(two_beams(), TEXTS)
    pages = [picture.html(follow=True) for picture in pictures]
    widths = [float(w) for page in pages for w in re.findall(r'<svg [^>]*width="(\d+)" [^>]*role="img"', page)]
    assert len(widths) == len(pictures)
    assert widths == sorted(widths) and widths[0] < widths[-1]
    for picture in pictures:
        whole, followed = picture.html(), picture.html(follow=True)
        assert whole.count("data-nodes") == followed.count("data-nodes")
        assert "direction:rtl" in followed and "direction:rtl" not in whole
