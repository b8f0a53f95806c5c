"""The executed notebooks that the repository shows: whole, small, of known origin, and of today's sources."""

import base64
import io
import json
from pathlib import Path

import nbformat
import pytest
from notebook_factory import write_notebook
from PIL import Image

from specbeam.experiments.parameters import find_notebooks
from specbeam.experiments.provenance import SOURCES, sources_sha256
from specbeam.experiments.records import RunRecord
from specbeam.reports.publish import changed_cells, publish

REPOSITORY = Path(__file__).parents[2]
RECORDS = REPOSITORY / "notebooks" / "records"


def picture(width: int = 2000) -> str:
    buffer = io.BytesIO()
    Image.effect_noise((width, 40), 80).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def source(tmp_path):
    return write_notebook(tmp_path / "notebooks", code=("show()",))


@pytest.fixture
def ran(tmp_path, source):
    """The folder of a run of that notebook, and a function that changes its record."""
    folder = tmp_path / "runs"
    folder.mkdir()
    notebook = nbformat.read(source, 4)
    notebook.cells.insert(2, nbformat.v4.new_code_cell("num_beams = 8", metadata={"tags": ["injected-parameters"]}))
    shown = {
        "text/html": "<style>b {color: red}</style><b>a tree</b>",
        "image/svg+xml": "<svg><text>a tree</text></svg>",
    }
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Box()"}
    home = f"kept in {Path.home()}/runs and {Path.home()}."
    notebook.cells[3].outputs = [
        nbformat.v4.new_output("display_data", data=shown),
        nbformat.v4.new_output("display_data", data=widget),
        nbformat.v4.new_output("display_data", data={"image/png": picture()}),
        nbformat.v4.new_output("stream", text=home),
    ]
    notebook.metadata["widgets"] = {"state": "much"}
    nbformat.write(notebook, folder / source.name)
    parameters = {"num_beams": 8, "length_penalty": 1.0, "prompts": ["a"], "seed": None}

    def record(**changes):
        made = RunRecord("01_toy", parameters=parameters, machine="Linux x86_64, A CPU, AVX2, 2 cores", threads=2)
        made.commit, made.dirty, made.seconds, made.finished = "a" * 40, False, 61.0, "2030-01-02T03:04:05+00:00"
        made.versions = {"python": "3.11", "torch": "2", "transformers": "5", SOURCES: sources_sha256()}
        for name, value in changes.items():
            setattr(made, name, value)
        made.save(folder / "01_toy.json")
        return folder

    record()
    return record


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "full.yaml"
    path.write_text("01_toy:\n  num_beams: 8\n")
    return path


def test_what_is_published_shows_itself_without_styles_and_scripts_and_names_no_folder_of_the_machine(
    tmp_path, source, ran, params
):
    page = publish([source], ran(), tmp_path / "records", params)
    notebook = nbformat.read(tmp_path / "records" / "01_toy.ipynb", 4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len(outputs) == 3 and [*outputs[0].data] == ["image/svg+xml"]
    ((kind, data),) = outputs[1].data.items()
    assert kind in ("image/png", "image/jpeg") and Image.open(io.BytesIO(base64.b64decode(data))).width == 1000
    assert outputs[2].text == "kept in ~/runs and ~." and "widgets" not in notebook.metadata
    assert notebook.cells[2].source == "num_beams = 8"
    text = page.read_text()
    assert "those of `full`" in text and "A CPU, AVX2" in text and "aaaaaaaaaaaa" in text and "2030-01-02" in text
    assert "[01_toy](01_toy.ipynb) | What is twice the beam? | 61 s" in text
    assert RunRecord.load(tmp_path / "records" / "01_toy.json").parameters["num_beams"] == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "failed", "error": "Kernel died"}, "failed: Kernel died"),
        ({"dirty": True}, "in no commit"),
        ({"commit": None, "dirty": None}, "of no repository"),
        ({"versions": {SOURCES: "0" * 64}}, "other code"),
        ({"parameters": {"num_beams": 4}}, "other parameters .*num_beams"),
    ],
)
def test_a_run_that_readers_could_not_repeat_is_refused_and_nothing_is_written(
    tmp_path, source, ran, params, changes, reason
):
    with pytest.raises(ValueError, match=f"01_toy .*{reason}"):
        publish([source], ran(**changes), tmp_path / "records", params)
    assert not (tmp_path / "records").exists()


def test_a_new_run_of_one_notebook_leaves_the_others_as_they_were_published(tmp_path, source, ran, params):
    runs, out = ran(), tmp_path / "records"
    publish([source], runs, out, params)
    before = (out / "01_toy.ipynb").read_text()
    ran(versions={SOURCES: "0" * 64}, commit="b" * 40).joinpath("01_toy.ipynb").unlink()
    other = write_notebook(source.parent, "02_toy")
    params.write_text(params.read_text() + "02_toy:\n  num_beams: 8\n")
    nbformat.write(nbformat.read(other, 4), runs / "02_toy.ipynb")
    record = RunRecord.load(out / "01_toy.json")
    record.notebook, record.commit = "02_toy", "c" * 40
    record.save(runs / "02_toy.json")
    text = publish([other], runs, out, params, [source]).read_text()
    assert (out / "01_toy.ipynb").read_text() == before
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| [0")]
    assert [(row[0][2:10], row[3]) for row in rows] == [("[01_toy]", f"`{'a' * 12}`"), ("[02_toy]", f"`{'c' * 12}`")]
    with pytest.raises(ValueError, match="03_toy"):
        publish([other], runs, out, params, [source.with_name("03_toy.ipynb")])


def test_prose_may_change_after_the_run_and_code_may_not(tmp_path, source, ran, params):
    notebook = nbformat.read(source, 4)
    notebook.cells[0].source = "# What is twice the beam, in other words?"
    nbformat.write(notebook, source)
    publish([source], ran(), tmp_path / "records", params)
    shown = nbformat.read(tmp_path / "records" / "01_toy.ipynb", 4)
    assert shown.cells[0].source == notebook.cells[0].source and shown.cells[3].outputs
    notebook.cells[2].source = "show(2)"
    nbformat.write(notebook, source)
    with pytest.raises(ValueError, match=r"code of .*01_toy\.ipynb has changed"):
        publish([source], ran(), tmp_path / "records", params)
    assert changed_cells(source, tmp_path / "records" / "01_toy.ipynb") == ["show(2)"]


def test_what_is_too_large_in_small_pictures_is_refused(tmp_path, source, ran, params, monkeypatch):
    monkeypatch.setattr("specbeam.reports.publish.LIMIT", 2000)
    with pytest.raises(ValueError, match="MB, more than"):
        publish([source], ran(), tmp_path / "records", params)


def test_what_is_published_is_of_todays_notebooks_and_small():
    notebooks = find_notebooks(["all"], REPOSITORY / "notebooks")
    changed = {path.stem: cells for path in notebooks if (cells := changed_cells(path, RECORDS / path.name))}
    assert not changed, "run `make run-notebooks PARAMS=full` and `make publish`; prose alone needs only the latter"
    assert sum(path.stat().st_size for path in RECORDS.iterdir()) <= 6_000_000
    records = [json.loads(path.read_text()) for path in RECORDS.glob("*.json")]
    assert len(records) == len(notebooks) and all(each["status"] == "ok" and not each["dirty"] for each in records)
