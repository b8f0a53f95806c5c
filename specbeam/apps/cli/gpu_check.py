"""`specbeam gpu-check`: what a pass, a tree and a CUDA graph are worth on the card at hand."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options, output


def gpu_check(
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate.")] = 48,
    dtype: options.DType = "bfloat16",
    device: Annotated[str, typer.Option(help="A CUDA device; cpu shows that the check itself works.")] = "cuda",
    quick: Annotated[
        bool, typer.Option(help="A smaller model, fewer cases, one repeat; its times say nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Record; default build/runs/gpu_check.json.")] = None,
) -> None:
    """Time transformers and specbeam on one GPU: random weights, greedy and beams, one prompt and eight."""
    import torch

    from specbeam.core.draft import NoDraft
    from specbeam.evaluation.bench import card
    from specbeam.evaluation.bench.report import table
    from specbeam.models.load import DTYPES, Pair

    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is none of {', '.join(DTYPES)}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"device={device!r} cannot be used here ({first}); --device cpu shows how it goes") from error
    console, began = output.console(stderr=True), time.perf_counter()
    model = card.random_model(DTYPES[dtype], device, layers=2 if quick else 24)
    pair = Pair(model, NoDraft(), None, "Qwen2 of half a billion random weights" if not quick else "a small Qwen2")
    if quick:
        repeats, max_new_tokens = 1, min(max_new_tokens, 8)
    cases = card.plan((1, 4) if quick else card.BEAMS, (1, 2) if quick else card.BATCHES, device)
    parameters: dict[str, Any] = {"repeats": repeats, "max_new_tokens": max_new_tokens, "dtype": dtype, "quick": quick}

    def done(repeat: int, case: Any) -> None:
        console.print(f"{time.perf_counter() - began:6.0f} s  repeat {repeat + 1} of {repeats}: {case.label}")

    record = card.check(pair, cases, parameters | {"device": device, "warmups": 1}, done)
    path = record.save(out or Path("build/runs") / f"{card.NAME}{'_quick' if quick else ''}.json")
    title = f"{pair.name}, {dtype} on {record.device}, {max_new_tokens} new tokens, medians"
    output.console(width=None if sys.stdout.isatty() else 140).print(table(record.metrics["rows"], title))
    console.print(f"record: {path}", soft_wrap=True)
