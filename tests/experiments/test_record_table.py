import csv
import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specbeam.experiments.record_table import (
    Row,
    column,
    columns,
    differing_parameters,
    export,
    headline,
    ordered,
    read_rows,
    where,
)
from specbeam.experiments.records import RunRecord

RUNS: dict[str, dict[str, Any]] = {
    "07_a": {"parameters": {"num_beams": 2, "draft": "auto"}, "metrics": {"speed": {"beam": 1.5}, "equal": True}},
    "07_b": {"parameters": {"num_beams": 4, "draft": "auto"}, "metrics": {"speed": {"beam": 9.0}, "equal": True}},
    "07_c": {"parameters": {"num_beams": 10, "draft": "007"}, "metrics": {"speed": {"beam": 2.0}, "equal": False}},
}


@pytest.fixture
def rows(tmp_path):
    for name, fields in RUNS.items():
        RunRecord("07_comparison", **fields, seconds=3.0, commit="0a1b2c").save(tmp_path / f"{name}.json")
    RunRecord("bench", status="failed", error="Kernel died").save(tmp_path / "bench.json")
    return read_rows(tmp_path)


def names(rows):
    return [row.name for row in rows]


def test_a_folder_is_read_by_name_with_those_below_and_without_hidden_files(tmp_path):
    RunRecord("a").save(tmp_path / "sweep" / "a=0.5.json")
    RunRecord("b").save(tmp_path / "b.json")
    RunRecord("c").save(tmp_path / ".c.running.json")
    RunRecord("d").save(tmp_path / ".old" / "d.json")
    (tmp_path / "e.json").write_text('{"notebook": "e", "sta')
    rows = read_rows(tmp_path)
    assert [(row.name, row.record.status) for row in rows] == [("b", "ok"), ("e", "failed"), ("sweep/a=0.5", "ok")]
    assert "not complete JSON" in rows[1].values["error"]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["notebook=07_comparison"], ["07_a", "07_b", "07_c"]),
        (["notebook=07_comparison", "num_beams=4"], ["07_b"]),
        (["status!=ok"], ["bench"]),
        (["num_beams >= 4"], ["07_b", "07_c"]),
        (["num_beams<10"], ["07_a", "07_b"]),
        (["speed.beam>1.5"], ["07_b", "07_c"]),
        (["metrics.speed.beam=2"], ["07_c"]),
        (["equal=true"], ["07_a", "07_b"]),
        (["equal=1"], []),
        (["draft=007"], ["07_c"]),
        (["commit~0a1"], ["07_a", "07_b", "07_c"]),
        (["error~died"], ["bench"]),
        (["num_beams=null"], ["bench"]),
        (["num_beams!=4"], ["07_a", "07_c", "bench"]),
        (["notebook<b"], ["07_a", "07_b", "07_c"]),
    ],
    ids=str,
)
def test_filters_keep_the_rows_that_meet_all_of_them(rows, conditions, found):
    assert names(where(rows, conditions)) == found


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("num_beams", "has the form column=value"),
        ("=4", "has the form column=value"),
        ("", "has the form column=value"),
        ("num_beam=4", "no record has a column 'num_beam'; there are, among others: num_beams"),
        ("speed=4", r"among others: speed\.beam"),
        ("xyzzy=4", "among others: name, notebook, status"),
        ("num_beams>[1]", "compares numbers or texts"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(rows, condition, reason):
    with pytest.raises(ValueError, match=f"(?i){reason}"):
        where(rows, [condition])


def test_a_short_name_means_the_field_then_the_parameter_then_the_metric():
    record = RunRecord("x", parameters={"speed": 1, "status": 2}, metrics={"speed": 3, "only": 4})
    rows = [Row("x", record, {"status": "ok", "parameters.speed": 1, "metrics.speed": 3, "metrics.only": 4})]
    assert [column(rows, name) for name in ("status", "speed", "only")] == [
        "status",
        "parameters.speed",
        "metrics.only",
    ]


def test_numbers_are_ordered_as_numbers_and_empty_values_come_last(rows):
    assert names(ordered(rows, "num_beams")) == ["07_a", "07_b", "07_c", "bench"]
    assert names(ordered(rows, "-speed.beam")) == ["07_b", "07_c", "07_a", "bench"]


def test_the_parameters_that_differ_are_those_of_one_notebook(rows):
    records = [row.record for row in rows]
    assert differing_parameters(records) == {"07_comparison": ["num_beams", "draft"]}
    assert differing_parameters(records[:2]) == {"07_comparison": ["num_beams"]}


def test_the_headline_is_the_first_plain_metrics():
    metrics = {"speed_up": 1.23456, "curve": [1], "equal": True, "a": 1, "b": "x", "c": 2}
    assert headline(RunRecord("x", metrics=metrics)) == [
        ("speed up", "1.235"),
        ("equal", "yes"),
        ("a", "1"),
        ("b", "x"),
    ]


def test_a_csv_file_holds_every_column_of_every_record(tmp_path, rows):
    path = export(rows, columns(rows), tmp_path / "deep" / "table.csv")
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["metrics.speed.beam"] for line in lines] == ["1.5", "9.0", "2.0", ""]
    assert [line["parameters.draft"] for line in lines] == ["auto", "auto", "007", ""]
    assert [line["seeds"] for line in lines] == ["[]"] * 4
    assert list(path.parent.iterdir()) == [path]


def test_a_parquet_file_keeps_types_and_writes_mixed_values_as_text(tmp_path, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows[0].values["mixed"], rows[1].values["mixed"], rows[2].values["mixed"] = 1, "two", 2**80
    path = export(rows, ["name", "parameters.num_beams", "metrics.equal", "mixed", "seeds"], tmp_path / "t.parquet")
    assert parquet.read_table(path).to_pydict() == {
        "name": ["07_a", "07_b", "07_c", "bench"],
        "parameters.num_beams": [2, 4, 10, None],
        "metrics.equal": [True, True, False, None],
        "mixed": ["1", "two", str(2**80), None],
        "seeds": ["[]"] * 4,
    }


def test_parquet_without_pyarrow_and_other_suffixes_say_what_to_do(tmp_path, rows, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'pip install "specbeam\[parquet\]"'):
        export(rows, ["name"], tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        export(rows, ["name"], tmp_path / "t.xlsx")
    assert not list(tmp_path.glob("t.*"))


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"))
    | st.lists(st.integers())
)


@given(st.lists(values, max_size=6))
@example(["0\r"])  # a lone carriage return ends a row unless it is quoted
def test_any_values_can_be_ordered_and_written_back(tmp_path_factory, items):
    rows = [
        Row(str(index), RunRecord("x"), {"metrics.v": item, "metrics.w": index}) for index, item in enumerate(items)
    ]
    rows.append(Row("last", RunRecord("x"), {"metrics.v": 1, "metrics.w": len(items)}))
    found = [row.values["metrics.v"] for row in ordered(rows, "v")]
    assert sorted(map(repr, found)) == sorted(map(repr, (row.values["metrics.v"] for row in rows)))
    numbers = [item for item in found if isinstance(item, int | float) and not isinstance(item, bool)]
    assert all(one <= other for one, other in itertools.pairwise(numbers))
    path = export(rows, ["metrics.v", "metrics.w"], tmp_path_factory.mktemp("any") / "t.csv")
    with open(path, newline="", encoding="utf-8") as file:
        assert [line["metrics.w"] for line in csv.DictReader(file)] == [str(index) for index in range(len(rows))]
