"""Pictures as files and pages; colours that can be told apart by anyone; a style that keeps to itself."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest
from trace_factory import TEXTS, node, random_trace, two_beams

from specbeam.decoding.trace import Trace, TraceRound
from specbeam.pictures import beam_tree, page, round_timeline, token_strip
from specbeam.pictures.drawing import PREFIX, STYLE
from specbeam.pictures.palette import PAPER, STATES

PICTURES = {"strip": token_strip(two_beams(), TEXTS), "tree": beam_tree(two_beams(), TEXTS)}
PICTURES["timeline"] = round_timeline(two_beams())
# Machado, Oliveira and Fernandes (2009), deuteranomaly of severity 1, for linear RGB
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(np.maximum(XYZ @ rgb, 0) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of relative luminances."""
    low, high = sorted(float(XYZ[1] @ linear(each)) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_borders_have_enough_contrast(scheme):
    paper = PAPER["paper"][scheme == "dark"]
    for state in STATES.values():
        look = getattr(state, scheme)
        assert contrast(look.ink, look.fill) >= 4.5
        assert look.border == "none" or contrast(look.border, paper) >= 3
    for name in ("ink", "faint"):
        assert contrast(PAPER[name][scheme == "dark"], paper) >= 4.5
    for name in ("target", "draft", "steps"):
        assert contrast(PAPER[name][scheme == "dark"], paper) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("seen", [np.eye(3), DEUTERANOPIA], ids=["all colours", "deuteranopia"])
def test_any_two_states_differ_in_fill_or_border(scheme, seen):
    for one, other in combinations(STATES.values(), 2):
        a, b = getattr(one, scheme), getattr(other, scheme)
        borders = [look.fill if look.border == "none" else look.border for look in (a, b)]
        pairs = [(a.fill, b.fill), borders]
        apart = max(float(np.linalg.norm(lab(seen @ linear(x)) - lab(seen @ linear(y)))) for x, y in pairs)
        assert apart > 9, (one.label, other.label, apart)


def test_without_colour_states_differ_by_sign_and_by_border_or_fill():
    assert len({state.sign for state in STATES.values()}) == len(STATES)
    for scheme in ("light", "dark"):
        looks = []
        for state in STATES.values():
            filled = contrast(getattr(state, scheme).fill, PAPER["paper"][scheme == "dark"]) > 3
            looks.append((state.dash, filled))
        assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_self_contained_and_well_formed(name):
    picture = PICTURES[name]
    for markup in (picture.html(), picture.svg()):
        root = ET.fromstring(markup)
        assert not re.search(r"<script|@import|url\(|href|\bid=|\bon\w+=", markup)
        assert "§" not in markup
        for one in root.iter():
            for each in (one.get("class") or "").split():
                assert each.startswith(PREFIX) or each in ("specbeam-picture", "mathjax_ignore", "tex2jax_ignore")
    assert picture._repr_html_() == picture.html()
    assert "prefers-color-scheme:dark" in picture.html()


@pytest.mark.parametrize("name", PICTURES)
def test_a_legend_names_what_is_there(name):
    words = "".join(ET.fromstring(PICTURES[name].html()).itertext())
    expected = ("drafting", "the target's pass") if name == "timeline" else [s.label for s in STATES.values()][:4]
    assert all(label in words for label in expected)


def test_every_rule_of_the_style_is_about_pictures():
    rules = re.sub(r"@media[^{]*\{(.*?\})\}", r"\1", STYLE)
    for selectors in re.findall(r"([^{}]+)\{", rules):
        assert all(PREFIX in each for each in selectors.split(",")), selectors


def test_a_picture_saves_itself_as_svg_or_as_a_page(tmp_path):
    picture = PICTURES["tree"]
    path = picture.save(tmp_path / "new" / "tree.svg")
    assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    html = picture.save(tmp_path / "tree.HTML").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>") and picture.html() in html
    assert "default-src 'none'; style-src 'unsafe-inline'" in html
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "tree.HTML"]
    with pytest.raises(ValueError, match=r"\.svg or \.html, and '.*tree\.png' ends with \.png"):
        picture.save(tmp_path / "tree.png")


def test_many_pictures_share_a_page():
    html = page(list(PICTURES.values()), "All <of> them")
    assert html.count("<section>") == 3 and "<title>All &lt;of&gt; them</title>" in html


DRAWN = {"strip": token_strip, "tree": beam_tree, "timeline": lambda trace, texts: round_timeline(trace)}
RIGHT_TO_LEFT = dict(enumerate(["", " שלום", " عالم", "ة", " 12", " \u202eabc", "،", " ב", " م", " x"]))


def one_token() -> Trace:
    return Trace([node(0, -1, 0, 0.0, verified=0, asked=0)], [TraceRound([0], [], 0, 0.0, 1.0, 1)], [[0]], [[2]])


def wide() -> Trace:
    return random_trace(3, beams=72, steps=10, drafted=64)  # some draw the same


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_every_picture_says_that_an_empty_trace_is_empty(draw):
    with pytest.raises(ValueError, match=r"empty.*trace=True"):
        draw(Trace([], [], []), TEXTS)


@pytest.mark.parametrize("make", [one_token, wide, two_beams])
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_every_picture_draws_one_token_64_beams_and_text_from_right_to_left_within_its_frame(draw, make):
    trace = make()
    assert make is not wide or max(map(len, trace.steps)) >= 64
    picture = draw(trace, RIGHT_TO_LEFT)
    ET.fromstring(picture.html())
    root = ET.fromstring(picture.svg())
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        if (rect.get("width") or "").endswith("%"):
            continue
        assert 0 <= float(rect.get("x", 0)) <= width - float(rect.get("width", 0))
        assert 0 <= float(rect.get("y", 0)) <= height - float(rect.get("height", 0))
    words = "".join(root.itertext())
    assert "\u202e" not in words  # it would turn around all that follows
    assert len(picture.svg()) < 2e6


def test_text_from_right_to_left_keeps_its_letters_and_its_place_in_the_sentence():
    def letters(markup):
        return "".join(c for c in "".join(ET.fromstring(markup).itertext()) if "\u0590" <= c <= "\u06ff")

    trace = two_beams()  # humans and machines cooperate bark: tokens 1, 3, 4, 8, 6
    strip, tree = token_strip(trace, RIGHT_TO_LEFT), beam_tree(trace, RIGHT_TO_LEFT)
    assert letters(re.sub(r'title="[^"]*"', "", strip.html())) == "שלום" + "ة" + "م" + "،"
    for word in ("שלום", "عالم", "ة"):
        assert re.search(rf'textLength="[\d.]+" lengthAdjust="spacingAndGlyphs">{word}</text>', tree.svg())
