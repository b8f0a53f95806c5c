"""What many records say together: folders, repeated runs, baselines, findings and the charts of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbeam.experiments.records import RunRecord
from specbeam.pictures.plot_records import SpeedPoint, Sweep, speed_finding, speed_over_runs, sweep_lines
from specbeam.reports.record_report import (
    against_baseline,
    disagreements,
    findings,
    read_folders,
    relative_spread,
    repeated,
)
from specbeam.reports.record_speed import speed_points


def run(answer, notebook="01_toy", **changes):
    fields = {"parameters": {"num_beams": 4}, "metrics": {"answer": answer, "equal": True}}
    return RunRecord(notebook, **{**fields, **changes})


def saved(folder, **records):
    for name, record in records.items():
        record.save(folder / f"{name}.json")
    return read_folders(folder)[1]


def test_the_default_folder_is_where_the_runner_puts_this_run(tmp_path, monkeypatch):
    run(1.0).save(tmp_path / "runs" / "a.json")
    monkeypatch.setenv("SPECBEAM_RECORD", str(tmp_path / "runs" / ".08_report.running.json"))
    folders, rows = read_folders()
    assert folders == [tmp_path / "runs"] and [row.name for row in rows] == ["a"]


def test_the_default_folder_is_the_repositorys_and_may_be_missing(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPECBEAM_RECORD", raising=False)
    assert read_folders() == ([tmp_path / "build" / "runs"], [])


def test_a_folder_that_was_given_has_to_exist(tmp_path):
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        read_folders([tmp_path, tmp_path / "nowhere"])


def test_runs_of_several_folders_say_where_they_are_from_and_copies_count_once(tmp_path):
    one, two = tmp_path / "ada" / "runs", tmp_path / "bob" / "runs"
    run(1.0).save(one / "a.json")
    run(1.0).save(two / "copy.json")
    run(2.0).save(two / "a.json")
    run(3.0, notebook="08_report").save(two / "08_report.json")
    assert [row.name for row in read_folders([one, two])[1]] == ["ada/runs: a", "bob/runs: a"]


def test_a_record_of_the_first_version_is_read_with_the_others(tmp_path):
    document = json.loads(run(1.0).save(tmp_path / "new.json").read_text())
    del document["schema"]
    document["metrics"]["answer"] = 2.0
    (tmp_path / "old.json").write_text(json.dumps(document))
    (tmp_path / "broken.json").write_text("{")
    rows = read_folders(tmp_path)[1]
    assert [(row.name, row.record.status) for row in rows] == [("broken", "failed"), ("new", "ok"), ("old", "ok")]
    assert len(repeated(rows)) == 1


def test_runs_with_equal_parameters_disagree_where_a_metric_differs(tmp_path):
    here = {"machine": "here", "commit": "a" * 40}
    rows = saved(
        tmp_path,
        a=run(2.0, **here),
        b=run(1.0, machine="there", commit="a" * 40),
        c=run(9.0, parameters={"num_beams": 5}),
        d=run(9.0, status="failed"),
    )
    (found,) = disagreements(rows)
    assert found["values"] == {"a": 2.0, "b": 1.0} and found["spread"] == 0.5
    assert found["differs"] == ["machine"]
    assert disagreements(rows, tolerance=0.5) == []


def test_what_is_no_number_disagrees_at_any_difference_and_lists_are_not_compared(tmp_path):
    rows = saved(
        tmp_path,
        a=run(1.0, metrics={"answer": 1.0, "equal": True, "rows": [1]}),
        b=run(1.0, metrics={"answer": 3.0, "equal": False, "rows": [2]}),
    )
    assert [(line["metric"], line["spread"]) for line in disagreements(rows)] == [("equal", None), ("answer", 2 / 3)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_a_relative_spread_is_between_0_and_2_and_0_only_for_equal_values(values):
    spread = relative_spread(values)
    assert 0 <= spread <= 2
    assert (spread == 0) == (max(values) == min(values)) or max(values) - min(values) < 1e-300


def test_the_first_run_of_each_notebook_is_the_baseline_unless_one_is_named(tmp_path):
    rows = saved(
        tmp_path,
        a=run(2.0),
        b=run(3.0, parameters={"num_beams": 8}),
        c=run(7.0, notebook="02_alone"),
        d=run(4.0, status="failed"),
    )
    found = list(against_baseline(rows))
    assert [(line["run"], line["ratio"], line["is_baseline"]) for line in found] == [
        ("a", 1.0, True),
        ("b", 1.5, False),
    ]
    assert found[1]["parameters"] == {"num_beams": 8}
    assert [line["ratio"] for line in against_baseline(rows, "b")] == [2 / 3, 1.0]
    with pytest.raises(ValueError, match="'d' is no accepted run; there are: a, b, c"):
        list(against_baseline(rows, "d"))


def test_a_baseline_of_zero_has_no_ratios(tmp_path):
    rows = saved(tmp_path, a=run(0.0), b=run(3.0, parameters={"num_beams": 8}))
    assert [line["ratio"] for line in against_baseline(rows)] == [None, None]


def test_nothing_found_says_what_to_run():
    assert "make run-notebooks" in findings([], [])[0]


def test_findings_name_failures_differences_speeds_models_and_repeats(tmp_path):
    rows = saved(
        tmp_path,
        a=run(1.0, metrics={"answer": 1.0, "speed_open": 1.5}, parameters={"target": None}),
        b=run(2.0, metrics={"answer": 2.0, "speed_open": 0.5}, parameters={"target": None}),
        c=run(2.0, metrics={"equal": False}),
        d=run(2.0, status="failed", error="died"),
    )
    text = findings(rows, speed_points(rows))
    assert text == [
        "4 runs of 1 notebook, 1 failed: `d`.",
        "Outputs that were to be equal differed in 1 run: `c` (outputs not equal).",
        "1 of 2 measured speeds are above that of their baseline; the median with 1 beam is × 1.00.",
        "1 model (by name and dtype), 1 usable.",
        "2 runs share their parameters with another; they disagree by more than 10% on speed_open of 01_toy, "
        "answer of 01_toy.",
    ]


def point(beams, speed, series="all", exact=True, notebook="06_speed"):
    return SpeedPoint("run", notebook, series, beams, speed, exact=exact)


def test_the_finding_about_speed_counts_exact_methods_only():
    points = [point(1, 1.2), point(8, 0.9), point(8, 5.0, "wide (inexact)", exact=False)]
    assert speed_finding(points) == (
        "1 of 2 measured speeds of exact methods are above that of their baseline; "
        "the median is × 1.20 with 1 beam and × 0.90 with 8"
    )
    assert speed_finding(points[2:]) == "No measured speed is of an exact method"


def test_the_chart_of_speeds_has_a_panel_a_notebook_and_states_the_finding():
    points = [
        point(1, 1.2),
        point(4, 2.0),
        point(4, 3.0, "wide (inexact)", exact=False),
        point(2, 1.1, notebook="bench"),
    ]
    figure = speed_over_runs(points)
    assert [axes.get_title() for axes in figure.axes] == ["06_speed", "bench"]
    assert speed_finding(points).partition(";")[0] in figure.get_suptitle()
    styles = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert (styles["all"], styles["wide (inexact)"]) == ("-", "--")
    low, high = figure.axes[0].get_ylim()
    assert low < 1 and high > 3
    with pytest.raises(ValueError, match="no record holds a speed-up"):
        speed_over_runs([])


def test_the_chart_of_a_sweep_states_its_direction():
    sweep = Sweep(
        "07_comparison", "num_beams", "speed_up", {"": [(2, 1.5), (4, 1.0)], "_odd=name": [(2, 1.2), (4, 1.1)]}
    )
    (axes,) = sweep_lines([sweep]).axes
    title = axes.get_title("left")
    assert title.replace("\n", " ") == (
        "07_comparison: speed up falls with num_beams, over 2 settings of the other parameters"
    )
    one = Sweep("a", "p", "m", {"": [(1, 1.0), (2, 2.0)]})
    assert sweep_lines([one, one, one, one]).axes[3].get_title("left").endswith("m rises with p: 2 at 2 after 1 at 1")
    with pytest.raises(ValueError, match="specbeam sweep"):
        sweep_lines([])
