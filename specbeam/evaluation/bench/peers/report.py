"""What the turns say: a row for each case and contender, the table, who differs and by how much, and the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from specbeam.experiments.records import RunRecord, spread

from ..cases import Case
from .contenders import SPECBEAM, TRANSFORMERS, Contender
from .turns import Answer, Turns

NAME = "bench_peers"  # of the record


def rows(
    cases: Sequence[Case], contenders: Sequence[Contender], turns: Turns, model: Any = None
) -> list[dict[str, Any]]:
    """A row for each case and contender, those without an answer included.

    `seconds` is the time of all prompts of a repeat, `speedup` transformers' time divided by it in the same repeat,
    both as spreads over the repeats, or None. `equal` says whether each prompt's tokens were transformers' in every
    repeat, `differs` where not. `reason` says why there is no answer, or not in all repeats.

    model: if given, says how likely sequences are that differ.
    """
    found = []
    for case in cases:
        theirs = turns.whole(case, TRANSFORMERS)
        for each in contenders:
            mine = turns.whole(case, each.name)
            row = {"case": case.label, "kind": case.kind, "num_beams": case.num_beams, "contender": each.name}
            row |= {
                "prompts": len(case.inputs),
                "repeats": len(mine),
                "reason": turns.reasons.get((case.label, each.name)),
            }
            both = [(theirs[repeat], mine[repeat]) for repeat in mine if repeat in theirs]
            differs = _differences(case, both, model)
            row["prompt_seconds"] = [[answer.seconds for answer in prompts] for prompts in mine.values()]
            row["seconds"] = spread(map(_time, mine.values())) if mine else None
            row["speedup"] = spread(_time(a) / _time(b) for a, b in both) if both else None
            found.append(row | {"equal": not differs if both else None, "differs": differs})
    return found


def table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A row for each case, a column for each contender: seconds a prompt, and times transformers' speed below."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    header, *lines = text_rows(found)
    for place, heading in enumerate(header):
        drawn.add_column(heading, justify="left" if place == 0 else "right")
    for line in lines:
        drawn.add_row(line[0], *(cell.replace(" s ", " s\n", 1) for cell in line[1:]))
        drawn.add_section()
    return drawn


def text_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The table as text, its header first."""
    names = list(dict.fromkeys(row["contender"] for row in found))
    cases = list(dict.fromkeys(row["case"] for row in found))
    at = {(row["case"], row["contender"]): row for row in found}
    lines = [[case.replace("_", " "), *(_cell(at[case, name]) for name in names)] for case in cases]
    return [["case", *names], *lines]


