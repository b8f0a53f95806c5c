"""Speed against transformers: `python -m specbeam.bench`, or `make bench`.

Both sides decode the same prompts on the same loaded target in one process. Absolute times depend on the machine and
on what else it does, so the result is a ratio: every run of ours is divided by the run of transformers just before
it. What is measured and how it is summed up are kept apart: `measure` runs, the other functions compute.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from .cli_runs import one_line_errors
from .data import load
from .decoders import Decoded, beam, greedy, speculative, speculative_beam
from .models import Pair, load_pair
from .prompts import render_prompt
from .records import RunRecord, spread
from .stats import Stats

BASELINE = "transformers"
SETS = ("xsum", "multi_lexsum")  # the articles come from these in turn
ARTICLE_TOKENS = 400


@dataclass(frozen=True)
class Case:
    """Prompts that are decoded one after the other; their times are added."""

    name: str
    num_beams: int
    inputs: Sequence[Mapping[str, Any]]

    @property
    def label(self) -> str:
        return f"{self.name}_greedy" if self.num_beams == 1 else f"{self.name}_beam_{self.num_beams}"


@dataclass(frozen=True)
class Run:
    """One decode of one prompt."""

    seconds: float
    tokens: list[int]  # prompt excluded
    kv_slots: int  # positions held in the target's cache at the worst moment, all rows together
    stats: Stats | None = None  # ours only
    prompt_tokens: int = 0


Runner = Callable[[Mapping[str, Any], int], Run]  # (inputs of one prompt, num_beams) -> Run
Runs = dict[tuple[str, str], list[list[Run]]]  # (case, runner) -> repeats -> prompts


def measure(
    cases: Sequence[Case], runners: Mapping[str, Runner], repeats: int, done: Callable[[int, Case], None] | None = None
) -> Runs:
    """Run everything `repeats` times, interleaved: repeat by repeat, case by case, prompt by prompt.

    The runners take their turns in their order at every prompt, so that a slow spell of the machine meets all of them.
    """
    runs: Runs = {(case.label, name): [[] for _ in range(repeats)] for case in cases for name in runners}
    for repeat in range(repeats):
        for case in cases:
            for inputs in case.inputs:
                for name, run in runners.items():
                    runs[case.label, name][repeat].append(run(inputs, case.num_beams))
            if done is not None:
                done(repeat, case)
    return runs


def seconds(repeats: Sequence[Sequence[Run]]) -> list[float]:
    """The time of each repeat, all prompts together."""
    return [sum(run.seconds for run in prompts) for prompts in repeats]


def paired_ratios(baseline: Sequence[float], ours: Sequence[float]) -> list[float]:
    """How many times as fast ours was, repeat by repeat: above 1 is faster."""
    return [theirs / mine for theirs, mine in zip(baseline, ours, strict=True)]


def summarise(baseline: Sequence[Sequence[Run]], ours: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """One row of the table, from runs given as repeats -> prompts.

    `equal` counts the prompts whose tokens were those of the baseline in every repeat. `steps_per_pass` and
    `nodes_per_pass` are of the first repeat, the latter without the prompt's own pass. The cache is compared on the
    prompt on which ours does worst. `search_s` is all that is neither draft nor target.
    """
    # repeats -> prompts -> (theirs, mine)
    pairs = [list(zip(theirs, mine, strict=True)) for theirs, mine in zip(baseline, ours, strict=True)]
    equal = [all(theirs.tokens == mine.tokens for theirs, mine in prompt) for prompt in zip(*pairs, strict=True)]
    stats = [[_stats(run) for run in prompts] for prompts in ours]
    times, first = seconds(ours), stats[0]
    draft = [sum(each.draft_s for each in prompts) for prompts in stats]
    target = [sum(each.target_s for each in prompts) for prompts in stats]
    search = [total - drafting - passes for total, drafting, passes in zip(times, draft, target, strict=True)]
    passes = sum(each.target_passes for each in first)
    nodes = sum(each.target_tokens for each in first) - sum(run.prompt_tokens for run in ours[0])
    worst = max(pairs[0], key=lambda pair: pair[1].kv_slots / pair[0].kv_slots)
    return {
        "speedup": spread(paired_ratios(seconds(baseline), times)),
        "transformers_s": spread(seconds(baseline)),
        "ours_s": spread(times),
        "prompts": len(equal),
        "equal": sum(equal),
        "steps_per_pass": sum(each.steps for each in first) / max(passes, 1),
        "nodes_per_pass": nodes / max(passes - len(first), 1),
        "accepted": dict(sorted(sum((each.accepted for each in first), Counter()).items())),
        "draft_s": statistics.median(draft),
        "target_s": statistics.median(target),
        "search_s": statistics.median(search),
        "kv_slots": worst[1].kv_slots,
        "transformers_kv_slots": worst[0].kv_slots,
    }


def rows(cases: Sequence[Case], runs: Runs) -> list[dict[str, Any]]:
    """Every case with every runner but the baseline."""
    return [
        {"case": case.label, "source": name, "num_beams": case.num_beams}
        | summarise(runs[case.label, BASELINE], runs[case.label, name])
        for case in cases
        for label, name in runs
        if label == case.label and name != BASELINE
    ]


def beginning(text: str, limit: int, length: Callable[[str], int]) -> str:
    """The longest beginning of `text` in whole words whose `length` is at most `limit`; at least one word."""
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    fitting = bisect_right(ends, limit, key=lambda end: length(text[:end]))
    return text[: ends[max(fitting, 1) - 1]]


def table(found: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The rows for a terminal."""
    drawn = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    drawn.add_column("case", no_wrap=True)
    drawn.add_column("source", no_wrap=True)
    for heading in (
        *("transformers\ns (min–max)", "ours\ns (min–max)", "× as fast\n(min–max)", "same\ntokens"),
        *("steps\n/pass", "nodes\n/pass", "draft/target/\nsearch, s", "KV slots\nours/theirs"),
    ):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in found:
        drawn.add_row(
            row["case"].replace("_", " "),
            row["source"],
            _span(row["transformers_s"]),
            _span(row["ours_s"]),
            _span(row["speedup"]),
            f"{row['equal']}/{row['prompts']}" + (" ✓" if row["equal"] == row["prompts"] else " ≠"),
            f"{row['steps_per_pass']:.2f}",
            f"{row['nodes_per_pass']:.1f}",
            "/".join(f"{row[name]:.2f}" for name in ("draft_s", "target_s", "search_s")),
            f"{row['kv_slots']}/{row['transformers_kv_slots']}",
        )
    return drawn


