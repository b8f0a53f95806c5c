"""What many records say together: which models could be used, which runs differ, and which agree.

Reads records and loads no model. Rows are those of `record_table`; what comes out is plain data, which
notebook 08 shows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from specbeam.embedded import NAME
from specbeam.record_models import model_name
from specbeam.record_speed import SpeedPoint, is_number, key_number, walk
from specbeam.record_table import Row, differing_parameters, read_rows, text
from specbeam.records import RECORD_VARIABLE, RunRecord, repository_root

OWN = "08_report"  # reports are about other runs
USABLE, DIFFERS, UNUSABLE = "yes", "with differences", "no"
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


def target_of(record: RunRecord) -> str | None:
    """The target's name; that of its parameters where the run failed before it had a model, None without any."""
    target = record.models.get("target")
    if isinstance(target, dict) and target.get("name"):
        return model_name(str(target["name"]))
    if pair := record.models.get("pair"):
        return model_name(str(pair)).partition(" + ")[0]
    if "target" in record.parameters:
        return model_name(str(record.parameters["target"] or NAME))
    return None


def unequal(record: RunRecord) -> str | None:
    """How the record says that a method which promises its baseline's tokens gave others, or None."""
    metrics = record.metrics
    equal, compared = metrics.get("comparisons_equal"), metrics.get("comparisons")
    if isinstance(equal, int) and isinstance(compared, int) and equal < compared:
        return f"{equal} of {compared} outputs equal"
    promised = [item for _, item in walk(metrics) if item.get("label", "exact") == "exact" and item.get("ours", True)]
    counted = [item for item in promised if type(item.get("equal")) is int and type(item.get("prompts")) is int]
    equal, compared = (sum(item[name] for item in counted) for name in ("equal", "prompts"))
    if equal < compared:
        return f"{equal} of {compared} outputs equal"
    flags = [name for name, value in metrics.items() if value is False and f"_{name}".endswith("_equal")]
    flags += ["equal" for item in promised if item.get("equal") is False]
    return "outputs not equal" if flags else None


def model_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each target and dtype: size, chat template, devices, drafts, runs, whether it can be used, remarks.

    A failed run knows no dtype; it counts for its target's only one, and has a line of its own where there are several.
    """
    named = [(name, row) for row in rows if (name := target_of(row.record))]
    known: dict[str, set[str]] = {}
    for name, row in named:
        known.setdefault(name, set()).update(filter(None, [_dtype(row.record)]))
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for name, row in named:
        only = next(iter(known[name])) if len(known[name]) == 1 else None
        groups.setdefault((name, _dtype(row.record) or only), []).append(row)
    return [_model_line(name, dtype, many) for (name, dtype), many in sorted(groups.items(), key=str)]


def _dtype(record: RunRecord) -> str | None:
    return record.dtype if record.models else None


def _model_line(name: str, dtype: str | None, rows: Sequence[Row]) -> dict[str, Any]:
    targets = [row.record.models.get("target") for row in rows]
    facts = {key: value for found in targets if isinstance(found, dict) for key, value in found.items()}
    failed = [
        f"{row.name}: {row.record.error or 'no reason recorded'}" for row in rows if row.record.status == "failed"
    ]
    differing = [f"{row.name}: {found}" for row in rows if (found := unequal(row.record))]
    remarks = [f"failed, {line}" for line in failed] + differing
    if facts.get("chat_template") is False:
        remarks.append("no chat template: prompts are continued, not answered")
    accepted = len(rows) - len(failed)
    return {
        "model": name,
        "parameters": facts.get("parameters"),
        "dtype": dtype,
        "chat_template": facts.get("chat_template"),
        "devices": _distinct(row.record.device for row in rows),
        "drafts": _distinct(_draft(row.record) for row in rows),
        "runs": len(rows),
        "failed": len(failed),
        "usable": UNUSABLE if not accepted else DIFFERS if differing else USABLE,
        "remarks": remarks,
    }


def _draft(record: RunRecord) -> str | None:
    return model_name(str(record.models.get("pair", ""))).partition(" + ")[2] or None


def _distinct(values: Any) -> list[str]:
    return sorted({str(value) for value in values if value})


def size(parameters: int | None) -> str:
    """135 M, 3.09 B; "not recorded" for None."""
    if parameters is None:
        return "not recorded"
    unit, name = next(
        ((unit, name) for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if parameters >= unit), (1, "")
    )
    return f"{parameters / unit:.3g} {name}".strip()


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
            value = row.record.metrics.get(metric)
            yield {
                "run": row.name,
                "parameters": {name: row.record.parameters.get(name) for name in differing.get(notebook, [])},
                "metric": metric,
                "value": value,
                "ratio": value / unit if is_number(value) and (unit := base.record.metrics[metric]) else None,
                "is_baseline": row is base,
            }


def findings(rows: Sequence[Row], points: Sequence[SpeedPoint], tolerance: float = 0.1) -> list[str]:
    """What the records say, a sentence each."""
    if not rows:
        return ["There are no records yet: `make run-notebooks` makes them, or `specbeam run NOTEBOOK`."]
    failed = [row for row in rows if row.record.status == "failed"]
    wrong = [f"{row.name} ({found})" for row in rows if (found := unequal(row.record))]
    notebooks = len({row.record.notebook for row in rows})
    lines = [
        f"{counted(len(rows), 'run')} of {counted(notebooks, 'notebook')}, {len(failed)} failed"
        + (f": {', '.join(row.name for row in failed)}." if failed else "."),
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
            f"{counted(sum(map(len, groups)), 'run')} repeat the parameters of another; "
            + (
                f"they disagree by more than {tolerance:.0%} on {notes}."
                if apart
                else f"they agree to {tolerance:.0%}."
            )
        )
    else:
        lines.append("No two runs have the same parameters, so nothing here was shown twice.")
    return lines


def speed_finding(points: Sequence[SpeedPoint]) -> str:
    """How many points are above 1, and the median for the fewest and the most beams."""
    faster = sum(point.speedup > 1 for point in points)
    found = f"{faster} of {len(points)} measured speeds are above that of their baseline"
    beams = sorted({point.num_beams for point in points})
    middle = [median(point.speedup for point in points if point.num_beams == count) for count in beams]
    if len(beams) == 1:
        return f"{found}; the median with {counted(beams[0], 'beam')} is × {middle[0]:.2f}"
    return (
        f"{found}; the median is × {middle[0]:.2f} with {counted(beams[0], 'beam')} and × {middle[-1]:.2f} "
        f"with {beams[-1]}"
    )


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