def remarks(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for every prompt that was decoded to other tokens than transformers', and for every reason."""
    told = []
    for row in found:
        for each in row["differs"]:
            told.append(f"{row['contender']} differs in {_case(row)}, {_difference(each)}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in found:
        if row["reason"]:
            reasons.setdefault((row["contender"], row["reason"]), []).append(_case(row))
    every = len({row["case"] for row in found})
    for (name, reason), cases in reasons.items():
        told.append(f"{name} has no full result in {'any case' if len(cases) == every else ', '.join(cases)}: {reason}")
    return told


def record(
    found: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    contenders: Sequence[Contender],
    pair: Any,
    **extra: Any,
) -> RunRecord:
    """The record: median speeds against transformers first, and of these specbeam's."""
    timed = [row for row in found if row["seconds"]]
    others = [row for row in timed if row["speedup"] and row["contender"] != TRANSFORMERS]
    others.sort(key=lambda row: row["contender"] != SPECBEAM)
    headline = {f"{row['case']}_{_slug(row['contender'])}_speedup": row["speedup"]["median"] for row in others}
    answered = [row for row in found if row["equal"] is not None]
    metrics = {
        **headline,
        "all_equal": all(row["equal"] for row in answered),
        "who_differs": sorted({row["contender"] for row in answered if not row["equal"]}),
        "rows": list(found),
        "contenders": {each.name: dict(each.about) for each in contenders},
        **extra,
    }
    timings = {f"{row['case']}_{_slug(row['contender'])}_s": row["seconds"] for row in timed}
    return RunRecord.collect(NAME, parameters, metrics, timings, pair)


def load_record(path: str | Path) -> RunRecord:
    """A record of this measurement. Raises ValueError for a file that is missing or holds something else."""
    loaded = RunRecord.load(path)
    if not {"rows", "contenders", "cpu"} <= loaded.metrics.keys():
        raise ValueError(f'{path} is no record of the other libraries: make one with `make bench ARGS="--peers"`.')
    return loaded


def about(loaded: RunRecord) -> list[str]:
    """Sentences on a record: where it was measured, the versions of all, and what its table cannot say."""
    cpu, commit = loaded.metrics["cpu"], (loaded.commit or "unknown")[:10]
    units = ", ".join(cpu["vector_units"]) or "no known vector units"
    told = [f"{cpu['name']} ({units}), {loaded.threads} threads each, {loaded.repeats} repeats, commit {commit}."]
    for name, each in loaded.metrics["contenders"].items():
        facts = [f"{label} {value}" for part in ("versions", "facts") for label, value in each.get(part, {}).items()]
        checked = each.get("verified")
        facts += [f"all {checked['rows']} rows of its weights are the checkpoint's"] if checked else []
        told += [f"{name}: {'; '.join(facts)}."] if facts else []
    return told + [f"{remark}." for remark in remarks(loaded.metrics["rows"])]


def _differences(
    case: Case, both: Sequence[tuple[Sequence[Answer], Sequence[Answer]]], model: Any
) -> list[dict[str, Any]]:
    """For each prompt with other tokens than transformers', in any repeat: where they part, and how likely they are."""
    found = []
    for place in range(len(case.inputs)):
        pairs = [(theirs[place].sequence, mine[place].sequence) for theirs, mine in both]
        unlike = next(((theirs, mine) for theirs, mine in pairs if theirs != mine), None)
        if unlike is None:
            continue
        theirs, mine = unlike
        token = next((n for n, (a, b) in enumerate(zip(theirs, mine, strict=False)) if a != b), min(map(len, unlike)))
        each = {"prompt": place, "token": token, "tokens": len(mine), "token_nats": None, "total_nats": None}
        if model is not None and len(mine) == len(theirs):
            ids = case.inputs[place]["input_ids"]
            a, b = (_log_probabilities(model, ids, sequence) for sequence in (theirs, mine))
            each |= {"token_nats": float(a[token] - b[token]), "total_nats": float(a.sum() - b.sum())}
        found.append(each)
    return found


@torch.no_grad()
def _log_probabilities(model: Any, ids: torch.Tensor, sequence: Sequence[int]) -> torch.Tensor:
    """That of each token of the sequence after the prompt, (tokens,), in nats."""
    new = torch.tensor([sequence], device=ids.device)
    logits = model(input_ids=torch.cat([ids, new], 1)).logits[0, ids.shape[1] - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, new.T)[:, 0]


def _time(prompts: Sequence[Answer]) -> float:
    return sum(answer.seconds for answer in prompts)


def _cell(row: Mapping[str, Any]) -> str:
    if row["seconds"] is None:
        return f"– {row['reason'] or 'not measured'}" if len(row["reason"] or "") < 20 else "– (see below)"
    told = f"{row['seconds']['median'] / row['prompts']:.2f} s "
    told += f"× {row['speedup']['median']:.2f}" if row["speedup"] else ""
    return told + (" ≠" if row["equal"] is False else "")


def _difference(each: Mapping[str, Any]) -> str:
    told = f"prompt {each['prompt'] + 1}, from token {each['token'] + 1} on"
    if each["total_nats"] is None:
        return f"{told}; it has {each['tokens']} tokens"
    sums = f"{abs(each['total_nats']):.2g} nats {'less' if each['total_nats'] > 0 else 'more'} likely as a whole"
    return f"{told}: its token there is {each['token_nats']:.2g} nats less likely, its text {sums}"


def _case(row: Mapping[str, Any]) -> str:
    return row["case"].replace("_", " ")


def _slug(name: str) -> str:
    return name.lower().replace(" ", "_").replace(".", "_")
