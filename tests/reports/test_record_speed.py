"""The speed-ups in records of every shape, and what a sweep says of a parameter."""

import pytest

from specbeam.experiments.record_table import read_rows
from specbeam.experiments.records import RunRecord
from specbeam.pictures.plot_records import Sweep, medians
from specbeam.reports.record_speed import speed_points, sweeps


@pytest.fixture
def folder(tmp_path):
    def write(*records):
        for number, record in enumerate(records):
            record.save(tmp_path / f"run_{number}.json")
        return read_rows(tmp_path)

    return write


SPREAD = {"median": 2.0, "min": 1.5, "max": 2.5, "n": 3}
INTERVAL = {"value": 1.5, "low": 1.2, "high": 1.8, "level": 0.95, "n": 9}
SHAPES = {
    "rows of a benchmark": (
        {"rows": [{"num_beams": 4, "source": "all", "speedup": 9.0, "speedup_same_target": SPREAD}]},
        [("all", 4, 2.0, True)],
    ),
    "a baseline has no speed-up": (
        {"rows": [{"num_beams": 4, "source": "theirs", "ours": False, "speedup": SPREAD}]},
        [],
    ),
    "rows of a comparison": (
        {"rows": [{"num_beams": 1, "method": "spec", "plain": "greedy", "speedup": {"beam": 1, "greedy": INTERVAL}}]},
        [("spec", 1, 1.5, True)],
    ),
    "the plain method itself": (
        {"rows": [{"num_beams": 1, "method": "greedy", "plain": "greedy", "speedup": {"greedy": INTERVAL}}]},
        [],
    ),
    "an inexact method": (
        {"rows": [{"num_beams": 2, "method": "wide", "label": "inexact", "speedup": 1.1}]},
        [("wide (inexact)", 2, 1.1, False)],
    ),
    "a sweep of budgets": (
        {"sweep": {"a prompt": [{"num_beams": 2, "num_assistant_tokens": 12, "speedup": 1.4}]}},
        [("12 nodes", 2, 1.4, True)],
    ),
    "a tree and its copies": (
        {"sweep": [{"num_beams": 8, "tree_s": 2.0, "copies_s": 3.0}]},
        [("the tree", 8, 1.5, True)],
    ),
    "by method and prompt": (
        {"speed": {"greedy": {"a": 1.1}, "beam": {"a": 1.2, "b": 1.3}}},
        [("greedy", 1, 1.1, True), ("beam", 6, 1.2, True), ("beam", 6, 1.3, True)],
    ),
    "plain numbers": (
        {"speed_open": 1.2, "speed_note": "slow", "tokens_per_second": 40.0},
        [("open", 6, 1.2, True)],
    ),
    "rows come before plain numbers": (
        {"speed_open": 1.2, "sweep": [{"num_beams": 2, "speedup": 1.4}]},
        [("the tree", 2, 1.4, True)],
    ),
    "nothing about speed": ({"answer": 42, "rows": [{"num_beams": 2, "speedup": None}]}, []),
}


@pytest.mark.parametrize(("metrics", "expected"), SHAPES.values(), ids=SHAPES)
def test_speed_ups_are_found_in_the_shapes_that_notebooks_write(folder, metrics, expected):
    rows = folder(RunRecord("01_toy", parameters={"num_beams": 6}, metrics=metrics))
    found = [(p.series, p.num_beams, p.speedup, p.exact) for p in speed_points(rows)]
    assert found == expected


def test_a_failed_run_has_no_speed(folder):
    assert speed_points(folder(RunRecord("01_toy", status="failed", metrics={"speed_open": 2.0}))) == []


def run(num_beams, answer, **more):
    return RunRecord("01_toy", parameters={"num_beams": num_beams, **more}, metrics={"equal": True, "answer": answer})


def test_a_sweep_has_a_line_for_each_setting_of_the_other_parameters(folder):
    rows = folder(
        *(run(beams, answer, draft="a", seed=0) for beams, answer in ((2, 1.0), (4, 3.0))),
        *(run(beams, answer, draft="b", seed=0) for beams, answer in ((2, 5.0), (4, 4.0))),
        run(8, 9.0, draft="c", seed=1),
    )
    (found,) = sweeps(rows)
    assert (found.parameter, found.metric) == ("num_beams", "answer")
    assert found.lines == {"draft=a": [(2, 1.0), (4, 3.0)], "draft=b": [(2, 5.0), (4, 4.0)]}
    assert found.trend == "has no single direction"


def test_repeats_of_a_point_count_by_their_median(folder):
    (found,) = sweeps(folder(run(2, 1.0), run(4, 9.0), run(4, 2.0), run(4, 3.0)))
    assert medians(found.lines[""]) == [(2, 1.0), (4, 3.0)]


@pytest.mark.parametrize(
    ("line", "trend"),
    [
        ([(1, 1.0), (2, 1.0), (3, 2.0)], "rises"),
        ([(1, 3.0), (2, 2.0)], "falls"),
        ([(1, 3.0), (2, 3.0)], "stays"),
        ([(1, 3.0), (2, 4.0), (3, 2.0)], "has no single direction"),
    ],
)
def test_a_trend_is_a_direction_that_every_step_has(line, trend):
    assert Sweep("x", "p", "m", {"": line}).trend == trend


def test_runs_that_differ_in_no_number_are_no_sweep(folder):
    assert sweeps(folder(RunRecord("a", parameters={"draft": "x"}), RunRecord("a", parameters={"draft": "y"}))) == []


def test_runs_of_equal_parameters_or_without_numbers_are_no_sweep(folder):
    assert sweeps(folder(run(2, 1.0), run(2, 2.0))) == []


def test_the_parameter_and_the_metric_can_be_chosen(folder):
    rows = folder(run(2, 1.0, seed=0), run(4, 3.0, seed=0), run(2, 2.0, seed=1))
    (found,) = sweeps(rows, parameter="seed")
    assert found.lines == {"": [(0, 1.0), (1, 2.0)]}
    assert sweeps(rows, metric="unknown") == []
    assert sweeps(rows, parameter="unknown") == []
