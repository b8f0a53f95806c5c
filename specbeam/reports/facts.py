"""What reports say about a run: its title and picture, how it was made, and the command that makes it again."""

import base64
import contextlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from specbeam.experiments.parameters import changed_parameters, read_notebook, read_parameters
from specbeam.experiments.record_models import model_name
from specbeam.experiments.record_table import read_rows, text
from specbeam.experiments.records import RunRecord
from specbeam.experiments.yaml_values import yaml_text

PICTURES = ("image/png", "image/jpeg")
HEADLINE_TAG = "headline"  # of the cell whose figure represents the run; without one it is the first figure


@dataclass(frozen=True)
class Run:
    """A record, and its executed notebook if there is one. `picture` is the headline figure (PNG or JPEG)."""

    name: str
    title: str
    record: RunRecord
    notebook: Path | None
    picture: bytes | None = None


def read_runs(runs_dir: str | Path) -> list[Run]:
    """Every run in a folder, by name. A record that cannot be read is listed as failed, with the reason.

    Raises ValueError when the folder does not exist.
    """
    return [_run(Path(runs_dir), row.name, row.record) for row in read_rows(runs_dir)]


def read_run(runs_dir: str | Path, name: str) -> Run:
    """One run of a folder. Raises ValueError when its record is missing or cannot be read."""
    return _run(Path(runs_dir), name, RunRecord.load(Path(runs_dir) / f"{name}.json"))


def _run(runs_dir: Path, name: str, record: RunRecord) -> Run:
    candidates = (runs_dir / f"{name}{suffix}" for suffix in (".ipynb", ".failed.ipynb"))
    notebook = next((path for path in candidates if path.is_file()), None)
    cells = _cells(notebook)
    return Run(name, title_of(cells) or name, record, notebook, _picture(cells))


def failure(record: RunRecord) -> str | None:
    return (record.error or "no reason recorded") if record.status == "failed" else None


def model(record: RunRecord) -> str:
    """Target and draft in short, or "" where the record names none."""
    target = record.models.get("target")
    name = record.models.get("pair") or (isinstance(target, dict) and target.get("name")) or ""
    return model_name(str(name or record.parameters.get("target") or ""))


def device(record: RunRecord) -> str:
    """Device and dtype, as far as they are recorded."""
    return " ".join(filter(None, [record.device, record.dtype]))


def finished(record: RunRecord) -> str:
    """Date and minute at which the run finished."""
    try:
        return datetime.fromisoformat(record.finished).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return record.finished


def chosen_parameters(run: Run) -> dict[str, Any]:
    """The parameters that differ from the executed notebook's defaults; all of them where it has no defaults."""
    if run.notebook is not None:
        try:
            defaults = {name: item.default for name, item in read_parameters(run.notebook).items()}
            return changed_parameters(run.notebook, {**defaults, **run.record.parameters})
        except ValueError:
            pass
    return run.record.parameters


def commands(run: Run) -> list[str]:
    """Shell commands that repeat the run; none for a record without a notebook."""
    if run.notebook is None:
        return []
    record = run.record
    words = ["specbeam", "run", record.notebook]
    if (name := run.name.rpartition("/")[2]) != record.notebook:
        words += ["--name", name]
    for parameter, value in chosen_parameters(run).items():
        words += ["-p", f"{parameter}={yaml_text(value)}"]
    return [*([f"git checkout {record.commit}"] if record.commit else []), shlex.join(words)]


def provenance(run: Run) -> list[tuple[str, str]]:
    """Names and values of everything that determined the run's result, except parameters and timings."""
    record = run.record
    changes = ", with local changes that it does not hold" if record.commit and record.dirty else ""
    versions = [f"{name} {value}" for name, value in record.versions.items() if len(value) < 40]
    hashes = [f"{name} {value}" for name, value in record.versions.items() if len(value) >= 40]
    lines: dict[str, Any] = {
        "run": run.name,
        "notebook": record.notebook,
        "status": record.status + (f": {record.error}" if record.error else ""),
        "finished": record.finished,
        "duration": None if record.seconds is None else f"{record.seconds:.1f} s",
        "commit": f"{record.commit or ''}{changes}",
        "notebook hash": record.notebook_sha256,
        "source hash": ", ".join(hashes),
        **{role: _model(value) for role, value in record.models.items()},
        "device": record.device,
        "dtype": record.dtype,
        "threads": record.threads,
        "machine": record.machine,
        "versions": ", ".join(versions),
        "seeds": ", ".join(map(str, record.seeds)),
        "warm-ups": record.warmups,
        "repeats": record.repeats,
        "record schema": record.schema,
    }
    return [(name, "not recorded" if value in (None, "") else str(value)) for name, value in lines.items()]


def timings(record: RunRecord) -> list[tuple[str, str]]:
    """Names of the timings, and their statistics as one line each."""
    return [
        (name, ", ".join(f"{statistic} {text(value)}" for statistic, value in spread.items()))
        for name, spread in record.timings.items()
    ]


def _model(value: Any) -> str:
    if not isinstance(value, dict):
        return model_name(text(value))
    name = [model_name(str(value["name"]))] if value.get("name") else []
    return ", ".join(name + [f"{key.replace('_', ' ')} {text(item)}" for key, item in value.items() if key != "name"])


def _cells(notebook: Path | None) -> list[dict[str, Any]]:
    """The cells of a notebook file; none when it cannot be read."""
    try:
        return read_notebook(notebook).cells if notebook else []
    except ValueError:
        return []


def title_of(cells: list[dict[str, Any]]) -> str | None:
    """The first heading, as plain text."""
    texts = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    heading = re.search(r"^#\s+(.+)$", "\n".join(texts), re.MULTILINE)
    return re.sub(r"[`*]", "", heading[1]).strip() if heading else None


def _picture(cells: list[dict[str, Any]]) -> bytes | None:
    marked = [cell for cell in cells if HEADLINE_TAG in cell["metadata"].get("tags", [])]
    return next((picture for _, picture in pictures([*marked, *cells])), None)


def pictures(cells: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Any, bytes]]:
    """The data of every output of cells that has a picture, and the picture's bytes."""
    for data in (output.get("data", {}) for cell in cells for output in cell.get("outputs", [])):
        if kind := next((kind for kind in PICTURES if kind in data), None):
            with contextlib.suppress(ValueError):  # no base64
                yield data, base64.b64decode(data[kind])
