"""Words in charts, which may be anybody's: as they are, in glyphs that exist, within the figure."""

import io
import warnings

import pytest
from matplotlib import font_manager
from PIL import Image

from specbeam import pictures
from specbeam.pictures import figure_text
from specbeam.pictures.plot_style import legend_below, panels, single_axes

DOLLARS = ["$5 or $6", "a_1 $x^2$", r"\$ \frac{", "{braces} $", "$", r"\$1 and \$2"]


def methods(*names):
    """A chart of methods with these names, each a second slower than the one before it."""
    rows = [{"method": name, "seconds": [1.0 + n], "passes": None, "steps": None} for n, name in enumerate(names)]
    return pictures.four_methods(rows)


def size(figure):
    """Width and height (px) of the picture; a warning, of a missing glyph for instance, is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return Image.open(io.BytesIO(figure._repr_png_())).size


def test_signs_of_mathematics_in_names_are_shown_as_they_are():
    figure = methods(*DOLLARS)
    size(figure)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == DOLLARS
    texts = [*axes.get_yticklabels(), axes.xaxis.label, *axes.texts]
    assert not any(text.get_parse_math() for text in texts)
    assert axes.get_title(loc="left") == r"$5 or $6 runs at 6.00 × the speed of \$1 and \$2"


def test_a_legend_and_titles_hold_dollars_too():
    figure, (left, right) = panels(2, 8, 3)
    for axes in (left, right):
        axes.plot([1, 2], label="costs $5 and $6")
        axes.set_title("$a$ and $b$")
    legend_below(figure)
    figure.suptitle("from $1 to $2")
    size(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["costs $5 and $6"]
    assert not any(text.get_parse_math() for text in (*figure.legends[0].get_texts(), left.title, *figure.texts))
    assert (left.get_title(), figure.texts[0].get_text()) == ("$a$ and $b$", "from $1 to $2")


def test_numbers_on_a_logarithmic_axis_keep_their_powers():
    figure, axes = single_axes(5, 3)
    axes.plot([1, 1000], [1, 1000])
    axes.set_yscale("log")
    size(figure)
    powers = [label for label in axes.get_yticklabels() if "10^" in label.get_text()]
    assert powers and all(label.get_parse_math() for label in powers)


def test_letters_that_no_font_has_are_shown_by_their_numbers(monkeypatch):
    monkeypatch.setattr(figure_text, "_family", lambda character: None)
    figure = methods("中文", "plain", "tab\there", "half \ud800", "line")
    size(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["⟨U+4E2D⟩⟨U+6587⟩", "plain", "tab⇥here", "half ⟨U+D800⟩", "line"]


def test_letters_that_another_font_has_are_drawn_in_that_font():
    own = figure_text._letters(font_manager.findfont("DejaVu Sans"))
    others = figure_text._letters(font_manager.findfont("STIXGeneral"))
    letter = chr(min(code for code in others - own if chr(code).isprintable()))
    figure = methods(letter, "plain")
    size(figure)
    first, second = figure.axes[0].get_yticklabels()
    assert first.get_text() == letter and len(first.get_fontfamily()) == 2 and len(second.get_fontfamily()) == 1


@pytest.mark.parametrize("name", ["x" * 500, "中" * 200, "many words " * 60, "https://a.example/" + "y" * 300])
def test_a_long_name_leaves_the_chart_its_place(name):
    plain, figure = methods("plain", "other"), methods(name, "other")
    (width, height), (long_width, long_height) = size(plain), size(figure)
    assert long_width <= 1.4 * width and long_height <= 2 * height
    assert figure.axes[0].get_position().width > 0.4
    assert figure.axes[0].get_yticklabels()[0].get_text().endswith("…")
    again = figure.axes[0].get_title(loc="left")
    size(figure)
    assert figure.axes[0].get_title(loc="left") == again


def test_a_long_heading_is_broken_and_what_follows_it_stays():
    rows = [{"num_beams": 1, "num_assistant_tokens": 4, "steps_per_pass": 2.0, "speedup": 1.5}]
    figure = pictures.budget_sweep(rows, "w" * 700)
    size(figure)
    *first, last = figure.texts[0].get_text().split("\n")
    assert len(first) == 3 and first[-1].endswith("…") and last.startswith("at best 1.50 ×")


def test_titles_and_names_that_fit_are_left_alone():
    figure = methods("beam", "speculative_beam")
    before = figure.axes[0].get_title(loc="left")
    size(figure)
    assert figure.axes[0].get_title(loc="left") == before
    assert figure.axes[0].get_title(loc="left") == "speculative_beam runs at 0.50 × the speed of beam"
