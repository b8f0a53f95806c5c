"""`specbeam sweep`: its table and lines, what it refuses, and that a killed sweep goes on."""

import io
import os
import signal
import subprocess
import sys

import pytest
from notebook_factory import Journal, ended, wait_until, write_notebook
from rich.console import Console
from typer.testing import CliRunner

from specbeam.apps.cli.main import app
from specbeam.apps.cli.sweep import Board, duration, shown
from specbeam.experiments.records import RunRecord
from specbeam.experiments.sweep import DONE, FAILED, RUNNING, SKIPPED, WAITING, Change, plan_sweep


def test_the_time_left_comes_from_the_runs_that_are_done(tmp_path, monkeypatch):
    points = plan_sweep(write_notebook(tmp_path), ["num_beams=1,2,3,4,5"])
    board, now = Board(points), [100.0]
    monkeypatch.setattr("specbeam.apps.cli.sweep.time.monotonic", lambda: now[0])
    assert board.counts() == "5 points: 5 waiting"
    board.update(Change(points[0], SKIPPED, "done before", 40.0))
    assert board.seconds_left() == 160
    board.update(Change(points[1], RUNNING))
    now[0] += 10
    assert board.seconds_left() == 150
    board.update(Change(points[1], DONE, seconds=20.0))
    board.update(Change(points[2], FAILED, "KeyError", 1.0))
    board.update(Change(points[3], RUNNING))
    board.update(Change(points[4], RUNNING))
    now[0] += 6
    assert board.seconds_left() == 24, "two runs of 30 s side by side"
    assert board.counts() == "5 points: 2 running, 1 done, 1 skipped, 1 failed; about 24 s left"
    assert [duration(value) for value in (0.04, 59.6, 61, 7260)] == ["0.0 s", "1 min 0 s", "1 min 1 s", "2 h 1 min"]


def test_the_table_fits_the_terminal_and_shows_what_goes_on(tmp_path):
    points = plan_sweep(write_notebook(tmp_path), [f"num_beams={','.join(map(str, range(60)))}"])
    board = Board(points)
    for point in points[:40]:
        board.update(Change(point, DONE, seconds=1.0))
    board.update(Change(points[40], RUNNING, "at [tcp://here]"))
    console = Console(width=80, height=20, force_terminal=True, record=True, file=io.StringIO())
    console.print(board)
    text = console.export_text()
    assert len(text.splitlines()) <= 20
    assert "num_beams" in text and "at [tcp://here]" in text and "60 points" in text


def test_without_a_terminal_there_is_a_line_for_every_change(tmp_path, capsys):
    (point,) = plan_sweep(write_notebook(tmp_path), ["num_beams=2"])
    changes = [Change(point, WAITING), Change(point, WAITING, "failed before"), Change(point, RUNNING)]
    with shown(Board([point]), Console(force_terminal=False)) as report:
        for change in [*changes, Change(point, FAILED, "KeyError: 'a'", 61.0)]:
            report(change)
    assert capsys.readouterr().err.splitlines() == [
        "waiting 01_toy__num_beams=2  (failed before)",
        "running 01_toy__num_beams=2",
        "failed  01_toy__num_beams=2  1 min 1 s  (KeyError: 'a')  [1 point: 1 failed]",
    ]


def command(*arguments):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_the_command_refuses_bad_input_in_one_line(tmp_path):
    path = write_notebook(tmp_path)
    for wrong, reason in [
        (["none", "--grid", "a=1"], "no notebook 'none'"),
        ([path], "needs a grid"),
        ([path, "--grid", "num_beams=x"], "expects int"),
        ([path, "--grid", "num_beams=2", "-p", "num_beams=2"], "give it once"),
        ([path, "--grid", "num_beams=2", "--timeout", "0"], "above 0"),
        ([path, "--grid", "num_beams=2", "--workers", "2"], "goes with --scheduler local"),
        ([path, "--grid", "num_beams=2", "--scheduler", "host"], "is no address"),
    ]:
        result = command(*wrong, "--out-dir", tmp_path / "runs")
        assert result.exit_code == 2, result.output
        assert reason in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    journal, out_dir, pages = Journal(tmp_path, stops=(3,)), tmp_path / "runs", tmp_path / "pages"
    arguments = [sys.executable, "-m", "specbeam", "sweep", str(journal.notebook), "--grid", "point=1,2,3,4,5,6"]
    arguments += ["--out-dir", str(out_dir), "--reports-dir", str(pages)]
    with subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.PIPE) as first:
        wait_until(lambda: 3 in journal.entries("begin") or first.poll() is not None, "point 3 begins")
        kernel, _ = journal.processes(3)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    wait_until(lambda: ended(kernel), "the kernel notices that its runner is gone")
    done = {name: (out_dir / f"01_toy__point={name}.json").read_text() for name in (1, 2)}
    assert list(out_dir.glob(".*.running.*")), "the kill came in mid-run"
    assert sorted(out_dir.glob("[!.]*.json")) == [out_dir / f"01_toy__point={name}.json" for name in (1, 2)]

    journal.gate.touch()
    second = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    assert second.stderr.splitlines()[-1] == "6 points: 4 done, 2 skipped"
    assert "skipped 01_toy__point=1" in second.stderr and "left]" in second.stderr
    assert journal.entries("begin") == [1, 2, 3, 3, 4, 5, 6]
    assert journal.entries("end") == [1, 2, 3, 4, 5, 6]
    for point in range(1, 7):
        record = RunRecord.load(out_dir / f"01_toy__point={point}.json")
        assert (record.status, record.metrics, record.parameters["point"]) == ("ok", {"answer": point * 2}, point)
    assert {name: (out_dir / f"01_toy__point={name}.json").read_text() for name in (1, 2)} == done
    assert len(list(out_dir.iterdir())) == 12, "a notebook and a record a point, and nothing else"
    assert len(list(pages.glob("01_toy__point=*.html"))) == 6
