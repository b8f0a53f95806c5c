import base64
import hashlib
import io
import re
import shlex
from html import unescape

import nbformat
import numpy as np
import pytest
from PIL import Image

from specbeam.experiments.records import RunRecord
from specbeam.reports.facts import read_runs
from specbeam.reports.notebook_page import PAGE_LIMIT, mathml
from specbeam.reports.write import write_reports

HOSTILE = "<script>alert('x')</script>"


def save_run(folder, name="01_toy", cells=(), suffix=".ipynb", **fields):
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / f"{name}{suffix}")
    RunRecord(**{"notebook": name, **fields}).save(folder / f"{name}.json")


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


def test_a_named_operator_stays_one_upright_word():
    assert "<mtext>top-</mtext><mi>k</mi>" in mathml(r"\operatorname{top-}k")
    assert "<msub><mtext>median</mtext><mi>r</mi></msub>" in mathml(r"\operatorname*{median}_r x")


def test_widgets_go_and_their_static_twins_stay(tmp_path):
    widget = output(**{"application__vnd.jupyter.widget-view+json": {"model_id": "1"}, "text__plain": "VBox(...)"})
    cell = nbformat.v4.new_code_cell("show()", outputs=[widget, output(text__html="<b>twin</b>")])
    cell.outputs.append(output(text__latex="$y^2$", text__plain="y2"))
    html = page(tmp_path, cell)
    assert "<b>twin</b>" in html and "VBox" not in html and "<msup>" in html


def test_scripts_in_outputs_and_text_are_taken_out(tmp_path):
    plot = output(text__html="<b>static</b><SCRIPT src='https://cdn.example/plot.js'>\nrun()</SCRIPT ><script>open")
    cell = nbformat.v4.new_code_cell("plot()", outputs=[plot])
    html = page(tmp_path, nbformat.v4.new_markdown_cell(f"Text {HOSTILE} goes on."), cell)
    assert "<script" not in html.lower() and "cdn.example" not in html
    assert "<b>static</b>" in html and "goes on" in html


def test_long_code_is_folded_and_short_code_is_seen(tmp_path):
    long = "\n".join(f"x{line} = {line}" for line in range(30))
    html = page(tmp_path, nbformat.v4.new_code_cell("short = 1"), nbformat.v4.new_code_cell(long))
    assert html.count('<details class="code">') == 1 and "30 lines of code: x0 = 0" in html
    assert '<div class="code">' in html


