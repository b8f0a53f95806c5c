"""`specbeam bench`: speed against transformers, on this machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options, output
from .bench_peers import bench_peers, check_options


def _at_most(what: str, most: int) -> Any:
    return typer.Option(min=0, max=most, help=f"{what} at most.", show_default="as planned")


def bench(
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats; 5 or more for a result.")] = 5,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 48,
    cases: Annotated[str, typer.Option(help="Cases by name, chat_beam_4,article_greedy; default: all.")] = "",
    full: Annotated[bool, typer.Option(help="Every runner, prompt and repeat in every case.")] = False,
    chats: Annotated[int | None, _at_most("Chat prompts", 5)] = None,
    articles: Annotated[int | None, _at_most("Articles", 10)] = None,
    codes: Annotated[int | None, _at_most("Programming tasks", 5)] = None,
    batches: Annotated[int | None, _at_most("Batches of prompts", 1)] = None,
    engine: options.Engine = "auto",
    packed: Annotated[
        bool | None,
        typer.Option("--packed/--no-packed", help="Our target's weights in PyTorch; default: packed on a CPU."),
    ] = None,
    target: options.Target = None,
    draft: Annotated[
        str,
        typer.Option(help="auto, recall, ngram, or a smaller model's hub id or folder.", callback=options.from_here),
    ] = "auto",
    assistant: Annotated[
        str | None,
        typer.Option(
            help="Hub id or folder of a smaller model for transformers' assisted generation.",
            callback=options.from_here,
        ),
    ] = None,
    dtype: options.DType = "float32",
    device: options.Device = "auto",
    peers: Annotated[
        bool, typer.Option("--peers", help="Time other inference libraries too, each in a process of its own.")
    ] = False,
    quick: Annotated[bool, typer.Option(help="One short repeat, to see that it works; its times say nothing.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Record; default build/runs/bench.json, with _peers and _quick in its name for these."),
    ] = None,
) -> None:
    """Time our decoders against transformers', as it comes and on the same packed weights."""
    # the models take seconds to import, which `specbeam --help` should not cost
    from specbeam.evaluation.bench import measure
    from specbeam.evaluation.bench.cases import ARTICLE_TOKENS, BATCHED, PROMPTS, choose
    from specbeam.evaluation.bench.report import table
    from specbeam.evaluation.bench.runners import load_contenders

    names = [name.strip() for name in cases.split(",") if name.strip()]
    if peers:
        check_options(target, assistant, dtype, device, full, batches)
        bench_peers(names, repeats, max_new_tokens, (chats, codes, articles), draft, engine, packed, quick, out)
        return
    counts = {"chat": chats, "article": articles, "code": codes, BATCHED: batches}
    most = {kind: PROMPTS[kind] if count is None else count for kind, count in counts.items()}
    article_tokens = ARTICLE_TOKENS
    if quick:
        repeats, max_new_tokens, article_tokens = 1, min(max_new_tokens, 8), 100
        names = names or list(measure.QUICK_CASES)
        most |= {kind: min(most[kind], 1) for kind in ("chat", "article", "code")}
    planned = choose(names, most, full)
    parameters: dict[str, Any] = {
        **{"repeats": repeats, "max_new_tokens": max_new_tokens, "cases": names, "full": full},
        **{"chats": most["chat"], "articles": most["article"], "codes": most["code"], "batches": most[BATCHED]},
        **{
            "engine": engine,
            "packed": packed,
            "target": target,
            "draft": draft,
            "assistant": assistant,
            "dtype": dtype,
        },
        **{"device": device, "quick": quick, "warmups": 1},
    }
    console = output.console(stderr=True)
    packing = "auto" if packed is None else packed
    options_of_all = {"dtype": dtype, "device": device, "engine": engine, "packed": packing}
    who = load_contenders(target, draft, **options_of_all, assistant=assistant)
    for remark in who.remarks:
        console.print(remark, markup=False)
    began = time.perf_counter()

    def done(repeat: int, case: Any) -> None:
        console.print(f"{time.perf_counter() - began:6.0f} s  repeat {repeat + 1} of {repeats}: {case.label}")

    record = measure.benchmark(who, planned, parameters, article_tokens=article_tokens, done=done)
    path = record.save(out or Path("build/runs/bench_quick.json" if quick else "build/runs/bench.json"))
    title = f"{who.main.name}, {record.dtype} on {record.device}, {who.engine} engine, "
    title += f"{max_new_tokens} new tokens, medians"
    output.console(width=None if sys.stdout.isatty() else 140).print(table(record.metrics["rows"], title))
    if not record.metrics["all_equal"]:
        console.print("≠ marks rows whose tokens differ from transformers'. Their speed-up is not one of equal work.")
    console.print(f"record: {path}", soft_wrap=True)
