import re

import nbformat
import pytest

from specbeam.records import RunRecord
from specbeam.reports import mathml, read_runs, write_reports

HOSTILE = "<script>alert('x')</script>"


def save_run(folder, name="01_toy", cells=(), suffix=".ipynb", **fields):
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / f"{name}{suffix}")
    RunRecord(name, **fields).save(folder / f"{name}.json")


def output(**data):
    return nbformat.v4.new_output("display_data", data={key.replace("__", "/"): value for key, value in data.items()})


def page(tmp_path, *cells):
    save_run(tmp_path / "runs", cells=cells)
    write_reports(tmp_path / "runs", tmp_path / "reports")
    return (tmp_path / "reports" / "01_toy.html").read_text()


def test_a_page_fetches_nothing_and_runs_nothing(tmp_path):
    html = page(tmp_path, nbformat.v4.new_markdown_cell("# Why?\n$x$"), nbformat.v4.new_code_cell("1 + 1"))
    assert "<script" not in html
    assert not re.search(r"""(src|href)=["']?https?:""", html)
    assert not re.search(r"url\(['\"]?https?:", html)
    assert "default-src 'none'" in html
    assert "<title>Why?</title>" in html


def test_equations_become_mathml_and_code_keeps_its_dollars(tmp_path):
    source = "A sum $a_i * b_i * c$ and `cost $5 or $6`.\n\n$$\\log p(x_t \\mid x_{<t})$$\n\n"
    source += "\\begin{align} a &= b \\\\ c &= d \\end{align}"
    html = page(tmp_path, nbformat.v4.new_markdown_cell(source))
    assert html.count("<math") == 3
    assert html.count('display="block"') >= 2
    assert "cost $5 or $6" in html
    assert "<em>" not in html


def test_an_equation_that_cannot_be_converted_stays_readable():
    assert mathml(r"\left( a < b") == r"<code>\left( a &lt; b</code>"
    assert "mspace" in mathml(r"\log p")


def test_widgets_go_and_their_static_twins_stay(tmp_path):
    widget = output(**{"application__vnd.jupyter.widget-view+json": {"model_id": "1"}, "text__plain": "VBox(...)"})
    cell = nbformat.v4.new_code_cell("show()", outputs=[widget, output(text__html="<b>twin</b>")])
    cell.outputs.append(output(text__latex="$y^2$", text__plain="y2"))
    html = page(tmp_path, cell)
    assert "<b>twin</b>" in html and "VBox" not in html and "<msup>" in html


def test_the_index_shows_what_a_run_found(tmp_path):
    save_run(
        tmp_path / "runs",
        cells=[nbformat.v4.new_markdown_cell("# How *fast* is `beam`?")],
        metrics={"speed_up": 1.23456, "equal": True, "curve": [1, 2]},
        parameters={"num_beams": 4, "prompts": ["a", "é"]},
        commit="0123456789abcdef",
        dirty=True,
        seconds=61.2,
    )
    index = write_reports(tmp_path / "runs", tmp_path / "reports").read_text()
    for text in ("How fast is beam?", "speed up", "1.235", "equal", "yes", "61 s", "0123456789 with local changes"):
        assert text in index
    assert 'href="01_toy.html"' in index and "num_beams = 4" in index and "é" in index
    assert "curve" not in index


def test_everything_in_the_index_and_the_bar_is_escaped(tmp_path):
    cells = [nbformat.v4.new_markdown_cell(f"# {HOSTILE}")]
    fields = {"metrics": {HOSTILE: HOSTILE}, "parameters": {HOSTILE: [HOSTILE]}, "commit": HOSTILE}
    save_run(tmp_path / "runs", "a&'b", cells, ".failed.ipynb", status="failed", error=HOSTILE, **fields)
    index = write_reports(tmp_path / "runs", tmp_path / "reports")
    assert "<script" not in index.read_text()
    assert "&lt;script&gt;" in index.read_text()
    bar = re.search(r"<nav.*?</nav>", (index.parent / "a&'b.html").read_text(), re.DOTALL)
    assert bar and "<script" not in bar[0] and "failed: &lt;script" in bar[0]


def test_failed_and_unreadable_runs_are_listed_as_failed(tmp_path):
    runs = tmp_path / "runs"
    save_run(runs, "01_bad", suffix=".failed.ipynb", status="failed", error="KeyError: 'beam'")
    (runs / "02_cut.json").write_text('{"notebook": "02_')
    RunRecord("bench", metrics={"speed_up": 2}).save(runs / "bench.json")
    (runs / ".03_now.running.json").write_text("{}")
    assert [(run.name, run.record.status) for run in read_runs(runs)] == [
        ("01_bad", "failed"),
        ("02_cut", "failed"),
        ("bench", "ok"),
    ]
    index = write_reports(runs, tmp_path / "reports").read_text()
    assert "3 runs, 2 failed" in index and "KeyError" in index and "not complete JSON" in index


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="make run-notebooks"):
        write_reports(tmp_path / "none", tmp_path)
