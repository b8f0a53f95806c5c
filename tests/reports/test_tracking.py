import json
import sys
from types import SimpleNamespace

import nbformat
import pytest
from notebook_factory import write_notebook
from typer.testing import CliRunner

from specbeam.apps.cli.main import app
from specbeam.experiments.records import RunRecord
from specbeam.reports import tracking
from specbeam.reports.tracking import Tracking, facts, split

SAMPLES = [
    {"prompt": "The future of AI is", "method": "beam", "text": "bright."},
    {"prompt": "Once upon a time", "method": "greedy", "text": "there was é.", "tokens": [1, 2]},
]


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    write_notebook(folder, "07_a")
    parameters = {"num_beams": 4, "prompts": ["a", "b"]}
    metrics = {"speed_up": 1.5, "by_method": {"beam": {"rouge": 0.25}}, "samples": SAMPLES}
    RunRecord("07_comparison", "ok", parameters, metrics, commit="c0ffee", seconds=2.5).save(folder / "07_a.json")
    return folder


@pytest.fixture
def offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="tracking with wandb needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield wandb
    wandb.teardown()


def kept(tmp_path, wandb):
    """The folder of the one run that wandb has kept, and what its log holds."""
    wandb.teardown()  # its writer may lag behind until then
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = folder.glob("run-*.wandb")
    return folder, log.read_bytes()


def test_a_run_kept_offline_holds_parameters_metrics_samples_and_the_page(tmp_path, runs, offline):
    tracker = Tracking("wandb")
    where = tracker.log(runs, "07_a")
    assert tracker.problems == []
    folder, log = kept(tmp_path, offline)
    assert where and where.startswith(str(folder)) and "wandb sync" in where
    for text in (b"num_beams", b'["a","b"]', b"speed_up", b"by_method", b"rouge", b"c0ffee", b"07_a", b"07_comparison"):
        assert text in log
    (table,) = folder.rglob("samples*.table.json")
    found = json.loads(table.read_text())
    assert found["columns"] == ["prompt", "method", "text", "tokens"]
    assert found["data"] == [
        ["The future of AI is", "beam", "bright.", None],
        ["Once upon a time", "greedy", "there was é.", "[1, 2]"],
    ]
    (page,) = folder.rglob("page*.html")
    assert "What is <em>twice</em> the beam?" in page.read_text() and "How this run was made" in page.read_text()


def test_a_failed_run_is_tracked_with_its_error(tmp_path, offline):
    RunRecord("x", "failed", error="Kernel died").save(tmp_path / "runs" / "x.json")
    tracker = Tracking("wandb")
    assert tracker.log(tmp_path / "runs", "x") and tracker.problems == []
    folder, log = kept(tmp_path, offline)
    assert b"Kernel died" in log and not list(folder.rglob("*.html"))


def test_wandb_that_is_not_installed_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r'pip install "specbeam\[wandb\]"'):
        Tracking("wandb")


def test_wandb_without_an_account_is_told_before_any_run(monkeypatch):
    pytest.importorskip("wandb", reason="tracking with wandb needs wandb")

    def refused():
        raise RuntimeError("No API key\nconfigured")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.login", refused)
    with pytest.raises(ValueError, match=r"No API key configured.*WANDB_MODE=offline"):
        Tracking("wandb")


def test_an_unknown_tracker_names_what_there_is():
    with pytest.raises(ValueError, match="no tracker 'mlflow'; there are: wandb"):
        Tracking("mlflow")


def test_no_tracker_tracks_nothing(runs):
    tracker = Tracking(None)
    assert tracker.log(runs, "07_a") is None and tracker.log(runs, "missing") is None and tracker.problems == []


@pytest.fixture
def noted(monkeypatch):
    """A tracker called "notes" that keeps what it is given, and fails for runs called bad."""
    seen = []

    def note(name, record, page, _folder):
        if name.startswith("bad"):
            raise ConnectionError("no\nroute")
        seen.append((name, record, page))
        return f"noted {name}"

    monkeypatch.setitem(tracking.TRACKERS, "notes", lambda: note)
    return seen


def test_a_tracker_that_fails_is_noted_and_the_next_run_goes_on(runs, noted):
    RunRecord("bad").save(runs / "bad.json")
    tracker = Tracking("notes")
    assert [tracker.log(runs, name) for name in ("bad", "missing", "07_a")] == [None, None, "noted 07_a"]
    assert "bad is not tracked by notes (no route); its record is" in tracker.problems[0]
    assert "There is no record" in tracker.problems[1] and len(tracker.problems) == 2


