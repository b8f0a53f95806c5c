import json
import os
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from specbeam.apps.cli.main import app
from specbeam.experiments.records import RunRecord


@pytest.fixture
def folder(tmp_path):
    for beams in (2, 4, 8):
        fields = {"parameters": {"num_beams": beams, "gamma": 5}, "metrics": {"speed_up": beams / 4, "curve": [1]}}
        record = RunRecord("07_comparison", **fields, device="cpu", commit="0123456789", dirty=True, seconds=61.25)
        record.save(tmp_path / f"07_comparison__num_beams={beams}.json")
    return tmp_path


def command(*arguments):
    return CliRunner().invoke(app, ["records", *map(str, arguments)])


def test_the_table_has_the_parameters_that_differ_and_the_key_numbers(folder):
    result = command("--runs-dir", folder)
    assert result.exit_code == 0 and "3 records" in result.stderr
    header, _, *lines = result.stdout.strip().splitlines()
    assert header.split() == ["run", "status", "num_beams", "speed", "up", "commit", "device", "seconds"]
    assert lines[0].split() == ["07_comparison__num_beams=2", "ok", "2", "0.5", "01234567+", "cpu", "61.2"]


def test_runs_of_several_notebooks_share_columns_and_a_failed_one_shows_its_error(folder):
    RunRecord("bench", status="failed", error="KeyError: '[/red]'").save(folder / "bench.json")
    result = command("--runs-dir", folder)
    assert result.exit_code == 0
    assert "failed: KeyError: '[/red]'" in result.stdout
    assert "num_beams=8" in result.stdout and "speed up 2" in result.stdout and "gamma" not in result.stdout


def test_filters_columns_and_order_go_together(folder):
    kept = ("--where", "num_beams>2", "--sort", "-speed_up")
    options = (*kept, "--columns", "num_beams, speed_up", "--columns", "status")
    result = command("--runs-dir", folder, *options)
    assert [line.split() for line in result.stdout.strip().splitlines()[2:]] == [["8", "2", "ok"], ["4", "1", "ok"]]
    assert "2 of 3 records" in result.stderr


def test_json_holds_the_records_or_the_chosen_columns_and_nothing_else(folder):
    records = json.loads(command("--runs-dir", folder, "--json").stdout)
    assert [record["parameters"]["num_beams"] for record in records] == [2, 4, 8]
    assert json.loads(command("--runs-dir", folder, "--json", "--where", "num_beams=3").stdout) == []
    chosen = json.loads(command("--runs-dir", folder, "--json", "--columns", "curve,num_beams").stdout)
    assert chosen[0] == {"metrics.curve": [1], "parameters.num_beams": 2}


def test_a_filter_that_nothing_meets_is_told_and_no_error(folder):
    result = command("--runs-dir", folder, "--where", "num_beams=3")
    assert (result.exit_code, result.stdout) == (0, "") and "0 of 3 records" in result.stderr


def test_a_table_is_written_with_the_rows_that_were_kept(folder, tmp_path):
    out = tmp_path / "out" / "table.csv"
    result = command("--runs-dir", folder, "--where", "num_beams!=4", "--columns", "num_beams,speed_up", "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_text().splitlines() == ["parameters.num_beams,metrics.speed_up", "2,0.5", "8,2.0"]


def test_the_schema_is_printed_for_other_programs(folder):
    schema = json.loads(command("--schema").stdout)
    Draft202012Validator(schema).validate(json.loads(next(folder.glob("*.json")).read_text()))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--where", "num_beams"], "has the form column=value"),
        (["--where", "beams=2"], "has a column 'beams'"),
        (["--columns", "speed"], "speed_up"),
        (["--sort", "none"], "has a column 'none'"),
        (["--out", "table.xlsx"], ".csv or .parquet"),
        (["--runs-dir", "nowhere"], "There is no folder nowhere"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, reason):
    result = command("--runs-dir", folder, *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("specbeam: ") and result.output.count("\n") == 1
    assert reason in result.output


def test_an_empty_folder_says_what_to_do(tmp_path):
    result = command("--runs-dir", tmp_path)
    assert result.exit_code == 2 and "no records" in result.output and "make run-notebooks" in result.output


def test_a_reader_that_stops_reading_is_no_error(folder):
    RunRecord("big", metrics={"text": "x" * 1_000_000}).save(folder / "big.json")
    read_end, write_end = os.pipe()
    os.close(read_end)
    arguments = [sys.executable, "-m", "specbeam", "records", "--runs-dir", str(folder), "--json"]
    result = subprocess.run(arguments, stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (0, "")