def test_a_page_says_how_its_run_was_made_and_how_to_make_it_again(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Why?"),
        nbformat.v4.new_code_cell("num_beams = 4\nprompts = ['a']\nseed = 0", metadata={"tags": ["parameters"]}),
    ]
    save_run(
        tmp_path / "runs",
        "01_toy__num_beams=8",
        cells,
        notebook="01_toy",
        parameters={"num_beams": 8, "prompts": ["it's"], "seed": 0},
        timings={"beam_s": {"median": 1.5, "n": 3}},
        models={"target": {"name": "some/model", "revision": "f00d"}},
        versions={"torch": "2.13", "specbeam_sources": "e" * 64},
        commit="0123456789abcdef",
        dirty=True,
        notebook_sha256="c0ffee",
        device="cuda:0",
        dtype="bfloat16",
        machine="Linux, 8 cores, 1 × Card",
        threads=8,
        seeds=[11],
        warmups=1,
        repeats=3,
        seconds=7300.0,
        finished="2026-01-02T03:04:05+00:00",
    )
    index = write_reports(tmp_path / "runs", tmp_path / "reports")
    html = unescape((index.parent / "01_toy__num_beams=8.html").read_text())
    assert "git checkout 0123456789abcdef\n" in html
    command = re.search(r"^specbeam run .*(?=</pre>)", html, re.MULTILINE)
    assert command and shlex.split(command[0]) == [
        *("specbeam", "run", "01_toy", "--name", "01_toy__num_beams=8"),
        *("-p", "num_beams=8", "-p", 'prompts=["it\'s"]'),
    ]
    made = dict(re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", html))
    assert made["commit"] == "0123456789abcdef, with local changes that it does not hold"
    assert made["target"] == "some/model, revision f00d"
    assert (made["versions"], made["notebook hash"]) == ("torch 2.13", "c0ffee")
    assert made["source hash"] == f"specbeam_sources {'e' * 64}"
    assert (made["device"], made["dtype"], made["machine"]) == ("cuda:0", "bfloat16", "Linux, 8 cores, 1 × Card")
    assert (made["threads"], made["seeds"], made["warm-ups"], made["repeats"]) == ("8", "11", "1", "3")
    assert (made["seed"], made["beam_s"], made["duration"]) == ("0", "median 1.5, n 3", "7300.0 s")
    assert "2.0 h" in html and "2026-01-02 03:04" in html


def test_a_page_below_another_folder_leads_back_to_the_index(tmp_path):
    save_run(tmp_path / "runs" / "sweep", "a")
    index = write_reports(tmp_path / "runs", tmp_path / "reports")
    assert 'href="sweep/a.html"' in index.read_text()
    assert 'href="../index.html"' in (index.parent / "sweep" / "a.html").read_text()


def png(width, height, noise):
    """A picture of noise does not compress, one without does."""
    pixels = np.random.default_rng(0).integers(0, 256 if noise else 1, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def pictures(html):
    found = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


@pytest.mark.slow
def test_large_pictures_are_made_smaller_until_the_page_can_be_mailed(tmp_path):
    figure = output(image__png=png(1800, 1400, noise=True))
    assert len(figure.data["image/png"]) > 2 * PAGE_LIMIT
    cells = [nbformat.v4.new_code_cell("draw()", outputs=[figure])]
    html = page(tmp_path, *cells)
    assert len(html.encode()) < PAGE_LIMIT
    assert "smaller than they were made" in html
    assert pictures(html)[0].width <= 1600
    kept = nbformat.read(tmp_path / "runs" / "01_toy.ipynb", as_version=4)
    assert kept.cells[0].outputs == cells[0].outputs


def test_pictures_of_a_small_page_stay_as_they_are(tmp_path):
    figure = png(1800, 1400, noise=False)
    html = page(tmp_path, nbformat.v4.new_code_cell("draw()", outputs=[output(image__png=figure)]))
    assert f"data:image/png;base64,{figure}" in html and "smaller than" not in html


def test_long_outputs_give_way_when_pictures_are_not_to_blame(tmp_path):
    printed = nbformat.v4.new_output("stream", text="word " * 1_200_000)
    html = page(tmp_path, nbformat.v4.new_code_cell("print()", outputs=[printed, output(text__html="<b>kept</b>")]))
    assert len(html.encode()) < PAGE_LIMIT
    assert "Long outputs are left out" in html and "An output was left out here" in html and "<b>kept</b>" in html


def test_a_run_whose_page_cannot_be_made_is_listed_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("specbeam.reports.notebook_page.PAGE_LIMIT", 200_000)
    save_run(tmp_path / "runs", "big", [nbformat.v4.new_markdown_cell("# Big?\n\n" + "word " * 60_000)])
    save_run(tmp_path / "runs", "good", [nbformat.v4.new_markdown_cell("# Good?")])
    save_run(tmp_path / "runs", "torn")
    (tmp_path / "runs" / "torn.ipynb").write_text('{"cells": [')
    index = write_reports(tmp_path / "runs", tmp_path / "reports")
    assert {path.name for path in index.parent.iterdir()} == {"good.html", "index.html"}
    html = index.read_text()
    assert "would have 0.3 MB, more than 0.2" in html and "torn.ipynb is not a notebook" in html
    assert 'href="big.html"' not in html and 'href="good.html"' in html


def test_the_index_shows_what_a_run_found(tmp_path):
    save_run(
        tmp_path / "runs",
        cells=[nbformat.v4.new_markdown_cell("# How *fast* is `beam`?")],
        metrics={"speed_up": 1.23456, "equal": True, "curve": [1, 2]},
        parameters={"num_beams": 4, "prompts": ["a", "é"]},
        models={"pair": "Toy + recall"},
        device="cpu",
        dtype="float32",
        commit="0123456789abcdef",
        dirty=True,
        seconds=61.2,
        finished="2026-01-02T03:04:05+00:00",
    )
    index = write_reports(tmp_path / "runs", tmp_path / "reports").read_text()
    for text in ("How fast is beam?", "speed up", "1.235", "equal", "yes", "61 s", "01234567", "+ changes"):
        assert text in index
    for text in (
        'href="01_toy.html"',
        "<dt>num_beams</dt><dd>4</dd>",
        "é",
        "Toy + recall",
        "cpu float32",
        "2026-01-02",
    ):
        assert text in index
    assert "curve" not in index


def test_the_index_puts_first_what_tells_runs_of_a_notebook_apart(tmp_path):
    for beams in (2, 4):
        parameters = {f"p{number}": number for number in range(20)} | {"num_beams": beams}
        save_run(tmp_path / "runs", f"x__num_beams={beams}", notebook="x", parameters=parameters)
    rows = write_reports(tmp_path / "runs", tmp_path / "reports").read_text().split("<tr data-run")[1:]
    first = [re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", row)[0] for row in rows]
    assert first == [("num_beams", "2"), ("num_beams", "4")]
    assert "all 21" in rows[0]


def test_the_index_runs_its_own_script_and_nothing_else(tmp_path):
    save_run(tmp_path / "runs")
    html = write_reports(tmp_path / "runs", tmp_path / "reports").read_text()
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and html.count("<script") == 1
    assert f"script-src 'sha256-{digest}'" in html
    assert "default-src 'none'" in html and not re.search(r"(src|href)=.https?:", html)


def test_the_index_shows_the_marked_figure_of_a_run_or_else_its_first(tmp_path):
    first, marked = output(image__png=png(40, 10, noise=False)), output(image__png=png(1000, 250, noise=False))
    cells = [nbformat.v4.new_code_cell("a()", outputs=[first]), nbformat.v4.new_code_cell("b()", outputs=[marked])]
    save_run(tmp_path / "runs", "first", cells)
    cells[1].metadata["tags"] = ["headline"]
    save_run(tmp_path / "runs", "marked", cells)
    broken = output(image__png="no picture")
    save_run(tmp_path / "runs", "none", [nbformat.v4.new_code_cell("c()", outputs=[broken])])
    html = write_reports(tmp_path / "runs", tmp_path / "reports").read_text()
    assert [picture.size for picture in pictures(html)] == [(40, 10), (480, 120)]


@pytest.mark.slow
def test_the_index_stays_small_with_many_large_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("specbeam.reports.write.INDEX_PICTURES", 300_000)
    figure = output(image__png=png(500, 400, noise=True))
    for name in "abcdef":
        save_run(tmp_path / "runs", name, [nbformat.v4.new_code_cell("draw()", outputs=[figure])])
    html = write_reports(tmp_path / "runs", tmp_path / "reports").read_text()
    assert 0 < len(pictures(html)) < 6 and len(html) < 330_000
    assert f"{6 - len(pictures(html))} more are on the pages of their runs" in html


def test_everything_in_the_index_and_the_page_is_escaped(tmp_path):
    cells = [nbformat.v4.new_markdown_cell(f"# {HOSTILE}")]
    fields = {"metrics": {HOSTILE: HOSTILE}, "parameters": {HOSTILE: [HOSTILE]}, "commit": HOSTILE}
    fields |= {"models": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}, "timings": {HOSTILE: {HOSTILE: 1}}}
    save_run(tmp_path / "runs", "a&'b", cells, ".failed.ipynb", status="failed", error=HOSTILE, **fields)
    index = write_reports(tmp_path / "runs", tmp_path / "reports")
    assert "<script>alert" not in index.read_text()
    assert "&lt;script&gt;" in index.read_text()
    html = (index.parent / "a&'b.html").read_text()
    assert "<script" not in html and "failed: &lt;script" in html


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
