import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from specbeam.records import RunRecord, notebook_sha256, plain, spread, write_atomic
from tests.notebook_factory import write_notebook


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


def test_save_follows_the_runner_and_otherwise_the_repository(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert RunRecord("x").save() == tmp_path / "build" / "runs" / "x.json"
    monkeypatch.setenv("SPECBEAM_RECORD", str(tmp_path / "asked.json"))
    assert RunRecord("x").save() == tmp_path / "asked.json"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"notebook": "x", "met', "not complete JSON"),
        ("[]", "not a run record"),
        ('{"notebook": "x", "surprise": 1}', "unknown field 'surprise'"),
        ('{"notebook": "x", "status": "fine"}', "status must be one of"),
        ('{"notebook": "x", "metrics": 3}', "'metrics' must be an object"),
    ],
)
def test_a_wrong_record_is_refused_with_its_path(tmp_path, text, reason):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        RunRecord.load(path)
    assert str(path) in str(error.value)


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
