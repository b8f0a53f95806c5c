"""Speed against transformers: `python -m specbeam.evaluation.bench.measure`, or `make bench`.

All runners decode the same prompts with the same weights in one process, taking turns. `cases` holds the prompts,
`runners` the decoders, and `report` turns their runs into ratios.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from specbeam.apps.cli.runs import one_line_errors

from .cases import ARTICLE_TOKENS, BATCH, BATCHED, PROMPTS, Case, Runner, Runs, choose, make_cases, to_warm_up
from .report import record, rows, table
from .runners import load_contenders, make_runners

QUICK_CASES = ("chat_greedy", "article_beam_4", "code_beam_2")


def measure(
    cases: Sequence[Case], runners: Mapping[str, Runner], repeats: int, done: Callable[[int, Case], None] | None = None
) -> Runs:
    """Run everything `repeats` times, interleaved: repeat by repeat, case by case, prompt by prompt.

    The runners take turns on every prompt, so that a slow spell of the machine affects all of them.
    """
    runs: Runs = {(case.label, name): [] for case in cases for name in runners if case.takes(name)}
    for repeat in range(repeats):
        for case in cases:
            if case.repeats is not None and repeat >= case.repeats:
                continue
            turns = [name for name in runners if case.takes(name)]
            for name in turns:
                runs[case.label, name].append([])
            for inputs in case.inputs:
                for name in turns:
                    runs[case.label, name][repeat].append(runners[name](inputs, case.num_beams))
            if done is not None:
                done(repeat, case)
    return runs


def bench(
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats; 5 or more for a result.")] = 5,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 48,
    cases: Annotated[str, typer.Option(help="Cases by name, chat_beam_4,article_greedy; default: all.")] = "",
    full: Annotated[bool, typer.Option(help="Every runner, prompt and repeat in every case.")] = False,
    chats: Annotated[int, typer.Option(min=0, max=5, help="Chat prompts at most.")] = PROMPTS["chat"],
    articles: Annotated[int, typer.Option(min=0, max=10, help="Articles at most.")] = PROMPTS["article"],
    codes: Annotated[int, typer.Option(min=0, max=5, help="Programming tasks at most.")] = PROMPTS["code"],
    batches: Annotated[int, typer.Option(min=0, max=1, help=f"Batches of {BATCH} prompts at most.")] = PROMPTS[BATCHED],
    packed: Annotated[
        bool | None, typer.Option("--packed/--no-packed", help="Our target's weights; default: packed on a CPU.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Hub id or folder; default: the embedded model.")] = None,
    draft: Annotated[str, typer.Option(help="auto, recall, ngram, or a smaller model's hub id or folder.")] = "auto",
    assistant: Annotated[
        str | None, typer.Option(help="Hub id or folder of a smaller model for transformers' assisted generation.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, float64 or auto.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps …")] = "auto",
    quick: Annotated[bool, typer.Option(help="One short repeat, to see that it works; its times say nothing.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Record; default build/runs/bench.json, or bench_quick.json.")
    ] = None,
) -> None:
    """Time our decoders against transformers', as it comes and on the same packed weights."""
    names = [name.strip() for name in cases.split(",") if name.strip()]
    article_tokens = ARTICLE_TOKENS
    if quick:
        repeats, max_new_tokens, article_tokens, names = 1, min(max_new_tokens, 8), 100, names or list(QUICK_CASES)
        chats, articles, codes = min(chats, 1), min(articles, 1), min(codes, 1)
    planned = choose(names, {"chat": chats, "article": articles, "code": codes, BATCHED: batches}, full)
    parameters: dict[str, Any] = {
        **{"repeats": repeats, "max_new_tokens": max_new_tokens, "cases": names, "full": full, "chats": chats},
        **{"articles": articles, "codes": codes, "batches": batches, "packed": packed, "target": target},
        **{"draft": draft, "assistant": assistant, "dtype": dtype, "device": device, "quick": quick, "warmups": 1},
    }
    console = Console(stderr=True, highlight=False)
    who = load_contenders(
        target,
        draft,
        dtype=dtype,
        device=device,
        packed="auto" if packed is None else packed,
        assistant=assistant,
    )
    for remark in who.remarks:
        console.print(remark, markup=False)
    made, prompts = make_cases(who.main, planned, article_tokens)
    began = time.perf_counter()
    measure(to_warm_up(made), make_runners(who, min(max_new_tokens, 8)), 1)

    def done(repeat: int, case: Case) -> None:
        console.print(f"{time.perf_counter() - began:6.0f} s  repeat {repeat + 1} of {repeats}: {case.label}")

    runs = measure(made, make_runners(who, max_new_tokens), repeats, done)
    found = rows(made, runs)
    path = out or Path("build/runs/bench_quick.json" if quick else "build/runs/bench.json")
    document = record(
        found, parameters, who.main, runs, default=who.default, prompt_sources=prompts, remarks=who.remarks
    )
    document.seconds = time.perf_counter() - began
    document.save(path)
    title = f"{who.main.name}, {document.dtype} on {document.device}, {'packed' if who.packed else 'unpacked'} target, "
    title += f"{max_new_tokens} new tokens, medians"
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table(found, title))
    if not document.metrics["all_equal"]:
        console.print("≠ marks rows whose tokens differ from transformers'. Their speed-up is not one of equal work.")
    console.print(f"record: {path}", soft_wrap=True)


app = typer.Typer(add_completion=False)
app.command()(one_line_errors(bench))

if __name__ == "__main__":
    app()
