"""What many records say together: what ran and failed, how fast it was, which runs differ, and which agree.

Reads records and loads no model. Rows are those of `record_table`; what comes out is plain data, which
notebook 08 shows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from specbeam.experiments.record_table import Row, differing_parameters, is_number, read_rows, text
from specbeam.experiments.records import RECORD_VARIABLE, repository_root
from specbeam.pictures.drawing import counted
from specbeam.pictures.plot_records import SpeedPoint, speed_finding

from .model_table import UNUSABLE, model_table, unequal
from .record_speed import key_number

OWN = "08_report"  # reports are about other runs
CIRCUMSTANCES = ("commit", "dirty", "notebook_sha256", "machine", "device", "dtype", "threads", "versions", "models")


def read_folders(runs: str | Path | Sequence[str | Path] | None = None) -> tuple[list[Path], list[Row]]:
    """The folders, and the rows of the records in them; reports are left out, and copies of a record count once.

    runs: a folder or several, from the repository's root; None is the folder that the runner puts this run into, else
        build/runs, and it may be missing. Raises ValueError for a given folder that does not exist.
    """
    root = repository_root()
    if runs is None:
        asked = os.environ.get(RECORD_VARIABLE)
        folders = [Path(asked).parent if asked else root / "build" / "runs"]
        if not folders[0].is_dir():
            return folders, []
    else:
        folders = [root / folder for folder in ([runs] if isinstance(runs, str | Path) else runs)]
    rows: list[Row] = []
    for folder, label in zip(folders, _labels(folders), strict=True):
        for row in read_rows(folder):
            if row.record.notebook != OWN and not any(row.record == other.record for other in rows):
                name = f"{label}: {row.name}" if len(folders) > 1 else row.name
                rows.append(Row(name, row.record, {**row.values, "name": name}))
    return folders, rows


def _labels(folders: Sequence[Path]) -> list[str]:
    """As many of a folder's last parts as tell it from the others."""
    for count in range(1, max((len(folder.parts) for folder in folders), default=1) + 1):
        labels = ["/".join(folder.parts[-count:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def relative_spread(values: Sequence[float]) -> float:
    """(largest − smallest) / the largest magnitude; 0 where all are 0."""
    largest = max(abs(value) for value in values)
    return (max(values) - min(values)) / largest if largest else 0.0


def repeated(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups of two or more accepted runs of one notebook with the same parameters."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.record.status == "ok" and row.record.parameters:
            key = row.record.notebook, json.dumps(row.record.parameters, sort_keys=True)
            groups.setdefault(key, []).append(row)
    return [many for many in groups.values() if len(many) > 1]


def disagreements(rows: Sequence[Row], tolerance: float = 0.1) -> list[dict[str, Any]]:
    """Plain metrics that differ among runs with the same parameters: numbers by more than `tolerance`, others at all.

    Each has `notebook`, `metric`, `values` (run → value), `spread` (None for what is no number) and `differs`: what
    else was not the same. Largest spreads first; what is no number comes before.
    """
    found = []
    for many in repeated(rows):
        differs = [name for name in CIRCUMSTANCES if len({text(getattr(row.record, name)) for row in many}) > 1]
        for metric in many[0].record.metrics:
            values = {row.name: row.record.metrics.get(metric) for row in many}
            spread = _spread(list(values.values()))
            if spread is None or spread > tolerance:
                about = {"notebook": many[0].record.notebook, "metric": metric, "values": values}
                found.append({**about, "spread": spread, "differs": differs})
    return sorted(found, key=lambda line: (line["spread"] is not None, -(line["spread"] or 0)))


def _spread(values: list[Any]) -> float | None:
    """None for what differs and is no number; 0 for lists and dicts, which are not compared."""
    if all(map(is_number, values)):
        return relative_spread(values)
    if any(isinstance(value, Mapping | list) for value in values):
        return 0.0
    return None if len({text(value) for value in values}) > 1 else 0.0


def against_baseline(rows: Sequence[Row], baseline: str | None = None) -> Iterator[dict[str, Any]]:
    """Each notebook's first key number in every accepted run, and its ratio to that of the baseline.

    baseline: name of a run, whose notebook alone is compared then; None takes the first run of each notebook. Raises
    ValueError for a name that no accepted run has.
    """
    accepted = [row for row in rows if row.record.status == "ok"]
    chosen = [row for row in accepted if row.name == baseline]
    if baseline and not chosen:
        names = ", ".join(row.name for row in accepted) or "none"
        raise ValueError(f"baseline={baseline!r} is no accepted run; there are: {names}.")
    differing = differing_parameters(row.record for row in accepted)
    for notebook in dict.fromkeys(row.record.notebook for row in chosen or accepted):
        many = [row for row in accepted if row.record.notebook == notebook]
        base = chosen[0] if chosen else many[0]
        metric = key_number(base)
        if metric is None or len(many) < 2:
            continue
        for row in many:
            parameters, value = row.record.parameters, row.record.metrics.get(metric)
            yield {
                "run": row.name,
                "parameters": {name: parameters[name] for name in differing.get(notebook, []) if name in parameters},
                "metric": metric,
                "value": value,
                "ratio": value / unit if is_number(value) and (unit := base.record.metrics[metric]) else None,
                "is_baseline": row is base,
            }


def findings(rows: Sequence[Row], points: Sequence[SpeedPoint], tolerance: float = 0.1) -> list[str]:
    """What the records say, a sentence of Markdown each."""
    if not rows:
        return ["There are no records yet: `make run-notebooks` makes them, or `specbeam run NOTEBOOK`."]
    failed = [row for row in rows if row.record.status == "failed"]
    wrong = [f"`{row.name}` ({found})" for row in rows if (found := unequal(row.record))]
    notebooks = len({row.record.notebook for row in rows})
    lines = [
        f"{counted(len(rows), 'run')} of {counted(notebooks, 'notebook')}, {len(failed)} failed"
        + (f": {', '.join(f'`{row.name}`' for row in failed)}." if failed else "."),
        f"Outputs that were to be equal differed in {counted(len(wrong), 'run')}: {', '.join(wrong)}."
        if wrong
        else "No run reports outputs that differ where they have to be equal.",
    ]
    if points:
        lines.append(speed_finding(points) + ".")
    models = model_table(rows)
    if models:
        usable = sum(line["usable"] != UNUSABLE for line in models)
        lines.append(f"{counted(len(models), 'model')} (by name and dtype), {usable} usable.")
    if groups := repeated(rows):
        apart = disagreements(rows, tolerance)
        notes = ", ".join(dict.fromkeys(f"{line['metric']} of {line['notebook']}" for line in apart))
        lines.append(
            f"{counted(sum(map(len, groups)), 'run')} share their parameters with another; "
            + (
                f"they disagree by more than {tolerance:.0%} on {notes}."
                if apart
                else f"they agree to {tolerance:.0%}."
            )
        )
    else:
        lines.append("No two runs have the same parameters, so nothing here was shown twice.")
    return lines
