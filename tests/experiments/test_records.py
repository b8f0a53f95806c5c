import json
import os
from dataclasses import asdict, fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from notebook_factory import write_notebook

from specbeam.experiments import record_schema
from specbeam.experiments.provenance import notebook_sha256
from specbeam.experiments.records import RunRecord, plain, spread
from specbeam.files import write_atomic


def test_a_record_comes_back_as_it_was_saved(tmp_path):
    record = RunRecord.collect("01_toy", {"seed": 3, "repeats": 5}, {"speed": 1.5}, {"greedy_s": [3, 1, 2]})
    path = record.save(tmp_path / "deep" / "01_toy.json")
    assert RunRecord.load(path) == record
    assert record.timings == {"greedy_s": {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}}
    assert (record.seeds, record.repeats, record.status) == ([3], 5, "ok")
    assert record.threads and record.versions["torch"].startswith("2.")


def test_a_record_describes_the_models_of_a_pair():
    config = SimpleNamespace(_name_or_path="some/model", _commit_hash="abc")
    target = SimpleNamespace(config=config, dtype=torch.float32, device=torch.device("cpu"))
    record = RunRecord.collect("x", {}, {}, pair=SimpleNamespace(target=target, draft=object(), name="toy"))
    assert record.models["target"]["revision"] == "abc"
    assert record.models["draft"] == {"class": "object"}
    assert (record.device, record.dtype) == ("cpu", "float32")


def test_a_record_says_which_revision_the_pair_was_loaded_at():
    target = SimpleNamespace(config=SimpleNamespace(_name_or_path="/cache/embedded"), dtype=torch.float32)
    pair = SimpleNamespace(target=target, draft=None, name="toy", revisions={"target": "fingerprint"})
    assert RunRecord.collect("x", {}, {}, pair=pair).models["target"]["revision"] == "fingerprint"


def test_a_record_names_each_kind_of_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "Card 9000")
    assert RunRecord.collect("x", {}, {}).machine.endswith("2 × Card 9000")


