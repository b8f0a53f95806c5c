"""`specbeam bench --peers`: other inference libraries beside transformers and us, on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import output


def check_options(
    target: str | None, assistant: str | None, dtype: str, device: str, full: bool, batches: int | None
) -> None:
    """Raises ValueError for options of `bench` that have no meaning here."""
    given = {
        "--target": target is not None,
        "--assistant": assistant is not None,
        "--dtype": dtype not in ("auto", "float32"),
        "--device": device not in ("auto", "cpu"),
        "--full": full,
        "--batches": bool(batches),
    }
    wrong = [name for name, present in given.items() if present]
    if wrong:
        raise ValueError(
            "--peers compares the embedded model in float32 on the CPU, one prompt at a time; "
            f"leave out {', '.join(wrong)}."
        )


def bench_peers(
    names: Sequence[str],
    repeats: int,
    max_new_tokens: int,
    prompts: tuple[int | None, int | None, int | None],
    draft: str,
    engine: str,
    packed: bool | None,
    quick: bool,
    out: Path | None,
) -> None:
    """prompts: of chat, code and articles at most, one each by default."""
    from specbeam.evaluation.bench.cases import ARTICLE_TOKENS
    from specbeam.evaluation.bench.peers import measure, report
    from specbeam.evaluation.bench.runners import load_contenders

    most = {kind: 1 if n is None else n for kind, n in zip(("chat", "code", "article"), prompts, strict=True)}
    article_tokens = ARTICLE_TOKENS
    if quick:
        repeats, max_new_tokens, article_tokens = 1, min(max_new_tokens, 8), 100
        names = names or list(measure.QUICK_CASES)
    planned = measure.plan(names, most)
    parameters: dict[str, Any] = {
        **{"repeats": repeats, "max_new_tokens": max_new_tokens, "cases": [case.label for case in planned]},
        **{"chats": most["chat"], "codes": most["code"], "articles": most["article"]},
        **{"article_tokens": article_tokens, "engine": engine, "packed": packed, "draft": draft},
        **{"dtype": "float32", "device": "cpu"},
        **{"quick": quick, "warmups": 1},
    }
    console = output.console(stderr=True)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    packing = "auto" if packed is None else packed
    who = load_contenders(None, draft, dtype="float32", device="cpu", engine=engine, packed=packing)
    began = time.perf_counter()

    def done(repeat: int, case: Any) -> None:
        say(f"{time.perf_counter() - began:6.0f} s  repeat {repeat + 1} of {repeats}: {case.label}")

    record = measure.benchmark_peers(who, planned, parameters, article_tokens=article_tokens, say=say, done=done)
    path = record.save(out or Path("build/runs") / f"{report.NAME}{'_quick' if quick else ''}.json")
    found = record.metrics["rows"]
    title = (
        f"{who.main.name}, float32, {record.threads} threads each, {max_new_tokens} forced tokens; seconds a prompt, "
    )
    title += "and the speed as a multiple of transformers', medians"
    output.console(width=None if sys.stdout.isatty() else 140).print(report.table(found, title))
    for remark in report.remarks(found):
        say(f"- {remark}")
    say(f"record: {path}")
