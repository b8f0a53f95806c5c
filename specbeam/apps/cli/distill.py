"""`specbeam distill`: train a draft for a target, with nothing but the target."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from specbeam.files import write_atomic

from . import options, output

PASSAGES_LICENCE = "part of them are its summaries of Wikipedia passages from BoolQ (CC BY-SA 3.0)"


def distill(
    out: Annotated[Path, typer.Option(help="Folder for the texts, the checkpoints and the draft.")],
    target: options.Target = None,
    positions: Annotated[int, typer.Option(min=1, help="Tokens that the target writes first.")] = 1_000_000,
    minutes: Annotated[float, typer.Option(min=0.0, help="Minutes of training, earlier calls included.")] = 60.0,
    kept_tokens: Annotated[int, typer.Option(min=8, help="Tokens that the draft can propose.")] = 8192,
    passages: Annotated[bool, typer.Option(help="A fourth of the texts are summaries of Wikipedia passages.")] = True,
    rows: Annotated[int, typer.Option(min=1, help="Texts written side by side.")] = 128,
    length: Annotated[int, typer.Option(min=16, help="Longest text in tokens, question included.")] = 208,
    beam_prompts: Annotated[
        int, typer.Option(min=0, help="Questions from which it also searches with 4 and 8 beams, to learn from these.")
    ] = 0,
    dtype: Annotated[
        str, typer.Option(help="Of the target while it writes; auto: bfloat16, float32 on a CPU that is slow at that.")
    ] = "auto",
    device: options.Device = "auto",
    revision: options.Revision = None,
) -> None:
    """Train a draft for a target on texts that the target writes. After an interruption the same command goes on."""
    # the models take seconds to import, which `specbeam --help` should not cost
    import torch

    from specbeam.engines.wrappers import unwrapped
    from specbeam.evaluation import data
    from specbeam.experiments.cpu import multiplies_bfloat16
    from specbeam.models.embedded import NAME
    from specbeam.models.load import load_pair
    from specbeam.pictures import training_curves
    from specbeam.training.distill import LICENCE
    from specbeam.training.distill import distill as distil

    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file; give a folder, new or from an earlier call")
    console = output.console(stderr=True)
    texts: list[str] = []
    if passages:
        try:
            texts = data.passages()
        except ValueError as error:
            console.print(f"without summaries: {error}", markup=False)
    if dtype == "auto":
        on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        dtype = "float32" if on_cpu and not multiplies_bfloat16() else "bfloat16"
    pair = load_pair(target, "none", engine="torch", dtype=dtype, device=device, revision=revision, packed=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        writing = bars.add_task("texts", total=positions, note="")
        training = bars.add_task("training", total=60 * minutes, note="after held-out prompts are answered")

        def written(count: int) -> None:
            bars.update(writing, completed=min(count, positions), note=f"{count:,} tokens")

        def trained(progress: Any) -> None:
            note = f"loss {progress.losses[-1][1]:.2f}"
            if progress.agreements:
                note += f", agrees in {progress.agreements[-1][1][0]:.0%}"
            bars.update(training, completed=progress.seconds, note=note)

        try:
            result = distil(
                unwrapped(pair.target),
                pair.tokenizer,
                target or NAME,
                out,
                **{"positions": positions, "minutes": minutes, "kept_tokens": kept_tokens, "passages": texts},
                **{"rows": rows, "length": length, "beam_prompts": beam_prompts, "written": written, "report": trained},
                licence=f"{LICENCE}; {PASSAGES_LICENCE}" if texts else LICENCE,
            )
        except KeyboardInterrupt:
            bars.stop()
            console.print("stopped; the same command goes on from the last checkpoint")
            raise typer.Exit(130) from None
    picture = io.BytesIO()
    training_curves(result).savefig(picture, dpi=120)
    write_atomic(out / "training.png", picture.getvalue())
    table = Table("held-out prompts", *(f"depth {depth + 1}" for depth in range(result["depths"])))
    for name, hits in result["agreement"].items():
        table.add_row(name, *(f"{share:.2f}" for share in hits["top_1"]))
    output.console().print(table)
    print(f"use it: load_pair({target!r}, draft={str(out)!r})")
