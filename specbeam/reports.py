"""Executed notebooks as HTML pages that need no network and no script, and an index of them.

Equations become MathML and images are embedded; widgets, which would need scripts, are dropped: their static twins
stand beside them.
"""

import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from specbeam import report_pages
from specbeam.records import RunRecord, write_atomic

KEY_NUMBERS = 4
# Names that TeX sets apart from what follows by a thin space, which MathML leaves out.
OPERATORS = re.compile(r"(<mi>(?:log|ln|exp|arg|max|min|softmax)</mi>)(?=<m(?:i|n|sub|sup|frac|row)\b)")


@dataclass(frozen=True)
class Run:
    """A record, and the executed notebook it belongs to if there is one."""

    name: str
    title: str
    record: RunRecord
    notebook: Path | None


def write_reports(runs_dir: str | Path = "build/runs", out_dir: str | Path = "build/reports") -> Path:
    """Write `<name>.html` for every run and `index.html`; return the index's path.

    Raises ValueError when `runs_dir` does not exist.
    """
    runs_dir, out_dir = Path(runs_dir), Path(out_dir)
    runs = read_runs(runs_dir)
    for run in runs:
        if run.notebook is not None:
            write_atomic(out_dir / f"{run.name}.html", notebook_html(run))
    return write_atomic(out_dir / "index.html", index_html(runs)).resolve()


def read_runs(runs_dir: str | Path) -> list[Run]:
    """Every run in a folder, by name. A record that cannot be read is listed as failed, with the reason.

    Raises ValueError when the folder does not exist.
    """
    runs_dir = Path(runs_dir)
    if not runs_dir.is_dir():
        raise ValueError(f"There is no folder {runs_dir} of runs: run a notebook first (make run-notebooks).")
    runs = []
    for path in sorted(runs_dir.glob("[!.]*.json")):
        try:
            record = RunRecord.load(path)
        except ValueError as error:
            record = RunRecord(path.stem, status="failed", error=str(error))
        candidates = (runs_dir / f"{path.stem}{suffix}" for suffix in (".ipynb", ".failed.ipynb"))
        notebook = next((item for item in candidates if item.is_file()), None)
        runs.append(Run(path.stem, _title(notebook) or path.stem, record, notebook))
    return runs


def headline(record: RunRecord) -> list[tuple[str, str]]:
    """The first few plain metrics as (name, value) text."""
    plain = [item for item in record.metrics.items() if isinstance(item[1], (bool, int, float, str))]
    return [(name.replace("_", " "), _text(value)) for name, value in plain[:KEY_NUMBERS]]


def index_html(runs: list[Run]) -> str:
    """The page that lists all runs."""
    rows = [
        {
            "title": run.title,
            "link": f"{quote(run.name)}.html" if run.notebook is not None else None,
            "status": run.record.status,
            "failed": _failure(run.record),
            "facts": [run.name, *_facts(run.record)],
            "key": headline(run.record),
            "summary": _summary(run.record),
            "parameters": [(name, _text(value)) for name, value in run.record.parameters.items()],
        }
        for run in runs
    ]
    failed = sum(run.record.status == "failed" for run in runs)
    template = jinja2.Environment(autoescape=True).from_string(report_pages.INDEX)
    return template.render(runs=rows, failed=failed)


def notebook_html(run: Run) -> str:
    """The page of one executed notebook. Raises ValueError when the notebook cannot be read."""
    assert run.notebook is not None
    try:
        notebook: Any = nbformat.read(run.notebook, as_version=4)
    except Exception as error:  # nbformat raises its own and json's errors for the same thing
        raise ValueError(f"{run.notebook} is not a notebook: {error}. Run it again.") from error
    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = run.title
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_still, cell.outputs) if output is not None]
    resources = {
        "metadata": {"name": run.name, "path": str(run.notebook.parent)},
        "run": {"failed": _failure(run.record), "facts": _facts(run.record)},
    }
    html, _ = _exporter().from_notebook_node(notebook, resources)
    return html


def mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML; as code, so that it can still be read, where it cannot be converted."""
    try:
        return OPERATORS.sub(r'\1<mspace width="0.17em"/>', convert(tex.strip(), display=display))
    except Exception:  # the converter raises many types, and a page with one raw formula beats no page
        return f"<code>{escape(tex)}</code>"


class _MathmlRenderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


def _exporter() -> HTMLExporter:
    settings = Config()
    settings.TagRemovePreprocessor.remove_cell_tags = {"remove-cell"}
    settings.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
    exporter = HTMLExporter(
        config=settings,
        extra_loaders=[jinja2.DictLoader({"report.html.j2": report_pages.NOTEBOOK})],
        template_file="report.html.j2",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
    )

    @jinja2.pass_context
    def markdown_with_mathml(context: Any, source: str) -> Any:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _MathmlRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render(source)

    exporter.register_filter("markdown2html", markdown_with_mathml)
    return exporter


def _still(output: Any) -> Any:
    """The output without what needs a script, or None when nothing else is left."""
    data = output.get("data")
    if data is None:
        return output
    moving = [kind for kind in data if "widget" in kind or "javascript" in kind]
    for kind in moving:
        del data[kind]
    if "text/latex" in data and "text/html" not in data:
        data["text/html"] = mathml(data.pop("text/latex").strip().strip("$"), "block")
    return None if moving and set(data) <= {"text/plain"} else output


def _title(notebook: Path | None) -> str | None:
    """The first heading. None when there is none, or when the notebook cannot be read."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"] if notebook else []
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    except (ValueError, KeyError, TypeError):
        return None
    found = re.search(r"^#\s+(.+)$", "\n".join(texts), re.MULTILINE)
    return re.sub(r"[`*]", "", found[1]).strip() if found else None


def _failure(record: RunRecord) -> str | None:
    return (record.error or "no reason recorded") if record.status == "failed" else None


def _facts(record: RunRecord) -> list[str]:
    commit = record.commit and f"commit {record.commit[:10]}" + (" with local changes" if record.dirty else "")
    device = " ".join(filter(None, [record.device, record.dtype]))
    seconds = None if record.seconds is None else f"{record.seconds:.0f} s"
    finished = record.finished.replace("T", " ").replace("+00:00", " UTC")
    return [fact for fact in (seconds, device, commit, finished) if fact]


def _summary(record: RunRecord) -> str:
    short = [f"{name} = {_text(value)}" for name, value in record.parameters.items() if len(_text(value)) <= 24]
    return "parameters: " + (", ".join(short[:5]) + ", …" if short else "…")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
