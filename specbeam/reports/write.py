"""HTML pages of executed notebooks, and an index of all runs. Every page opens from a mail, without a network."""

import base64
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from specbeam.experiments.record_table import differing_parameters, headline, text
from specbeam.files import write_atomic
from specbeam.pictures.drawing import duration

from .characters import writable
from .facts import (
    Run,
    chosen_parameters,
    commands,
    device,
    failure,
    finished,
    model,
    provenance,
    read_runs,
    timings,
)
from .notebook_page import TEMPLATES, notebook_html, shrunk

TEMPLATES.globals |= {"device": device, "duration": duration, "failure": failure, "finished": finished, "model": model}
INDEX_PICTURES = 1_400_000  # bytes of all thumbnails; an index may have 2 MB, and rows take the rest
THUMBNAIL = (480, 32)  # width in pixels, colours
FIRST_PARAMETERS = 6  # that a row shows unfolded
LONGEST = 160  # characters of a value in the index; the run's page has it whole


def write_reports(
    runs_dir: str | Path = "build/runs",
    out_dir: str | Path = "build/reports",
    changed: Collection[str] | None = None,
    coming: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write `<name>.html` for every run and `index.html`; return the index's path.

    While others are yet to run, the pages of `changed` runs are enough, and `coming` has the names and titles of the
    notebooks that follow, the running one first.

    A run whose page cannot be made is listed with the reason. Raises ValueError when `runs_dir` does not exist.
    """
    out_dir = Path(out_dir)
    runs = read_runs(runs_dir)
    problems = {}
    for run in runs:
        there = (out_dir / f"{run.name}.html").is_file()
        if run.notebook is not None and (changed is None or run.name in changed or not there):
            try:
                write_atomic(out_dir / f"{run.name}.html", page_html(run))
            except ValueError as error:
                problems[run.name] = f"No page: {error}"
    return write_atomic(out_dir / "index.html", index_html(runs, problems, coming)).resolve()


def page_html(run: Run) -> str:
    """The page of one executed notebook, with how it was made.

    Raises ValueError when the notebook is missing, cannot be read, or is too large for a page.
    """
    if run.notebook is None:
        raise ValueError(f"The run {run.name} has no executed notebook, so it has no page: run it again.")
    record = run.record
    commit = record.commit and f"commit {record.commit[:10]}" + (" with local changes" if record.dirty else "")
    facts = (duration(record.seconds), device(record), commit, finished(record))
    around = {
        "index": "../" * run.name.count("/") + "index.html",
        "failed": failure(record),
        "facts": list(filter(None, facts)),
        "commands": commands(run),
        "dirty": record.dirty,
        "provenance": provenance(run),
        "tables": [
            ("parameters", [(name, text(value)) for name, value in record.parameters.items()]),
            ("timings", timings(record)),
        ],
    }
    return notebook_html(run.notebook, run.title, around)


def index_html(
    runs: Sequence[Run], problems: dict[str, str] | None = None, coming: Sequence[tuple[str, str]] = ()
) -> str:
    """The page that lists all runs. `problems` says, by the run's name, why a run has no page to link to.

    As long as there are notebooks `coming`, the page loads itself anew.
    """
    problems = problems or {}
    differing = differing_parameters(run.record for run in runs)
    rows = [_row(run, differing.get(run.record.notebook, []), problems.get(run.name)) for run in runs]
    figures, bytes_left = [], INDEX_PICTURES
    with_picture = [(row, run.picture) for row, run in zip(rows, runs, strict=True) if run.picture and row["link"]]
    for row, picture in with_picture:
        if thumbnail := shrunk(picture, *THUMBNAIL):
            kind, data = thumbnail
            uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
            if len(uri) <= bytes_left:
                figures.append((row, uri))
                bytes_left -= len(uri)
    script = TEMPLATES.get_template("index.js").render()
    html = TEMPLATES.get_template("index.html.j2").render(
        rows=rows,
        coming=coming,
        failed=sum(run.record.status == "failed" for run in runs),
        figures=figures,
        left_out=len(with_picture) - len(figures),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return writable(html)


def _row(run: Run, differing: Sequence[str], problem: str | None) -> dict[str, Any]:
    """What the index shows beside a run's facts; parameters that differ from the notebook's other runs come first."""
    record = run.record
    first = {name: record.parameters[name] for name in differing if name in record.parameters}
    chosen = [(name, _short(value)) for name, value in {**first, **chosen_parameters(run)}.items()]
    everything = [(name, _short(value)) for name, value in record.parameters.items()]
    return {
        "run": run,
        "link": f"{quote(run.name)}.html" if run.notebook is not None and problem is None else None,
        "problem": problem,
        "key": [(name, value[:LONGEST]) for name, value in headline(record)],
        "chosen": chosen[:FIRST_PARAMETERS],
        "parameters": everything if len(everything) > len(chosen[:FIRST_PARAMETERS]) else [],
    }


def _short(value: Any) -> str:
    shown = text(value)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 2] + " …"
