"""`specbeam run` and `specbeam reports`: exit codes, and what they leave."""

import json

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
