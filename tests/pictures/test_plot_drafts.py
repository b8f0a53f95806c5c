"""Charts of drafts: titles state what the rows say, on rows written by hand."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from specbeam import pictures


def drawn(figure: Figure) -> Figure:
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    return figure


def labels(legend: Any) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def line(axes: Any, label: str) -> list[list[float]]:
    found = next(line for line in axes.lines if line.get_label() == label)
    return [list(found.get_xdata()), list(found.get_ydata())]


def test_agreement_by_depth_compares_two_drafts_at_both_ends():
    rows = [
        {"draft": "feature", "top_1": [0.5, 0.4, 0.3], "top_4": [0.7, 0.6, 0.6]},
        {"draft": "layers", "top_1": [0.2, 0.2, 0.2], "top_4": [0.4, 0.4, 0.4]},
    ]
    assert "of 31 positions" in str(pictures.agreement_by_depth(rows, ("feature", "layers"), 31).get_suptitle())
    figure = drawn(pictures.agreement_by_depth(rows, ("feature", "layers")))
    assert figure.get_suptitle() == (
        "'feature' says the target's token at 50% of the positions, 'layers' at 20%;\nafter 2 guesses it is 30% and 20%"
    )
    assert line(figure.axes[0], "feature") == [[1, 2, 3], [0.5, 0.4, 0.3]]
    assert line(figure.axes[1], "layers") == [[1, 2, 3], [0.4, 0.4, 0.4]]
    assert labels(figure.legends[0]) == ["feature", "layers"]
    with pytest.raises(ValueError, match="there are: feature, layers"):
        pictures.agreement_by_depth(rows, ("feature", "recall"))


def test_agreement_over_time_names_the_longest_training_and_the_best_other():
    curves = {
        "feature": [(10.0, [0.1, 0.05]), (40.0, [0.3, 0.2])],
        "layers": [(20.0, [0.1]), (40.0, [0.2])],
        "shipped": [(600.0, [0.3, 0.2]), (3600.0, [0.5, 0.4])],
    }
    axes = drawn(pictures.agreement_over_time(curves)).axes[0]
    assert axes.get_title(loc="left") == (
        "'shipped' agrees at 50% of the positions after 60 min of training;\n"
        "best of the others is 'feature' with 30% after 40 s"
    )
    assert line(axes, "layers") == [[20.0, 40.0], [0.1, 0.2]] and "time" in axes.get_xlabel()
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "10 s",
        "30 s",
        "60 s",
        "3 min",
        "10 min",
        "30 min",
        "60 min",
    ]
    axes = drawn(pictures.agreement_over_time(curves | {"short": [(2.0, [0.0])]})).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()][-4:] == ["30 s", "3 min", "10 min", "30 min"]
    alone = pictures.agreement_over_time({"layers": curves["layers"]}).axes[0]
    assert alone.get_title(loc="left") == "'layers' agrees at 20% of the positions after 40 s of training"


def test_training_curves_show_the_loss_and_every_depth_over_the_same_minutes():
    training: dict[str, Any] = {"losses": [(60.0, 3.0), (120.0, 2.0)]}
    training["agreements"] = [(60.0, [0.2, 0.1]), (120.0, [0.5, 0.25])]
    figure = drawn(pictures.training_curves(training))
    assert figure.get_suptitle() == (
        "After 2 min of training the draft says the target's token at 50% of the positions,\n"
        "and at 25% after 1 guess of its own"
    )
    left, right = figure.axes
    assert list(left.lines[0].get_xdata()) == [1.0, 2.0] and list(left.lines[0].get_ydata()) == [3.0, 2.0]  # type: ignore[arg-type]
    assert line(right, "depth 2") == [[1.0, 2.0], [0.1, 0.25]]
    assert "(nats)" in left.get_ylabel() and all("(min)" in axes.get_xlabel() for axes in figure.axes)
    shallow = pictures.training_curves({"losses": [], "agreements": [(30.0, [0.5])]})
    assert shallow.get_suptitle() == "After 30 s of training the draft says the target's token at 50% of the positions"  # type: ignore[attr-defined]


def test_head_cost_shows_time_and_coverage_of_every_size():
    rows = [
        {"kept_tokens": 4000, "covered": 1.0, "seconds": {1: [0.008], 10: [0.02, 0.02, 0.05]}},
        {"kept_tokens": 1000, "covered": 0.9, "seconds": {1: [0.002], 10: [0.004, 0.005, 0.006]}},
    ]
    figure = drawn(pictures.head_cost(rows, 1000))
    assert figure.get_suptitle() == (
        "A head of 1,000 of 4,000 tokens covers 90% of what the target says;\n"
        "a level of 10 nodes takes 25% of the time that it takes with all of them"
    )
    left, right = figure.axes
    assert line(left, "level of 1 node") == [[1000, 4000], [2.0, 8.0]] and "ms" in left.get_ylabel()
    assert list(right.lines[0].get_ydata()) == [0.9, 1.0]  # type: ignore[arg-type]


def test_cost_and_steps_say_what_the_most_nodes_bring_and_cost():
    rows = [
        {"num_beams": 1, "drafted": 0, "steps_per_pass": 1.0, "chosen": False},
        {"num_beams": 1, "drafted": 14.0, "steps_per_pass": 2.5, "chosen": False},
        {"num_beams": 1, "drafted": 9.0, "steps_per_pass": 9.9, "chosen": True},
        {"num_beams": 4, "drafted": 0, "steps_per_pass": 1.0, "chosen": False},
        {"num_beams": 4, "drafted": 15.0, "steps_per_pass": 1.5, "chosen": False},
    ]
    figure = drawn(pictures.cost_and_steps([1, 8, 24], [0.04, 0.04, 0.08], rows))
    assert figure.get_suptitle() == (
        "15 drafted nodes bring 2.5 × the steps (greedy) and 1.5 × the steps (4 beams)\n"
        "for 1.5 × the cost of a pass over one"
    )
    left, right = figure.axes
    assert list(left.lines[0].get_ydata()) == [40.0, 40.0, 80.0] and "ms" in left.get_ylabel()  # type: ignore[arg-type]
    assert line(right, "greedy") == [[0, 14.0], [1.0, 2.5]]
    beyond = pictures.cost_and_steps([1, 8], [0.04, 0.06], rows)
    assert "for 1.5 ×" in beyond.get_suptitle()  # type: ignore[attr-defined]


def speed(num_beams: int, drafted: float, predicted: float, measured: list[float], chosen: bool = False) -> dict:
    found: dict[str, Any] = {"num_beams": num_beams, "drafted": drafted, "predicted": predicted}
    return found | {"passes_only": predicted + 0.1, "measured": measured, "chosen": chosen}


def test_predicted_speed_says_how_far_off_it_is_and_what_the_budget_reached():
    rows = [
        speed(1, 0, 1.0, [1.0, 1.0]),
        speed(1, 8, 1.8, [1.9, 2.0, 2.1]),
        speed(1, 6.5, 1.8, [1.8], chosen=True),
        speed(4, 0, 1.0, [1.0]),
        speed(4, 8, 1.2, [1.0]),
        speed(4, 5.0, 1.1, [1.1], chosen=True),
    ]
    figure = drawn(pictures.predicted_speed(rows))
    assert figure.get_suptitle() == (
        "The predicted speed is 5% off in the median and 20% at worst;\n"
        "the budget's choice ran at 90% (greedy) and 110% (4 beams) of the best fixed number's speed"
    )
    greedy, beams = figure.axes
    assert (greedy.get_title(), beams.get_title()) == ("greedy", "4 beams")
    assert line(greedy, "measured") == [[0, 8], [1.0, 2.0]]
    assert line(greedy, "measured, the budget's own choice") == [[6.5], [1.8]]
    assert line(beams, "predicted, passes and drafting") == [[0, 8], [1.0, 1.2]]


def test_predicted_speed_without_a_choice_or_without_drafts():
    rows = [speed(1, 0, 1.0, [1.0]), speed(1, 8, 1.1, [1.0])]
    assert pictures.predicted_speed(rows).get_suptitle() == (  # type: ignore[attr-defined]
        "The predicted speed is 10% off in the median and 10% at worst"
    )
    nothing = drawn(pictures.predicted_speed(rows[:1]))
    assert nothing.get_suptitle() == "Nothing was drafted, so nothing was predicted"
