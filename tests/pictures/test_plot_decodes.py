"""Figures: titles state what the numbers say, and axes carry units."""

import pytest
from matplotlib.figure import Figure

from specbeam import pictures


def drawn(figure):
    """The figure, after it has been rendered as a notebook would."""
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    return figure


def test_pass_cost_compares_the_widest_pass_with_the_narrowest():
    axes = drawn(pictures.pass_cost([1, 64, 8], [[0.01, 0.02, 0.03], [0.08], [0.03, 0.03]])).axes[0]
    assert axes.get_title() == "A pass over 64 nodes takes 4.0 × the time of a pass over 1 node"
    assert "(ms)" in axes.get_ylabel() and "nodes" in axes.get_xlabel()
    with pytest.raises(ValueError, match="same length"):
        pictures.pass_cost([1, 2], [[0.1]])


def test_accepted_histogram_has_a_bar_for_every_size_up_to_the_largest():
    axes = drawn(pictures.accepted_histogram({1: 3, 4: 1})).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3, 0, 0, 1]  # type: ignore[union-attr]
    assert axes.get_title() == "1.75 steps a pass; 3 of 4 passes paid for one step only"
    assert pictures.accepted_histogram({2: 1}, title="mine").axes[0].get_title() == "mine"
    assert drawn(pictures.accepted_histogram({})).axes[0].get_title() == "There were no passes"


def test_four_methods_compares_what_it_is_asked_to_compare():
    rows = [
        {"method": "theirs", "seconds": [4.0, 5.0, 6.0], "passes": None, "steps": None},
        {"method": "beam", "seconds": [3.0], "passes": 10, "steps": 10},
        {"method": "speculative_beam", "seconds": [2.0, 2.0, 9.0], "passes": 5, "steps": 10},
    ]
    axes = drawn(pictures.four_methods(rows)).axes[0]
    assert axes.get_title(loc="left") == "speculative_beam runs at 1.50 × the speed of beam"
    assert "(s)" in axes.get_xlabel()
    named = pictures.four_methods(rows, compare=("theirs", "speculative_beam")).axes[0]
    assert named.get_title(loc="left") == "speculative_beam runs at 2.50 × the speed of theirs"
    both = pictures.four_methods(rows, compare=("theirs", "beam", "speculative_beam")).axes[0].get_title(loc="left")
    assert both == "speculative_beam runs at 2.50 × the speed of theirs and\nat 1.50 × the speed of beam"
    assert pictures.four_methods(rows[:2]).axes[0].get_title(loc="left") == "beam runs at 1.67 × the speed of theirs"


def test_budget_sweep_draws_a_line_for_each_number_of_beams():
    rows = [
        {"num_beams": k, "num_assistant_tokens": n, "steps_per_pass": 1 + n / k, "speedup": 1 + n / 10 / k}
        for k in (1, 4)
        for n in (0, 8)
    ]
    figure = drawn(pictures.budget_sweep(rows, "Summary"))
    title = figure.get_suptitle()
    assert title == "Summary\nat best 1.80 × transformers (1 beam, 8 drafted nodes, 9.00 steps a pass)"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["1 beam", "4 beams"]  # type: ignore[union-attr]


def test_tree_mask_counts_the_open_pairs():
    figure = drawn(pictures.tree_mask(["a", "b"], [[True, False], [True, True]]))
    assert figure.axes[0].get_title() == "2 nodes in one pass: 3 of 4 pairs are open"
