"""Figures of the benchmark: ratios to both baselines, a row for each case and runner, table and record.

Absolute times depend on the machine and its load. So the result is a ratio: the seconds of the baseline divided by
those of a decode of the same prompt in the same turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from specbeam.evaluation import metrics
from specbeam.experiments.records import RunRecord, spread
from specbeam.pictures.drawing import counted

from .cases import PACKED, PLAIN, THEIRS, Case, Run, Runs

Repeats = Sequence[Sequence[Run]]  # repeats -> prompts

_COLUMNS = (  # as the terminal's table breaks them
    *("case", "source", "prompts × repeats", "s a\nprompt", "× as it comes\n(min–max)"),
    *("× on the same\ntarget (min–max)", "worst\nprompt", "same\ntokens", "steps\na pass", "nodes\na pass"),
    *("draft/target/\nsearch, s a prompt", "KV\nslots"),
)
HEADINGS = tuple(column.replace("/\n", "/").replace("\n", " ") for column in _COLUMNS)


def seconds(repeats: Repeats) -> list[float]:
    """The time of each repeat, all prompts together."""
    return _times(repeats).sum(1).tolist()


def equal_prompts(baseline: Repeats, other: Repeats) -> int:
    """How many prompts had the baseline's tokens in every repeat."""
    tokens = [[[run.tokens for run in prompts] for prompts in repeats] for repeats in (baseline, other)]
    return sum(theirs == mine for theirs, mine in zip(*(zip(*each, strict=True) for each in tokens), strict=True))


def _times(repeats: Repeats) -> np.ndarray:
    """Seconds, (repeats, prompts)."""
    return np.array([[run.seconds for run in prompts] for prompts in repeats])


def summarise(runs: Repeats, plain: Repeats, packed: Repeats | None = None) -> dict[str, Any]:
    """One row of the table, compared with transformers on the target as it comes, and on the packed one if given.

    `speedup` is relative to the former, `speedup_same_target` to transformers on the target that our rows run on, and
    so are `by_prompt`, the median of each prompt's repeats, and `equal`, the prompts with the same tokens in every
    repeat. `steps_per_pass` and `nodes_per_pass` are of the first repeat, the latter without the prompt's own pass.
    Caches are compared on the prompt with the worst ratio. `search_s` is the time outside draft and target; the three
    are None if they could not be timed. Times are of all prompts together.
    """
    same = plain if packed is None else packed
    first, stats = runs[0], [run.stats for run in runs[0]]
    passes = sum(one.target_passes for one in stats)
    nodes = sum(run.stats.target_tokens - run.prompt_tokens for run in first)
    worst = max(zip(first, same[0], strict=True), key=lambda pair: (pair[0].kv_slots or 0) / (pair[1].kv_slots or 1))
    taken, plain_taken, same_taken = map(_times, (runs, plain, same))
    by_prompt = np.median(same_taken / taken, axis=0).tolist()
    return {
        "prompts": len(first),
        "repeats": len(runs),
        "seconds": spread(seconds(runs)),
        "prompt_seconds": taken.tolist(),
        "speedup": spread(plain_taken.sum(1) / taken.sum(1)),
        "speedup_same_target": spread(same_taken.sum(1) / taken.sum(1)),
        "by_prompt": by_prompt,
        "worst_prompt": min(by_prompt),
        "equal": equal_prompts(same, runs),
        "equal_as_it_comes": equal_prompts(plain, runs),
        "new_tokens": sum(len(run.tokens) for run in first),
        "steps_per_pass": metrics.steps_per_pass(stats),
        "nodes_per_pass": nodes / max(passes - len(first), 1),
        "accepted": metrics.accepted_histogram(stats),
        **_split(runs),
        "kv_slots": worst[0].kv_slots,
        "transformers_kv_slots": worst[1].kv_slots,
    }


