"""The token strip: each token with what became of it, safe for any text, and the same every time."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_factory import TEXTS, random_trace, two_beams

from specbeam.pictures import token_strip
from specbeam.pictures.drawing import PREFIX

STATES = ("accepted", "rejected", "corrected", "undrafted")
HOSTILE = {0: "", 1: "<script>alert(1)</script>", 2: " שלום", 3: "\n\n", 4: "\x00\x1b", 5: "\udcf0\udc9f"}
HOSTILE |= {6: "\ud83d", 7: '"onload="x', 8: "§&amp;]]>", 9: "\u202e"}


def cells(html: str) -> list[tuple[str, str]]:
    """State and text of every token, in order."""
    root = ET.fromstring(html)
    found = []
    for span in root.iter("span"):
        name = (span.get("class") or "").removeprefix(PREFIX)
        if name in STATES:
            found.append((name, "".join(span.itertext())))
    return found


def test_a_known_strip_marks_each_token_and_shows_what_was_corrected():
    strip = token_strip(two_beams(), TEXTS)
    assert cells(strip.html()) == [
        ("undrafted", "humans"),
        ("accepted", "✓and"),
        ("accepted", "✓machines"),
        ("rejected", "✗fight"),
        ("corrected", "→cooperate"),
        ("undrafted", "bark"),
    ]
    assert strip.title == "2 of 5 tokens were drafted and accepted, 1 corrected, 2 never drafted"
    titles = re.findall(r'title="([^"]*)"', strip.html())
    assert any("log-probability -0.100 nats" in title for title in titles)
    assert any("drafted and rejected, in pass 1" in title for title in titles)


def test_a_strip_stops_at_a_round():
    shown = cells(token_strip(two_beams(), TEXTS, round=0).html())
    assert shown == [("undrafted", "humans")]
    assert len(cells(token_strip(two_beams(), TEXTS, round=1).html())) == 5


def test_another_result_can_be_shown_and_one_that_is_not_there_cannot():
    trace = two_beams()
    trace.results.append([2, 6])
    assert cells(token_strip(trace, TEXTS, result=1).html())[0] == ("undrafted", "dogs")
    with pytest.raises(ValueError, match=r"result 2 .* has 2 returned"):
        token_strip(trace, TEXTS, result=2)
    with pytest.raises(ValueError, match=r"rounds 0 .* to 2"):
        token_strip(trace, TEXTS, round=3)


def test_a_saved_trace_needs_no_texts_and_gives_the_same_picture():
    trace = two_beams()
    assert token_strip(trace.to_json(TEXTS)).html() == token_strip(trace, TEXTS).html()


def test_tokens_that_are_markup_or_no_text_are_shown_as_text():
    html = token_strip(two_beams(), HOSTILE).html()
    assert "<script" not in html
    assert [text for _, text in cells(html)] == [
        "<script>alert(1)</script>",
        "✓↵↵",
        "✓␀␛",
        "✗⟨F0⟩⟨9F⟩",
        "→§&amp;]]>",
        "⟨U+D83D⟩",
    ]
    assert html.count("<bdi>") == 6  # each isolated: none moves another
    html.encode()


def test_a_character_of_several_tokens_is_shown_whole_at_its_last():
    texts = {**TEXTS, 3: "\udcf0\udc9f", 4: "\udc98\udc80"}
    assert [text for _, text in cells(token_strip(two_beams(), texts).html())][1:3] == ["✓⟨F0⟩⟨9F⟩", "✓😀"]


def test_lines_break_after_a_line_break():
    broken = token_strip(two_beams(), {**TEXTS, 3: ":\n"})
    assert broken.html().count("<i class") == 1
    heights = [int(ET.fromstring(each.svg()).get("height", 0)) for each in (token_strip(two_beams(), TEXTS), broken)]
    assert heights[0] < heights[1]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.lists(st.text(max_size=8), min_size=9, max_size=9))
def test_any_strip_is_well_formed_and_the_same_every_time(seed, beams, words):
    trace, texts = random_trace(seed, beams), dict(enumerate(words))
    strip = token_strip(trace, texts)
    kinds = [kind for kind, _ in cells(strip.html())]
    assert len(kinds) - kinds.count("rejected") == len(trace.results[0])
    assert kinds.count("rejected") == kinds.count("corrected")
    drawn = ET.fromstring(strip.svg())
    rects = [each for each in drawn.iter("{http://www.w3.org/2000/svg}g") if each.find("{*}title") is not None]
    assert len(rects) == len(kinds)
    assert token_strip(random_trace(seed, beams), texts).svg() == strip.svg()