def test_a_run_without_a_page_is_tracked_without(runs, noted):
    (runs / "07_a.ipynb").write_text("{")
    RunRecord("bench").save(runs / "bench.json")
    tracker = Tracking("notes")
    for name in ("07_a", "bench"):
        tracker.log(runs, name)
    assert [(name, page) for name, _, page in noted] == [("07_a", None), ("bench", None)]


def test_the_points_of_a_sweep_are_tracked_when_they_end(runs, noted):
    RunRecord("b", "failed", error="died").save(runs / "b.json")
    changes = [("07_a", "waiting"), ("07_a", "running"), ("07_a", "done"), ("b", "failed"), ("c", "skipped")]
    shown = []
    report = Tracking("notes").following(shown.append, runs)
    for name, state in changes:
        report(SimpleNamespace(point=SimpleNamespace(name=name), state=state))
    assert [change.state for change in shown] == [state for _, state in changes]
    assert [name for name, *_ in noted] == ["07_a", "b"]


def test_metrics_become_values_and_tables():
    metrics = {"a": 1, "b": {"c": {"d": True}, "e": [1, 2], "none": None}, "empty": []}
    metrics |= {"rows": [{"x": 1}, {"y": {"z": 2}}], "matrix": [[1, 2], [3]]}
    record = RunRecord("x", "failed", metrics=metrics, timings={"t_s": {"median": 2.0}}, seconds=9.0, error="oh")
    values, tables = split(record)
    assert values == {
        **{"a": 1, "b/c/d": True, "b/e": [1, 2], "b/none": None, "empty": []},
        **{"timings/t_s/median": 2.0, "seconds": 9.0, "error": "oh"},
    }
    assert tables == {
        "rows": (["x", "y"], [[1, None], [None, '{"z": 2}']]),
        "matrix": (["0", "1"], [[1, 2], [3, None]]),
    }


def test_names_of_tables_are_safe_in_file_names_and_stay_apart():
    long = {f"{'x' * 200}{number}": [[1]] for number in range(2)}
    _, tables = split(RunRecord("x", metrics={**long, "..": {"a:b*c": [[1]], "a:b?c": [[1]]}, "plain, é": [[1]]}))
    assert len(tables) == 5 and "plain, é" in tables
    assert all(".." not in name and not set(name) & set(':*?"<>|\\') and len(name) < 100 for name in tables)


def test_a_name_that_is_too_long_for_the_tracker_keeps_its_beginning_and_stays_apart():
    long, other = "a" * 150, "a" * 149 + "b"
    short = [tracking._cut(name) for name in (long, other, "short")]
    assert [len(name) for name in short] == [128, 128, 5] and len(set(short)) == 3 and short[0].startswith("a" * 121)


def test_the_facts_leave_out_parameters_and_results():
    found = facts(RunRecord("x", parameters={"a": 1}, metrics={"b": 2}, commit="c0ffee", threads=2))
    assert found["commit"] == "c0ffee" and found["threads"] == 2
    assert not {"parameters", "metrics", "timings", "error"} & found.keys()


def command(*arguments):
    return CliRunner().invoke(app, [str(item) for item in arguments])


def test_the_run_command_tracks_and_its_exit_status_tells_when_that_failed(tmp_path, noted):
    good, bad = write_notebook(tmp_path), write_notebook(tmp_path, "bad")
    options = ("--out-dir", tmp_path / "runs", "--no-progress", "--track", "notes")
    assert command("run", good, *options).exit_code == 0
    assert [name for name, *_ in noted] == ["01_toy"] and "<html" in noted[0][2]
    result = command("run", bad, *options)
    assert result.exit_code == 3 and "bad is not tracked by notes (no route)" in result.output
    assert RunRecord.load(tmp_path / "runs" / "bad.json").status == "ok"


@pytest.mark.parametrize("name", ["run", "sweep"])
def test_a_wrong_tracker_stops_a_command_before_anything_runs(tmp_path, name):
    grid = ("--grid", "num_beams=1,2") if name == "sweep" else ()
    notebook = write_notebook(tmp_path)
    result = command(name, notebook, *grid, "--out-dir", tmp_path / "runs", "--track", "mlflow")
    assert result.exit_code == 2 and "there are: wandb" in result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_sweep_command_tracks_its_points(tmp_path, noted):
    notebook = write_notebook(tmp_path)
    folders = ("--out-dir", tmp_path / "runs", "--reports-dir", tmp_path / "pages")
    result = command("sweep", notebook, "--grid", "num_beams=1,2", *folders, "--track", "notes")
    assert result.exit_code == 0
    assert [name for name, *_ in noted] == ["01_toy__num_beams=1", "01_toy__num_beams=2"]
    assert nbformat.read(tmp_path / "runs" / "01_toy__num_beams=2.ipynb", as_version=4)