def rows(cases: Sequence[Case], runs: Runs) -> list[dict[str, Any]]:
    """One row for each case and each of its runners, baselines included."""
    found = []
    for case in cases:
        mine = {name: repeats for (label, name), repeats in runs.items() if label == case.label}
        for name, repeats in mine.items():
            named = {"case": case.label, "kind": case.kind, "num_beams": case.num_beams, "source": name}
            named |= {"ours": name not in THEIRS, "in_full": case.in_full}
            found.append(named | summarise(repeats, mine[PLAIN], mine.get(PACKED)))
    return found


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as text, in the order of HEADINGS."""
    prompts = row["prompts"]
    split = [row[name] for name in ("draft_s", "target_s", "search_s")]
    slots = "–" if row["kv_slots"] is None else f"{row['kv_slots']}"
    return [
        row["case"].replace("_", " "),
        row["source"],
        f"{prompts} × {row['repeats']}",
        f"{row['seconds']['median'] / prompts:.2f}",
        _span(row["speedup"]),
        _span(row["speedup_same_target"]),
        f"{row['worst_prompt']:.2f}",
        f"{row['equal']}/{prompts}" + (" ✓" if row["equal"] == prompts else " ≠"),
        f"{row['steps_per_pass']:.2f}",
        f"{row['nodes_per_pass']:.1f}",
        "–" if None in split else "/".join(f"{part / prompts:.2f}" for part in split),
        slots,
    ]


def table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The rows for a terminal, a section for each case, with the number of prompts and repeats below its name."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, heading in enumerate((*_COLUMNS[:2], *_COLUMNS[3:])):
        drawn.add_column(heading, justify="left" if place < 2 else "right", no_wrap=True)
    for _, group in groupby(found, key=lambda row: row["case"]):
        for place, row in enumerate(group):
            case, source, _, *rest = cells(row)
            below = f"  {counted(row['prompts'], 'prompt')} × {row['repeats']}"
            drawn.add_row({0: case, 1: below}.get(place, ""), source, *rest)
        drawn.add_section()
    return drawn


def record(
    found: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    pair: Any,
    runs: Runs,
    *,
    default: str,
    **extra: Any,
) -> RunRecord:
    """The record: median speed-ups first, and of these the rows of `default` and the cases measured in full first."""
    ours = [row for row in found if row["ours"]]
    ranked = sorted(ours, key=lambda row: (row["source"] != default, not row["in_full"]))
    headline = {
        f"{row['case']}_{_slug(row['source'])}_{name}": row[name]["median"]
        for row in ranked
        for name in ("speedup_same_target", "speedup")
    }
    counts = {
        "all_equal": all(row["equal"] == row["prompts"] for row in ours),
        "all_equal_as_it_comes": all(row["equal_as_it_comes"] == row["prompts"] for row in ours),
    }
    return RunRecord.collect(
        "bench",
        parameters,
        {**headline, **counts, "default": default, "rows": list(found), **extra},
        {f"{label}_{_slug(name)}_s": seconds(repeats) for (label, name), repeats in runs.items()},
        pair,
    )


def load_record(path: str | Path) -> RunRecord:
    """A record of the benchmark. Raises ValueError for a file that is missing or holds something else."""
    loaded = RunRecord.load(path)
    if not {"rows", "default"} <= loaded.metrics.keys():
        raise ValueError(f"{path} is no record of this version's benchmark: make one with `make bench`.")
    return loaded


def _split(runs: Repeats) -> dict[str, float | None]:
    """Median seconds in the draft, in the target and in the rest."""
    if not all(run.timed for prompts in runs for run in prompts):
        return {"draft_s": None, "target_s": None, "search_s": None}
    split = np.array([[(run.stats.draft_s, run.stats.target_s) for run in prompts] for prompts in runs]).sum(1)
    draft, target = split.T
    parts = {"draft_s": draft, "target_s": target, "search_s": seconds(runs) - draft - target}
    return {name: float(np.median(values)) for name, values in parts.items()}


def _span(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f}–{values['max']:.2f})"


def _slug(name: str) -> str:
    return name.replace(" + ", "_").replace(" ", "_")
