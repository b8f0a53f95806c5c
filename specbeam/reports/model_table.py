"""Which models the runs of a group could use: a line for each target and dtype, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specbeam.experiments.record_models import model_name
from specbeam.experiments.record_table import Row
from specbeam.experiments.records import RunRecord
from specbeam.models.embedded import NAME

from .facts import failure
from .record_speed import promises, walk

USABLE, DIFFERS, UNUSABLE = "yes", "with differences", "no"


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
    promised = [item for _, item in walk(metrics) if promises(item) and item.get("ours", True)]
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
    failed = [f"`{row.name}`: {reason}" for row in rows if (reason := failure(row.record))]
    differing = [f"`{row.name}`: {found}" for row in rows if (found := unequal(row.record))]
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