def test_save_follows_the_runner_and_otherwise_the_repository(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert RunRecord("x").save() == tmp_path / "build" / "runs" / "x.json"
    monkeypatch.setenv("SPECBEAM_RECORD", str(tmp_path / "asked.json"))
    assert RunRecord("x").save() == tmp_path / "asked.json"


WRONG = {
    '{"notebook": "x", "met': "not complete JSON",
    "[" * 100_000: "not complete JSON",
    '{"notebook": "x", "status": "ok", "seconds": NaN}': "NaN is no JSON number",
    "[]": "not a run record",
    '{"notebook": "x"}': r"record must contain \[.*'status'\] properties",
    '{"notebook": "x", "status": "ok", "surprise": 1}': "record must not contain {'surprise'} properties",
    '{"notebook": "x", "status": "fine"}': r"record\.status must be one of \['ok', 'failed'\], not 'fine'",
    '{"notebook": "x", "status": "ok", "metrics": 3}': r"record\.metrics must be object, not 3",
    '{"notebook": "x", "status": "ok", "seconds": "long"}': r"record\.seconds must be number or null, not 'long'",
    '{"notebook": "x", "status": "ok", "timings": {"a_s": 1}}': r"record\.timings\.a_s must be object, not 1",
    '{"notebook": "x", "status": "ok", "schema": 99}': "schema 99, and this specbeam reads up to 2: update",
    '{"notebook": "x", "status": "ok", "schema": "2"}': r"record\.schema must be a version number from 1 to 2, not '2'",
}


@pytest.mark.parametrize(("text", "reason"), WRONG.items(), ids=WRONG.values())
def test_a_wrong_record_is_refused_with_its_path(tmp_path, text, reason):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        RunRecord.load(path)
    assert str(path) in str(error.value)


def test_a_folder_in_a_records_place_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        RunRecord.load(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
anything = st.fixed_dictionaries(
    {"notebook": st.just("x") | json_values, "status": st.just("ok") | json_values},
    optional={name: json_values for name in record_schema.SCHEMA["properties"] if name not in ("notebook", "status")},
)


@given(document=anything)
def test_any_json_is_either_a_record_that_can_be_saved_again_or_a_clear_refusal(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("any") / "x.json"
    path.write_text(json.dumps(document))
    try:
        record = RunRecord.load(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert RunRecord.load(record.save(path)) == record


valid = {
    "schema": st.just(record_schema.VERSION),
    "notebook": st.just("x"),
    "status": st.sampled_from(["ok", "failed"]),
}
nearly = st.fixed_dictionaries(
    {name: values | json_values for name, values in valid.items()},
    optional={name: json_values | st.just(None) for name in record_schema.SCHEMA["properties"] if name not in valid}
    | {"timings": st.dictionaries(st.text(max_size=2), json_values, max_size=2)}
    | {"metrics": st.dictionaries(st.just("samples"), st.lists(json_values, max_size=2))}
    | {"warmups": st.integers() | st.sampled_from([1.0, 1.5, True]), "surprise": st.just(1)},
)


@given(document=nearly | anything)
@example(document={"schema": 2, "notebook": "", "status": "ok"})
@example(document={"schema": 2, "notebook": "x", "status": "ok", "threads": 0})
@example(document={"schema": 2, "notebook": "x", "status": "ok", "seeds": [1, True]})
@example(document={"schema": 2, "notebook": "x", "status": "ok", "versions": {"torch": 2}})
def test_a_document_is_refused_exactly_where_it_breaks_the_schema(document):
    fits = Draft202012Validator(record_schema.SCHEMA).is_valid(document)
    try:
        record_schema.check(document)
    except ValueError:
        assert not fits
    else:
        assert fits


def test_a_saved_record_follows_the_schema_that_is_shipped(tmp_path):
    Draft202012Validator.check_schema(record_schema.SCHEMA)
    validator = Draft202012Validator(record_schema.SCHEMA)
    parameters = {"seed": 3, "repeats": 5, "warmups": 1}
    metrics = {"speed": 1.5, "samples": [{"prompt": "a", "method": "beam", "text": "b"}]}
    record = RunRecord.collect("01_toy", parameters, metrics, {"greedy_s": [3, 1, 2]})
    document = json.loads(record.save(tmp_path / "x.json").read_text())
    assert not list(validator.iter_errors(document))
    assert document["schema"] == record_schema.VERSION and next(iter(document)) == "schema"
    assert list(validator.iter_errors({**document, "metrics": {"samples": "text"}}))


def test_the_schema_names_the_fields_of_a_record():
    assert record_schema.SCHEMA["properties"].keys() == {item.name for item in fields(RunRecord)}


def test_a_record_of_the_first_version_is_read(tmp_path):
    document = asdict(RunRecord("x", metrics={"speed": 2.0}, seconds=3.5))
    del document["schema"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    record = RunRecord.load(tmp_path / "old.json")
    assert record.schema == record_schema.VERSION and record.metrics == {"speed": 2.0}
    assert RunRecord.load(record.save(tmp_path / "new.json")) == record


def test_half_of_a_surrogate_pair_in_a_result_is_kept(tmp_path):
    path = RunRecord("01_toy", metrics={"text": "a\ud800é"}).save(tmp_path / "record.json")
    assert RunRecord.load(path).metrics == {"text": "a\ud800é"}


def test_a_missing_record_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="run the notebook first"):
        RunRecord.load(tmp_path / "none.json")


def test_tensors_and_arrays_become_plain_json():
    value = {"a": torch.tensor([1, 2]), "b": np.float32(0.5), "c": np.int64(2), "d": (1, {3}), "e": torch.float32}
    assert json.loads(json.dumps(plain(value, "x"))) == {
        "a": [1, 2],
        "b": 0.5,
        "c": 2,
        "d": [1, [3]],
        "e": "torch.float32",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), torch.tensor([1.0, float("nan")])])
def test_what_json_cannot_hold_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"metrics\.speed"):
        RunRecord.collect("x", {}, {"speed": value})


def test_a_spread_needs_a_measurement():
    assert spread([2.0]) == {"median": 2.0, "min": 2.0, "max": 2.0, "n": 1}
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "x.json", "old")

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_of_a_notebook_ignores_outputs(tmp_path):
    path = write_notebook(tmp_path)
    before = notebook_sha256(path)
    document = json.loads(path.read_text())
    document["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "4"}]
    path.write_text(json.dumps(document))
    assert notebook_sha256(path) == before
    document["cells"][1]["source"] = "num_beams = 5  # beams"
    path.write_text(json.dumps(document))
    assert notebook_sha256(path) != before
