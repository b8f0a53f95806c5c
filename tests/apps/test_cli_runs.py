"""`specbeam run` and `specbeam reports`: exit codes, and what they leave."""

import errno
import json
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from notebook_factory import write_notebook
from typer.testing import CliRunner

from specbeam.apps.cli.main import app
from specbeam.experiments.records import RunRecord


def command(*arguments):
    return CliRunner().invoke(app, [str(item) for item in arguments])


def test_the_command_exits_with_0_1_and_2(tmp_path):
    good, bad = write_notebook(tmp_path), write_notebook(tmp_path, "02_bad", code=("raise ValueError('[/red] [bold')",))
    options = ("--out-dir", tmp_path / "runs", "--no-progress")
    assert command("run", good, *options, "-p", "num_beams=3").exit_code == 0
    assert json.loads((tmp_path / "runs" / "01_toy.json").read_text())["metrics"] == {"answer": 6}
    failed = command("run", bad, good, *options)
    assert failed.exit_code == 1
    assert command("run", good, *options, "--name", "mine", "--timeout", 300, "-p", "num_beams=5").exit_code == 0
    assert json.loads((tmp_path / "runs" / "mine.json").read_text())["notebook"] == "01_toy"
    assert "ValueError: [/red] [bold" in failed.output and "1 of 2 notebooks failed" in failed.output
    twin = write_notebook(tmp_path / "other")
    for wrong in (
        ["run", "none"],
        ["run", good, "-p", "beams=3"],
        ["run", good, "-p", "num_beams=x"],
        ["run", good, twin],
        ["run", good, bad, "--name", "one"],
    ):
        result = command(*wrong)
        assert result.exit_code == 2
        assert result.output.startswith("specbeam: ") and result.output.count("\n") == 1


def test_the_command_writes_reports_and_prints_the_index(tmp_path):
    assert command("reports", "--runs-dir", tmp_path / "none").exit_code == 2
    RunRecord("01_toy", metrics={"answer": 8}).save(tmp_path / "runs" / "01_toy.json")
    result = command("reports", "--runs-dir", tmp_path / "runs", "--out-dir", tmp_path / "pages")
    assert result.exit_code == 0
    assert "index.html" in result.stdout and (tmp_path / "pages" / "index.html").is_file()


def test_an_index_grows_while_notebooks_run_and_says_what_comes(tmp_path):
    """The second notebook reads the index that it finds when it runs."""
    index, seen = tmp_path / "pages" / "index.html", tmp_path / "seen.html"
    copy = f"import shutil; shutil.copy({str(index)!r}, {str(seen)!r})"
    paths = [
        write_notebook(tmp_path),
        write_notebook(tmp_path, "02_second", code=(copy,)),
        write_notebook(tmp_path, "03_b"),
    ]
    options = ("--out-dir", tmp_path / "runs", "--reports", tmp_path / "pages", "--no-progress")
    result = command("run", *paths, *options)
    assert result.exit_code == 0 and str(index) in result.output
    meanwhile, afterwards = seen.read_text(), index.read_text()
    assert 'href="01_toy.html"' in meanwhile and 'http-equiv="refresh"' in meanwhile
    assert (
        meanwhile.index("running") < meanwhile.index("02_second") < meanwhile.index("to come") < meanwhile.index("03_b")
    )
    assert "refresh" not in afterwards and 'href="03_b.html"' in afterwards


@pytest.mark.slow
def test_a_resumed_run_begins_at_the_first_notebook_that_has_no_run(tmp_path):
    paths = [write_notebook(tmp_path, name) for name in ("01_toy", "02_b", "03_c")]
    options = ("--out-dir", tmp_path / "runs", "--no-progress", "--resume")
    records = [tmp_path / "runs" / f"{path.stem}.json" for path in paths]
    assert command("run", *paths, *options).exit_code == 0
    first = [record.stat().st_mtime_ns for record in records]
    again = command("run", *paths, *options)
    assert again.exit_code == 0 and "3 of 3 notebooks ran before" in again.output
    assert [record.stat().st_mtime_ns for record in records] == first
    records[1].unlink()
    assert command("run", *paths, *options).exit_code == 0
    later = [record.stat().st_mtime_ns for record in records]
    assert later[0] == first[0] and later[2] > first[2]  # a later one may read the records of those before
    assert command("run", *paths, *options, "-p", "num_beams=3").exit_code == 0
    assert [json.loads(record.read_text())["parameters"]["num_beams"] for record in records] == [3, 3, 3]
    assert command("run", *paths, *options, "-p", "num_beams=3", "--replace").exit_code == 0
    assert records[0].stat().st_mtime_ns > later[0]


