"""What the benchmark's runs say: ratios against both baselines, a row for each case and runner, table and record.

Nothing here runs a model. Absolute times depend on the machine and on what else it does, so the result is a ratio: each
decode is divided into the baseline's decode of the same prompt in the same turn.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from specbeam.experiments.records import RunRecord, spread

from .cases import PACKED, PLAIN, THEIRS, Case, Run, Runs

Repeats = Sequence[Sequence[Run]]  # repeats -> prompts

HEADINGS = (
    *("case", "source", "prompts × repeats", "s a prompt", "× as it comes (min–max)", "× on the same target (min–max)"),
    *("worst prompt", "same tokens", "steps a pass", "nodes a pass", "draft/target/search, s", "KV slots"),
)


def seconds(repeats: Repeats) -> list[float]:
    """The time of each repeat, all prompts together."""
    return [sum(run.seconds for run in prompts) for prompts in repeats]


def paired_ratios(baseline: Sequence[float], other: Sequence[float]) -> list[float]:
    """How many times as fast the other was, repeat by repeat: above 1 is faster."""
    return [theirs / mine for theirs, mine in zip(baseline, other, strict=True)]


def by_prompt(baseline: Repeats, other: Repeats) -> list[float]:
    """How many times as fast the other was on each prompt, the median of its repeats."""
    ratios = [
        [theirs.seconds / mine.seconds for theirs, mine in zip(*prompts, strict=True)]
        for prompts in zip(baseline, other, strict=True)
    ]
    return [statistics.median(prompt) for prompt in zip(*ratios, strict=True)]


def equal_prompts(baseline: Repeats, other: Repeats) -> int:
    """How many prompts had the tokens of the baseline in every repeat."""
    same = [
        [theirs.tokens == mine.tokens for theirs, mine in zip(*prompts, strict=True)]
        for prompts in zip(baseline, other, strict=True)
    ]
    return sum(map(all, zip(*same, strict=True)))


def summarise(runs: Repeats, plain: Repeats, packed: Repeats | None = None) -> dict[str, Any]:
    """One row of the table, against transformers on the target as it comes, and on the packed one if there is one.

    `speedup` is against the former, `speedup_same_target` against the one on the target that our rows run on. Against
    that one are `by_prompt` and `equal`, the prompts with the same tokens in every repeat. `steps_per_pass` and
    `nodes_per_pass` are of the first repeat, the latter without the prompt's own pass. The cache is compared on the
    prompt on which it does worst. `search_s` is all that is neither draft nor target; the three are None where
    nobody could time them. Times are of all prompts together.
    """
    same = plain if packed is None else packed
    first = runs[0]
    times, passes = seconds(runs), sum(run.stats.target_passes for run in first)
    nodes = sum(run.stats.target_tokens - run.prompt_tokens for run in first)
    worst = max(zip(first, same[0], strict=True), key=lambda pair: (pair[0].kv_slots or 0) / (pair[1].kv_slots or 1))
    ratios = by_prompt(same, runs)
    return {
        "prompts": len(first),
        "repeats": len(runs),
        "seconds": spread(times),
        "prompt_seconds": [[run.seconds for run in prompts] for prompts in runs],
        "speedup": spread(paired_ratios(seconds(plain), times)),
        "speedup_same_target": spread(paired_ratios(seconds(same), times)),
        "by_prompt": ratios,
        "worst_prompt": min(ratios),
        "equal": equal_prompts(same, runs),
        "equal_as_it_comes": equal_prompts(plain, runs),
        "new_tokens": sum(len(run.tokens) for run in first),
        "steps_per_pass": sum(run.stats.steps for run in first) / max(passes, 1),
        "nodes_per_pass": nodes / max(passes - len(first), 1),
        "accepted": dict(sorted(sum((run.stats.accepted for run in first), Counter()).items())),
        **_split(runs),
        "kv_slots": worst[0].kv_slots,
        "transformers_kv_slots": worst[1].kv_slots,
    }


def rows(cases: Sequence[Case], runs: Runs) -> list[dict[str, Any]]:
    """Every case with every runner that had a turn, baselines included."""
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
    """The rows for a terminal, a section for each case; the number of prompts and repeats stands below its name."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    broken = ("case", "source", "s a\nprompt", "× as it comes\n(min–max)")
    broken += ("× on the same\ntarget (min–max)", "worst\nprompt", "same\ntokens", "steps\na pass", "nodes\na pass")
    broken += ("draft/target/\nsearch, s a prompt", "KV\nslots")
    for place, heading in enumerate(broken):
        drawn.add_column(heading, justify="left" if place < 2 else "right", no_wrap=True)
    for _, group in groupby(found, key=lambda row: row["case"]):
        for place, row in enumerate(group):
            case, source, _, *rest = cells(row)
            below = f"  {row['prompts']} prompt{'' if row['prompts'] == 1 else 's'} × {row['repeats']}"
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
    """The record: the median speed-ups first, those of the row `default` and of cases in full before the others."""
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
    """A record that the benchmark left. Raises ValueError for a file that is missing, or something else."""
    found = RunRecord.load(path)
    if not {"rows", "default"} <= found.metrics.keys():
        raise ValueError(f"{path} is no record of this version's benchmark: make one with `make bench`.")
    return found


def _split(runs: Repeats) -> dict[str, float | None]:
    """Median seconds in the draft, in the target and in the rest."""
    if not all(run.timed for prompts in runs for run in prompts):
        return {"draft_s": None, "target_s": None, "search_s": None}
    draft = [sum(run.stats.draft_s for run in prompts) for prompts in runs]
    target = [sum(run.stats.target_s for run in prompts) for prompts in runs]
    parts = {"draft_s": draft, "target_s": target}
    parts["search_s"] = [a - b - c for a, b, c in zip(seconds(runs), draft, target, strict=True)]
    return {name: statistics.median(values) for name, values in parts.items()}


def _span(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f}–{values['max']:.2f})"


def _slug(name: str) -> str:
    return name.replace(" + ", "_").replace(" ", "_")