def record(
    found: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], pair: Any, runs: Runs, **extra: Any
) -> RunRecord:
    """The record: the median speed-ups first, then the rows; times of every case as a spread."""
    headline = {f"{row['case']}_{row['source']}_times_as_fast": row["speedup"]["median"] for row in found}
    ranked = dict(sorted(headline.items(), key=lambda item: "speculative" not in item[0]))
    return RunRecord.collect(
        "bench",
        parameters,
        {**ranked, "all_equal": all(row["equal"] == row["prompts"] for row in found), "rows": list(found), **extra},
        {f"{label}_{name}_s": seconds(repeats) for (label, name), repeats in runs.items()},
        pair,
    )


def make_runners(pair: Pair, max_new_tokens: int) -> dict[str, Runner]:
    """transformers' `generate`, ours with the draft, and ours without one."""
    target: Any = pair.target  # generate is a mixin that type checkers do not see through

    def transformers(inputs: Mapping[str, Any], num_beams: int) -> Run:
        began = _now(target)
        output = target.generate(
            **inputs,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            return_dict_in_generate=True,
        )
        width, taken = inputs["input_ids"].shape[1], _now(target) - began
        tokens = output.sequences[0, width:].tolist()
        # counted on the cache itself: num_beams x (prompt + new tokens), but for the last token, which is never read
        slots = num_beams * output.past_key_values.get_seq_length()
        return Run(taken, tokens, slots, prompt_tokens=width)

    def ours(one: Callable[..., Decoded], several: Callable[..., Decoded]) -> Runner:
        def run(inputs: Mapping[str, Any], num_beams: int) -> Run:
            options: dict[str, Any] = {"max_new_tokens": max_new_tokens}
            began = _now(target)
            if num_beams == 1:
                decoded = one(pair, inputs, **options)
            else:
                decoded = several(pair, inputs, num_beams=num_beams, **options)
            taken, width = _now(target) - began, inputs["input_ids"].shape[1]
            return Run(taken, decoded.sequences[0], decoded.stats.peak_kv_tokens, decoded.stats, width)

        return run

    return {BASELINE: transformers, "speculative": ours(speculative, speculative_beam), "no draft": ours(greedy, beam)}