def in_a_process(arguments, **options):
    """The command in a process of its own that heeds an interrupt, as those begun in the background do not."""
    command_line = [sys.executable, "-c", "from specbeam.apps.cli.main import app; app()", *map(str, arguments)]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command_line, preexec_fn=heed, **options)


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_an_interrupt_leaves_a_record_that_says_so_and_the_next_call_goes_on(tmp_path, sent, code):
    started = tmp_path / "started"
    wait = f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\nwhile True: time.sleep(0.1)"
    paths = [
        write_notebook(tmp_path),
        write_notebook(tmp_path, "02_slow", code=(wait,)),
        write_notebook(tmp_path, "03_c"),
    ]
    runs, pages = tmp_path / "runs", tmp_path / "pages"
    arguments = ["run", *paths, "--out-dir", runs, "--reports", pages, "--resume", "--no-progress"]
    with in_a_process(arguments, stderr=subprocess.PIPE, text=True) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(sent)
        assert "interrupted: 02_slow" in process.communicate()[1]
    assert process.returncode == code
    record = RunRecord.load(runs / "02_slow.json")
    assert record.status == "failed" and (record.error or "").startswith("Interrupted")
    assert sorted(item.name for item in runs.iterdir() if "running" in item.name) == []
    index = (pages / "index.html").read_text()
    assert "Interrupted" in index and 'href="01_toy.html"' in index and "refresh" not in index
    write_notebook(tmp_path, "02_slow")
    again = command(*arguments)
    assert again.exit_code == 0 and "1 of 3 notebooks ran before" in again.output


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_ends_it_and_whenever_the_next_call_goes_on_and_the_index_is_right(tmp_path, seed):
    draw, signals = random.Random(seed), [signal.SIGINT, signal.SIGTERM, signal.SIGKILL] * 2
    names = ["01_a", "02_b", "03_c"]
    paths = [write_notebook(tmp_path, name, code=("import time\ntime.sleep(0.5)",)) for name in names]
    runs, pages = tmp_path / "runs", tmp_path / "pages"
    arguments = ["run", *paths, "--out-dir", runs, "--reports", pages, "--resume", "--no-progress"]
    draw.shuffle(signals)
    for sent in signals:
        process = in_a_process(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.5, 12))
        except subprocess.TimeoutExpired:
            process.send_signal(sent)
            process.wait()
        for record in runs.glob("*.json"):
            assert RunRecord.load(record).status in ("ok", "failed")
        if (pages / "index.html").exists():
            linked = re.findall(r'href="(\w+)\.html"', (pages / "index.html").read_text())
            assert all((pages / f"{name}.html").is_file() for name in linked)
    assert command(*arguments).exit_code == 0
    assert [RunRecord.load(runs / f"{name}.json").status for name in names] == ["ok"] * 3
    index = (pages / "index.html").read_text()
    assert all(f'href="{name}.html"' in index for name in names) and "refresh" not in index
    assert not [item.name for item in runs.iterdir() if "running" in item.name or "failed" in item.name]


@pytest.mark.parametrize(
    ("number", "words", "remedy"),
    [
        (errno.ENOSPC, "No space left on device", "free some space there, or write to another disk"),
        (errno.ENOTDIR, "Not a directory", "a file is where a folder is meant; name another folder"),
        (errno.EROFS, "Read-only file system", "name a folder that can be written to"),
        (errno.EACCES, "Permission denied", "name a folder that you may write to, or ask for the permission"),
    ],
)
def test_what_cannot_be_written_is_one_line_with_a_remedy(tmp_path, monkeypatch, number, words, remedy):
    def failing(*_, **__):
        raise OSError(number, words)

    (tmp_path / "runs").mkdir()
    RunRecord("01_toy").save(tmp_path / "runs" / "01_toy.json")
    monkeypatch.setattr("os.fsync", failing)
    result = command("reports", "--runs-dir", tmp_path / "runs", "--out-dir", tmp_path / "pages")
    assert result.exit_code == 2
    line = f"specbeam: [Errno {number}] {words}: '{tmp_path / 'pages' / 'index.html'}': {remedy}\n"
    assert result.output == line
    assert list((tmp_path / "pages").iterdir()) == []
