"""Figures: titles state what the numbers say, axes carry units, and the strip lines up its columns."""

import pytest
from matplotlib.figure import Figure
from trace_factory import node, two_beams

from specbeam import plots
from specbeam.stats import Trace, TraceRound

WORDS = ["<prompt>", "humans", "dogs", "and", "machines", "fight", "bark", "or", "cooperate", "$5_"]


class Words:
    """A tokenizer of nine words."""

    def decode(self, tokens):
        return " " + WORDS[tokens[0]]


@pytest.fixture
def trace():
    return two_beams()


def texts(figure):
    """All annotations of a figure."""
    return {text.get_text() for text in figure.axes[0].texts}


def drawn(figure):
    """The figure, after it has been rendered as a notebook would."""
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    return figure


def test_pass_cost_compares_the_widest_pass_with_the_narrowest():
    axes = drawn(plots.pass_cost([1, 64, 8], [[0.01, 0.02, 0.03], [0.08], [0.03, 0.03]])).axes[0]
    assert axes.get_title() == "A pass over 64 nodes takes 4.0 × the time of a pass over 1 node"
    assert "(ms)" in axes.get_ylabel() and "nodes" in axes.get_xlabel()
    with pytest.raises(ValueError, match="same length"):
        plots.pass_cost([1, 2], [[0.1]])


def test_accepted_histogram_has_a_bar_for_every_size_up_to_the_largest():
    axes = drawn(plots.accepted_histogram({1: 3, 4: 1})).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3, 0, 0, 1]  # type: ignore[union-attr]
    assert axes.get_title() == "1.75 steps a pass; 3 of 4 passes paid for one step only"
    assert plots.accepted_histogram({2: 1}, title="mine").axes[0].get_title() == "mine"
    assert drawn(plots.accepted_histogram({})).axes[0].get_title() == "There were no passes"


def test_four_methods_compares_what_it_is_asked_to_compare():
    rows = [
        {"method": "theirs", "seconds": [4.0, 5.0, 6.0], "passes": None, "steps": None},
        {"method": "beam", "seconds": [3.0], "passes": 10, "steps": 10},
        {"method": "speculative_beam", "seconds": [2.0, 2.0, 9.0], "passes": 5, "steps": 10},
    ]
    axes = drawn(plots.four_methods(rows)).axes[0]
    assert axes.get_title(loc="left") == "speculative_beam runs at 1.50 × the speed of beam"
    assert "(s)" in axes.get_xlabel()
    named = plots.four_methods(rows, compare=("theirs", "speculative_beam")).axes[0]
    assert named.get_title(loc="left") == "speculative_beam runs at 2.50 × the speed of theirs"
    assert plots.four_methods(rows[:2]).axes[0].get_title(loc="left") == "beam runs at 1.67 × the speed of theirs"


def test_budget_sweep_draws_a_line_for_each_number_of_beams():
    rows = [
        {"num_beams": k, "num_assistant_tokens": n, "steps_per_pass": 1 + n / k, "speedup": 1 + n / 10 / k}
        for k in (1, 4)
        for n in (0, 8)
    ]
    figure = drawn(plots.budget_sweep(rows, "Summary"))
    title = figure.get_suptitle()
    assert title == "Summary\nat best 1.80 × transformers (1 beam, 8 drafted nodes, 9.00 steps a pass)"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["1 beam", "4 beams"]  # type: ignore[union-attr]


def test_tree_mask_counts_the_open_pairs():
    figure = drawn(plots.tree_mask(["a", "b"], [[True, False], [True, True]]))
    assert figure.axes[0].get_title() == "2 nodes in one pass: 3 of 4 pairs are open"


def test_beam_tree_shows_asked_tokens_and_counts_those_verified_in_vain(trace):
    figure = drawn(plots.beam_tree(trace, Words()))
    title = "4 steps in 2 target passes: 8 nodes asked for, 2 verified in vain"
    assert figure.axes[0].get_title(loc="left") == title
    assert {"humans", "dogs", "and", "machines", "bark", "cooperate", "$5_", "pass 2"} <= texts(figure)
    assert not {"fight", "or"} & texts(figure)  # faint, and without a label
    labels = {text.get_text() for text in figure.legends[0].get_texts()}  # type: ignore[union-attr]
    assert len(labels) == 4 and "verified, never asked for" in labels


def test_beam_tree_marks_other_results_and_stops_where_it_is_told(trace):
    trace.results.append([1, 3, 2])
    figure = drawn(plots.beam_tree(trace, Words(), max_steps=3))
    assert figure.axes[0].get_title(loc="left").startswith("3 steps in 1 target pass: 6 nodes")
    assert "cooperate" not in texts(figure) and "…" in texts(figure)
    assert "another result" in {text.get_text() for text in figure.legends[0].get_texts()}  # type: ignore[union-attr]


def test_beam_tree_of_a_decode_that_ended_at_once():
    one = Trace([node(0, -1, 0, 0.0, verified=0, asked=0)], [TraceRound([0], [], 0, 0.0, 1.0, 1)], [[0]], [[2]])
    assert "dogs" in texts(drawn(plots.beam_tree(one, Words())))
    assert plots.draft_strip(one, Words()) == ""


def test_draft_strip_marks_where_the_target_left_the_draft(trace):
    assert plots.draft_strip(trace, Words(), rounds=1) == "\n".join(
        [
            "pass 1, step 1: 2 nodes asked for, 6 drafted, 3 steps paid for",
            "  draft      and machines fight",
            "  target     ✓   ✓        ✗",
            "  corrected               cooperate",
        ]
    )


def test_draft_strip_takes_all_rounds_or_those_it_is_given(trace):
    whole = plots.draft_strip(trace, Words())
    assert whole.count("pass ") == 2
    assert plots.draft_strip(trace, Words(), rounds=[2]) == whole.partition("\n\n")[2]
    assert plots.draft_strip(trace, Words(), rounds=[0, 7]) == ""
    last = whole.splitlines()[-1]
    assert last.split() == ["added", "bark"]