def make_cases(pair: Pair, chats: int, articles: int, article_tokens: int) -> tuple[list[Case], list[dict[str, Any]]]:
    """The five cases, and where their prompts come from."""
    tokenizer = pair.tokenizer

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    chosen = {"chat": [(example.source, example.prompt) for example in load("chat", chats)], "article": []}
    longs = [
        [example for example in load(name, 40) if length(example.prompt) >= article_tokens]
        for name in SETS[: max(articles, 1)]
    ]
    for index in range(articles):
        example = longs[index % len(longs)][index // len(longs)]
        chosen["article"].append((example.source, beginning(example.prompt, article_tokens, length)))
    inputs = {
        name: [dict(render_prompt(tokenizer, text).to(pair.target.device)) for _, text in prompts]
        for name, prompts in chosen.items()
    }
    described = [
        {"case": name, "source": source, "tokens": rendered["input_ids"].shape[1]}
        for name, prompts in chosen.items()
        for (source, _), rendered in zip(prompts, inputs[name], strict=True)
    ]
    plan = [("chat", 1), ("chat", 4), ("article", 1), ("article", 4), ("article", 8)]
    return [Case(name, num_beams, inputs[name]) for name, num_beams in plan if inputs[name]], described


def bench(
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats; 5 or more for a result.")] = 5,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 48,
    articles: Annotated[int, typer.Option(min=0, max=10, help="Articles to summarise.")] = 2,
    packed: Annotated[bool, typer.Option(help="Both sides on packed weights.")] = False,
    target: Annotated[str | None, typer.Option(help="Hub id or folder; default: the embedded model.")] = None,
    draft: Annotated[str, typer.Option(help="auto, recall, ngram, or a smaller model's hub id or folder.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, float64 or auto.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps …")] = "auto",
    quick: Annotated[bool, typer.Option(help="One short repeat, to see that it works; its times say nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Record; default build/runs/bench.json, or bench_quick.json.")
    ] = None,
) -> None:
    """Time our decoders against transformers' on the same target."""
    if quick:
        repeats, max_new_tokens, articles = 1, min(max_new_tokens, 8), min(articles, 1)
    parameters: dict[str, Any] = {
        **{"repeats": repeats, "max_new_tokens": max_new_tokens, "articles": articles, "packed": packed},
        **{"target": target, "draft": draft, "dtype": dtype, "device": device, "quick": quick, "warmups": 1},
    }
    pair = load_pair(target, draft=draft, dtype=dtype, device=device, packed=packed)
    cases, prompts = make_cases(pair, 1 if quick else 4, articles, ARTICLE_TOKENS // 4 if quick else ARTICLE_TOKENS)
    console = Console(stderr=True, highlight=False)
    began = time.perf_counter()
    measure(cases, make_runners(pair, min(max_new_tokens, 8)), 1)  # warm up

    def done(repeat: int, case: Case) -> None:
        console.print(f"{time.perf_counter() - began:6.0f} s  repeat {repeat + 1} of {repeats}: {case.label}")

    runs = measure(cases, make_runners(pair, max_new_tokens), repeats, done)
    found = rows(cases, runs)
    path = out or Path("build/runs/bench_quick.json" if quick else "build/runs/bench.json")
    document = record(found, parameters, pair, runs, prompt_sources=prompts)
    document.seconds = time.perf_counter() - began
    document.save(path)
    title = f"{pair.name}, {document.dtype} on {document.device}, {'packed' if packed else 'unpacked'} target, "
    title += f"{max_new_tokens} new tokens, median of {repeats}"
    width = None if sys.stdout.isatty() else 140
    Console(width=width, highlight=False).print(table(found, title))
    if not document.metrics["all_equal"]:
        console.print("≠ marks rows whose tokens differ from transformers'. Their speed-up is not one of equal work.")
    console.print(f"record: {path}", soft_wrap=True)


def _now(model: Any) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()


def _stats(run: Run) -> Stats:
    if run.stats is None:
        raise ValueError("only runs of ours have stats; give the baseline first and ours second.")
    return run.stats


def _span(values: Mapping[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f}–{values['max']:.2f})"


app = typer.Typer(add_completion=False)
app.command()(one_line_errors(bench))

if __name__ == "__main__":
    app()
