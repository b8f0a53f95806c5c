"""HTML pages of executed notebooks, and an index of all runs. Every page opens from a mail, without a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from specbeam.experiments.record_table import differing_parameters, headline, text
from specbeam.files import write_atomic

from . import index_page
from .facts import (
    Run,
    chosen_parameters,
    commands,
    duration,
    failure,
    finished,
    model,
    provenance,
    read_runs,
    timings,
)
from .images import data_uri, shrunk
from .notebook_page import mathml, notebook_html

__all__ = ["Run", "headline", "index_html", "mathml", "page_html", "read_runs", "write_page", "write_reports"]

INDEX_PICTURES = 1_400_000  # bytes of all thumbnails; rows take the rest of what the index may have, 2 MB
THUMBNAIL = (480, 32)  # pixels of width, colours
CHOSEN = 6  # parameters that a row shows before one asks for all
LONGEST = 160  # characters of a value in the index; the run's page has it whole


def write_reports(runs_dir: str | Path = "build/runs", out_dir: str | Path = "build/reports") -> Path:
    """Write `<name>.html` for every run and `index.html`; return the index's path.

    A run whose page cannot be made is listed with the reason. Raises ValueError when `runs_dir` does not exist.
    """
    out_dir = Path(out_dir)
    runs = read_runs(runs_dir)
    remarks = {}
    for run in runs:
        if run.notebook is not None:
            try:
                write_page(run, out_dir)
            except ValueError as error:
                remarks[run.name] = f"No page: {error}"
    return write_atomic(out_dir / "index.html", index_html(runs, remarks)).resolve()


def write_page(run: Run, out_dir: str | Path = "build/reports") -> Path:
    """Write the page of one run and return its path. Raises ValueError as `page_html` does."""
    return write_atomic(Path(out_dir) / f"{run.name}.html", page_html(run))


def page_html(run: Run) -> str:
    """The page of one executed notebook, with how it was made.

    Raises ValueError when the notebook is missing, cannot be read, or is too large for a page.
    """
    if run.notebook is None:
        raise ValueError(f"The run {run.name} has no executed notebook, so it has no page: run it again.")
    record = run.record
    commit = record.commit and f"commit {record.commit[:10]}" + (" with local changes" if record.dirty else "")
    facts = (duration(record.seconds), _device(run), commit, finished(record))
    around = {
        "index": "../" * run.name.count("/") + "index.html",
        "failed": failure(record),
        "facts": [fact for fact in facts if fact],
        "commands": commands(run),
        "dirty": record.dirty,
        "provenance": provenance(run),
        "tables": [
            ("parameters", [(name, text(value)) for name, value in record.parameters.items()]),
            ("timings", timings(record)),
        ],
    }
    return notebook_html(run.notebook, run.title, around)


def index_html(runs: Sequence[Run], remarks: dict[str, str] | None = None) -> str:
    """The page that lists all runs. `remarks` are shown at runs by name; those have no page to lead to."""
    remarks = remarks or {}
    differing = differing_parameters(run.record for run in runs)
    rows = [_row(run, differing.get(run.record.notebook, []), remarks.get(run.name)) for run in runs]
    figures, room = [], INDEX_PICTURES
    drawn = [(row, run.picture) for row, run in zip(rows, runs, strict=True) if run.picture and row["link"]]
    for row, picture in drawn:
        found = shrunk(picture, *THUMBNAIL)
        address = data_uri(*found) if found else ""
        if found and len(address) <= room:
            figures.append({**row, "picture": address})
            room -= len(address)
    template = jinja2.Environment(autoescape=True).from_string(index_page.INDEX)
    return template.render(
        runs=rows,
        failed=sum(run.record.status == "failed" for run in runs),
        figures=figures,
        left_out=len(drawn) - len(figures),
        script_hash=index_page.SCRIPT_HASH,
    )


def _row(run: Run, differing: Sequence[str], remark: str | None) -> dict[str, Any]:
    """What a row shows; the parameters that tell it from the notebook's other runs come first."""
    record = run.record
    first = {name: record.parameters[name] for name in differing if name in record.parameters}
    chosen = [(name, _short(value)) for name, value in {**first, **chosen_parameters(run)}.items()]
    everything = [(name, _short(value)) for name, value in record.parameters.items()]
    return {
        "name": run.name,
        "title": run.title,
        "link": f"{quote(run.name)}.html" if run.notebook is not None and remark is None else None,
        "remark": remark,
        "status": record.status,
        "failed": failure(record),
        "key": [(name, value[:LONGEST]) for name, value in headline(record)],
        "chosen": chosen[:CHOSEN],
        "parameters": everything if len(everything) > len(chosen[:CHOSEN]) else [],
        "model": model(record),
        "device": _device(run),
        "commit": (record.commit or "")[:8],
        "dirty": record.dirty,
        "seconds": "" if record.seconds is None else record.seconds,
        "duration": duration(record.seconds),
        "finished": finished(record),
    }


def _device(run: Run) -> str:
    return " ".join(filter(None, [run.record.device, run.record.dtype]))


def _short(value: Any) -> str:
    shown = text(value)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 2] + " …"
