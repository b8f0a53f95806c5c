"""Which models could be used, from records alone."""

import pytest

from specbeam.experiments.record_table import Row
from specbeam.experiments.records import RunRecord
from specbeam.reports.model_table import model_table, size, unequal


def record(name="some/model", dtype: str | None = "float32", **changes):
    target = {"class": "Llama", "name": name, "dtype": dtype, "parameters": 134_515_008, "chat_template": True}
    models = {"pair": f"{name} + auto", "target": {**target, **changes.pop("about", {})}}
    return RunRecord(**{"notebook": "01_toy", "models": models, "device": "cpu", "dtype": dtype, **changes})


def rows(*records):
    return [Row(f"run_{number}", item, {}) for number, item in enumerate(records)]


def test_a_model_that_ran_is_usable_and_has_its_facts():
    assert model_table(rows(record(), record(device="cuda:0"))) == [
        {
            "model": "some/model",
            "parameters": 134_515_008,
            "dtype": "float32",
            "chat_template": True,
            "devices": ["cpu", "cuda:0"],
            "drafts": ["auto"],
            "runs": 2,
            "failed": 0,
            "usable": "yes",
            "remarks": [],
        }
    ]


def test_each_dtype_of_a_model_has_a_line():
    lines = model_table(rows(record(), record(dtype="bfloat16")))
    assert [line["dtype"] for line in lines] == ["bfloat16", "float32"]


def test_a_failed_run_counts_for_the_target_it_asked_for():
    parameters = {"target": "some/model"}
    failed = RunRecord("01_toy", status="failed", error="out of memory", parameters=parameters)
    (line,) = model_table(rows(record(), failed))
    assert (line["runs"], line["failed"], line["usable"]) == (2, 1, "yes")
    assert line["remarks"] == ["failed, `run_1`: out of memory"]
    (alone,) = model_table(rows(failed))
    assert (alone["model"], alone["usable"], alone["parameters"]) == ("some/model", "no", None)


def test_a_failed_run_has_its_own_line_where_it_may_have_been_any_dtype():
    failed = RunRecord("01_toy", status="failed", parameters={"target": "some/model"})
    lines = model_table(rows(record(), record(dtype="bfloat16"), failed))
    assert [(line["dtype"], line["usable"]) for line in lines if line["failed"]] == [(None, "no")]
    assert len(lines) == 3


def test_no_target_is_the_embedded_model_and_no_parameter_is_no_model():
    (line,) = model_table(rows(RunRecord("01_toy", parameters={"target": None})))
    assert line["model"] == "SmolLM2-135M-Instruct"
    assert model_table(rows(RunRecord("08_report", parameters={"runs": None}))) == []


def test_a_record_of_an_older_version_has_a_name_but_no_size():
    folder = "/home/ada/.cache/specbeam/SmolLM2-135M-Instruct-68c5f5ba48ad"
    old = RunRecord("01_toy", models={"pair": "x + none", "target": {"class": "Llama", "name": folder}})
    (line,) = model_table(rows(old))
    assert (line["model"], line["parameters"], line["chat_template"]) == ("SmolLM2-135M-Instruct", None, None)
    (line,) = model_table(rows(old, record("SmolLM2-135M-Instruct", dtype=None)))
    assert (line["parameters"], line["runs"]) == (134_515_008, 2)


def test_remarks_say_what_one_should_know():
    differing = record(about={"chat_template": False}, metrics={"comparisons_equal": 3, "comparisons": 4})
    (line,) = model_table(rows(differing))
    assert line["usable"] == "with differences"
    assert line["remarks"][0] == "`run_0`: 3 of 4 outputs equal"
    assert "no chat template" in line["remarks"][1]


UNEQUAL = {
    "nothing is said": ({}, None),
    "all are equal": ({"equal": True, "comparisons_equal": 4, "comparisons": 4}, None),
    "a flag": ({"equal": False}, "outputs not equal"),
    "another flag": ({"all_equal": False}, "outputs not equal"),
    "no flag of this kind": ({"unequal": False, "sequel": False}, None),
    "counts": ({"comparisons_equal": 45, "comparisons": 46}, "45 of 46 outputs equal"),
    "rows with counts": ({"rows": [{"num_beams": 2, "equal": 3, "prompts": 4}]}, "3 of 4 outputs equal"),
    "rows with flags": ({"sweep": {"a": [{"num_beams": 2, "equal": False}]}}, "outputs not equal"),
    "a baseline's row": ({"rows": [{"num_beams": 2, "equal": 3, "prompts": 4, "ours": False}]}, None),
    "an inexact method": ({"rows": [{"num_beams": 2, "equal": 3, "prompts": 4, "label": "inexact"}]}, None),
    "an exact method": (
        {"rows": [{"num_beams": 2, "equal": 3, "prompts": 4, "label": "exact"}]},
        "3 of 4 outputs equal",
    ),
}


@pytest.mark.parametrize(("metrics", "found"), UNEQUAL.values(), ids=UNEQUAL)
def test_outputs_are_unequal_only_where_a_method_promised_equal_ones(metrics, found):
    assert unequal(RunRecord("x", metrics=metrics)) == found


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        (None, "not recorded"),
        (0, "0"),
        (999, "999"),
        (12_300, "12.3 k"),
        (134_515_008, "135 M"),
        (3_085_938_688, "3.09 B"),
    ],
)
def test_a_size_is_three_digits_and_a_unit(parameters, shown):
    assert size(parameters) == shown
