"""Charts of benchmark rows: titles state what the rows say, on rows written by hand."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from specbeam import pictures

PLAIN, PACKED = "transformers", "transformers packed"


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median - 0.1, "max": median + 0.1, "n": 3}


def row(kind: str, num_beams: int, source: str, speed: float, steps: float = 1.0, **given: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"kind": kind, "num_beams": num_beams, "source": source, "case": f"{kind}_beam_{num_beams}"}
    base |= {"speedup": spread(speed), "speedup_same_target": spread(speed / 1.25), "steps_per_pass": steps}
    base |= {"seconds": spread(8 / speed), "target_s": 6 / speed, "draft_s": 1 / speed, "search_s": 1 / speed}
    return base | given


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    found = []
    for kind, num_beams, speed in (("chat", 1, 1.0), ("chat", 4, 1.5), ("article", 4, 2.0)):
        found += [row(kind, num_beams, PLAIN, 1.0), row(kind, num_beams, PACKED, 1.25)]
        found += [row(kind, num_beams, "all", speed, steps=1 + speed)]
    return [*found, row("chat", 4, "no draft", 1.3)]


def drawn(figure: Figure) -> Figure:
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    return figure


def labels(legend: Any) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def test_speed_by_beams_has_a_panel_for_each_kind_and_both_baselines(rows):
    figure = drawn(pictures.speed_by_beams(rows))
    assert [axes.get_title() for axes in figure.axes] == ["chat", "article"]
    assert figure.get_suptitle() == (
        "'all' runs at 1.00–2.00 × the speed of transformers as it comes,\n"
        "and at 0.80–1.60 × its speed on the same packed weights"
    )
    assert set(labels(figure.legends[0])) == {"transformers as it comes", PACKED, "no draft", "all"}
    assert "×" in figure.axes[0].get_ylabel() and "num_beams" in figure.axes[0].get_xlabel()
    line = next(line for line in figure.axes[0].lines if line.get_label() == "all")
    assert list(line.get_xdata()) == [1, 4] and list(line.get_ydata()) == [1.0, 1.5]  # type: ignore[arg-type]


def test_speed_by_beams_with_one_baseline_and_one_case():
    figure = drawn(pictures.speed_by_beams([row("code", 2, PLAIN, 1.0), row("code", 2, "recall", 1.7)], "recall"))
    assert figure.get_suptitle() == "'recall' runs at 1.70 × the speed of transformers as it comes"
    with pytest.raises(ValueError, match="there are: transformers, recall"):
        pictures.speed_by_beams([row("code", 2, PLAIN, 1.0), row("code", 2, "recall", 1.7)], "all")


def test_time_split_is_in_parts_of_the_same_targets_baseline(rows):
    figure = drawn(pictures.time_split(rows))
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == (
        "'all' spends 75% of its time in the target's passes and 12% drafting;\n"
        "outside the passes at most 25% (chat, greedy)"
    )
    ends = [text.get_text().strip() for text in axes.texts]
    assert ends == ["1.25", "1.00", "1.25", "1.25", "1.00", "0.83", "0.96", "1.25", "1.00", "0.62"]
    assert labels(figure.legends[0]) == ["target's passes", "draft", "everything else"]
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert ticks[:3] == ["chat, greedy: transformers", PACKED, "all"] and "article, 4 beams: transformers" in ticks


def test_time_split_of_what_nobody_timed(rows):
    untimed = {"target_s": None, "draft_s": None, "search_s": None}
    figure = drawn(pictures.time_split([{**each, **untimed} for each in rows]))
    assert figure.axes[0].get_title(loc="left") == "Nobody timed the parts of 'all'"
    assert labels(figure.legends[0]) == ["not timed in parts"]


def test_steps_per_pass_names_the_best_and_the_worst_case(rows):
    figure = drawn(pictures.steps_per_pass(rows))
    axes = figure.axes[0]
    assert (
        axes.get_title(loc="left") == "'all' commits 3.00 steps a pass (article, 4 beams) down to 2.00 (chat, greedy)"
    )
    assert labels(figure.legends[0]) == ["one step a pass", "all", "no draft"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["chat\ngreedy", "chat\n4 beams", "article\n4 beams"]
    one = pictures.steps_per_pass([row("code", 2, "all", 1.0, steps=1.5)]).axes[0]
    assert one.get_title(loc="left") == "'all' commits 1.50 steps a pass (code, 2 beams)"
