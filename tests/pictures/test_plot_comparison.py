"""Charts of a comparison: what they draw, leave out and say, on rows written by hand."""

from typing import Any

import pytest
from comparison_rows import MARGIN, interval, row
from matplotlib.figure import Figure

from specbeam.pictures import acceptance, pareto
from specbeam.pictures.plot_comparison import family

ROWS = (
    "greedy",
    "speculative",
    "speculative, tolerance 0.5",
    "speculative, tolerance 2",
    "beam",
    "speculative beam",
    MARGIN,
)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        row(method, 1 + place / 10, 0.3 - place / 20, rougeL=interval(0.2, 0.1, 0.3))
        for place, method in enumerate(ROWS)
    ]


def drawn(figure: Figure) -> Figure:
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    return figure


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_pareto_has_a_panel_for_each_cost_and_labels_what_is_inexact(rows):
    figure = drawn(pareto(rows, "beam", "a title"))
    assert figure.get_suptitle() == "a title" and len(figure.axes) == 3
    names = labels(figure)
    assert "speculative, tolerance … (inexact)" in names and "speculative beam, margin … (inexact)" in names
    assert {"greedy", "speculative", "beam", "speculative beam"} <= set(names) and len(names) == 6
    first = figure.axes[0]
    assert first.get_xlabel() == "speed (× beam search)" and "nats a token" in first.get_ylabel()
    assert [text.get_text() for text in first.texts] == ["0.5", "2", "1"]


def test_pareto_leaves_out_what_the_set_does_not_have(rows):
    figure = drawn(pareto([{**each, "rougeL": None} for each in rows], "beam", "a title", length_penalty=2.0))
    assert len(figure.axes) == 2
    assert "nats / length^2" in figure.axes[0].get_ylabel()
    with pytest.raises(ValueError, match=r"7 rows .* 'speculative' .* give the rows"):
        pareto(rows, "speculative", "a title")


def test_pareto_takes_intervals_that_do_not_hold_their_value(rows):
    rows[0]["gap"] = {"value": 0.3, "low": 0.31, "high": 0.32, "n": 50}
    drawn(pareto(rows, "beam", "a title"))


def test_acceptance_is_drawn_where_enough_was_drafted():
    positions = {"speculative": {1: (5, 10), 2: (3, 6), 3: (1, 2)}, "speculative beam": {1: (9, 12)}}
    axes = drawn(acceptance(positions)).axes[0]
    assert axes.get_title(loc="left") == (
        "Of the nodes drafted first in a line the search used 50% (speculative) and 75% (speculative beam)"
    )
    assert list(axes.lines[0].get_xdata()) == [1, 2] and list(axes.lines[0].get_ydata()) == [0.5, 0.5]  # type: ignore[arg-type]
    assert len(drawn(acceptance(positions, fewest=1)).axes[0].lines[0].get_xdata()) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", [{}, {"speculative": {}}, {"speculative": {1: (0, 0)}}])
def test_acceptance_of_nothing_says_so(positions):
    assert drawn(acceptance(positions)).axes[0].get_title(loc="left") == "Nothing was drafted"


def test_a_methods_name_is_taken_apart():
    assert family("speculative, top 2") == ("speculative, top", "2")
    assert family(MARGIN) == ("speculative beam, margin", "1")
    assert family("beam sampling") == ("beam sampling", None)
