"""The notebooks in notebooks/: clean sources, checked parameters, and a run that leaves a record."""

import ast
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from specbeam.experiments.parameters import load_params, read_parameters
from specbeam.experiments.records import RunRecord
from specbeam.experiments.runner import run_notebook

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
PARAMS = ("first", "full", "smoke", "gpu")

if not NOTEBOOKS:
    pytest.skip("there are no notebooks yet", allow_module_level=True)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@each_notebook
def test_a_notebook_holds_no_outputs(path):
    assert not [cell.source for cell in code_cells(path) if cell.outputs or cell.execution_count]


@each_notebook
def test_every_parameter_is_a_literal_with_a_help_comment(path):
    parameters = read_parameters(path)
    assert parameters
    assert not [item.name for item in parameters.values() if not item.help]


@each_notebook
def test_the_title_is_a_question(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert first.source.splitlines()[0].rstrip().endswith("?")


@each_notebook
def test_the_last_cell_saves_a_record_under_the_notebooks_name(path):
    calls = [node for node in ast.walk(ast.parse(code_cells(path)[-1].source)) if isinstance(node, ast.Call)]
    called = {node.func.attr: node for node in calls if isinstance(node.func, ast.Attribute)}
    assert {"collect", "save"} <= called.keys()
    names = [
        *called["collect"].args[:1],
        *(item.value for item in called["collect"].keywords if item.arg == "notebook"),
    ]
    assert [ast.literal_eval(name) for name in names] == [path.stem]


def test_no_function_stands_in_two_notebooks():
    bodies = Counter()
    for path in NOTEBOOKS:
        tree = ast.parse("\n".join(cell.source for cell in code_cells(path)))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        bodies.update({"\n".join(map(ast.unparse, node.body[1:])) for node in functions})  # without their docstrings
    assert not [body for body, count in bodies.items() if body and count > 1]


@pytest.mark.parametrize("name", PARAMS)
def test_a_parameters_file_names_only_what_notebooks_have(name):
    load_params(name, FOLDER)


@pytest.mark.notebooks
@pytest.mark.model
@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_at_smoke_parameters(path, tmp_path):
    record = run_notebook(path, "smoke", out_dir=tmp_path, progress=False)
    assert record.status == "ok" and record.metrics
    assert RunRecord.load(tmp_path / f"{path.stem}.json") == record


@pytest.mark.notebooks
@pytest.mark.slow
def test_the_report_reads_the_records_beside_its_own(tmp_path):
    parameters, metrics = {"target": None, "num_beams": 4}, {"speed_open": 1.5, "equal": True}
    RunRecord("03_speculative", parameters=parameters, metrics=metrics).save(tmp_path / "one.json")
    hostile = RunRecord(
        "03_speculative", status="failed", error="<b>|`died`", parameters={**parameters, "num_beams": 8}
    )
    hostile.save(tmp_path / "sweep" / "two__num_beams=8.json")
    record = run_notebook(FOLDER / "08_report.ipynb", out_dir=tmp_path, progress=False)
    assert record.metrics["records"] == ["one", "sweep/two__num_beams=8"]
    assert (record.metrics["failed"], record.metrics["speeds_above_baseline"]) == (1, 1)
    assert record.metrics["models"][0]["usable"] == "yes"
    page = "".join(str(cell.outputs) for cell in code_cells(tmp_path / "08_report.ipynb"))
    assert "image/png" in page and "&lt;b>" in page
