"""The `specbeam` command: decode a prompt, compare the four methods, run notebooks, render reports."""

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from specbeam.decoding.methods import BASELINES, METHOD_NAMES, in_common

from .common import (
    AsJson,
    Device,
    DeviceMap,
    Draft,
    DraftRevision,
    DType,
    EarlyStopping,
    LengthPenalty,
    MaxNewTokens,
    NumBeams,
    Packed,
    Prompt,
    Revision,
    System,
    Target,
    as_dict,
    decode,
    decode_options,
    fitting,
    head,
    heading,
    prepare,
    print_json,
    relaxed_options,
    reported,
    summary,
)
from .demo import demo
from .distill import distill
from .records import records
from .runs import reports, run
from .sweep import sweep

app = typer.Typer(
    name="specbeam",
    help="Speculative beam decoding: exact beam search with fewer passes of the target model.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
@reported
def generate(
    prompt: Prompt,
    method: Annotated[str, typer.Option(help=", ".join(METHOD_NAMES) + ".")] = "speculative_beam",
    num_beams: NumBeams = 4,
    max_new_tokens: MaxNewTokens = 64,
    num_return_sequences: Annotated[int, typer.Option(help="Beams to return, best first.")] = 1,
    target: Target = None,
    draft: Draft = "auto",
    system: System = None,
    dtype: DType = "auto",
    device: Device = "auto",
    device_map: DeviceMap = None,
    revision: Revision = None,
    draft_revision: DraftRevision = None,
    packed: Packed = True,
    length_penalty: LengthPenalty = 1.0,
    early_stopping: EarlyStopping = "false",
    margin: Annotated[float | None, typer.Option(help="Nats; speculative_beam drops weak beams. Not exact.")] = None,
    tolerance: Annotated[float, typer.Option(help="Nats; speculative keeps tokens almost as likely. Not exact.")] = 0.0,
    top_r: Annotated[
        int, typer.Option(help="speculative keeps drafted tokens of the likeliest. Not exact above 1.")
    ] = 1,
    debug: Annotated[bool, typer.Option(help="Show the rendered prompt on stderr first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decode PROMPT and print the text, what was accepted, and speed."""
    if method not in METHOD_NAMES:
        raise ValueError(f"method={method!r} is none of {', '.join(METHOD_NAMES)}")
    options = decode_options(num_beams, max_new_tokens, length_penalty, early_stopping, num_return_sequences)
    options |= relaxed_options(method, margin, tolerance, top_r)
    places = {"dtype": dtype, "device": device, "device_map": device_map, "revision": revision}
    pair, inputs = prepare(prompt, system, debug, target, draft, packed, draft_revision=draft_revision, **places)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if as_json:
        decoded = decode(method, pair, inputs, options)
        print_json(head(pair, prompt) | as_dict(method, decoded))
    elif console.is_terminal:
        from .terminal import show

        show(pair, inputs, method, fitting(method, options), console)
    else:
        decoded = decode(method, pair, inputs, options)
        for rank, text in enumerate(decoded.text):
            if len(decoded.text) > 1:
                console.print(heading(decoded, rank))
            console.print(text.strip())
            console.print()
        console.print(summary(pair, method, decoded))


@app.command()
@reported
def compare(
    prompt: Prompt,
    num_beams: NumBeams = 4,
    max_new_tokens: MaxNewTokens = 64,
    target: Target = None,
    draft: Draft = "auto",
    system: System = None,
    dtype: DType = "auto",
    device: Device = "auto",
    device_map: DeviceMap = None,
    revision: Revision = None,
    draft_revision: DraftRevision = None,
    packed: Packed = True,
    length_penalty: LengthPenalty = 1.0,
    early_stopping: EarlyStopping = "false",
    as_json: AsJson = False,
) -> None:
    """Decode PROMPT by all four methods and say whether the speculative ones equal their plain search."""
    options = decode_options(num_beams, max_new_tokens, length_penalty, early_stopping, 1)
    places = {"dtype": dtype, "device": device, "device_map": device_map, "revision": revision}
    pair, inputs = prepare(prompt, system, False, target, draft, packed, draft_revision=draft_revision, **places)
    decode("greedy", pair, inputs, {"max_new_tokens": min(2, max_new_tokens)})  # warm up
    results = {method: decode(method, pair, inputs, options) for method in METHOD_NAMES}
    verdicts = {
        method: _equality(results[method].sequences[0], results[plain].sequences[0], plain)
        for method, plain in BASELINES.items()
    }
    if as_json:
        rows = {method: as_dict(method, decoded) for method, decoded in results.items()}
        for method, plain in BASELINES.items():
            rows[method]["equal"] = results[method].sequences[0] == results[plain].sequences[0]
        print_json(head(pair, prompt) | {"methods": rows})
        return
    title = f"{pair.name}, {num_beams} beams, {max_new_tokens} new tokens at most"
    table = Table(title=title, box=box.SIMPLE_HEAD, expand=True, pad_edge=False, collapse_padding=True)
    table.add_column("method", no_wrap=True)
    for title in ("tokens", "passes", "steps\n/pass", "tokens\n/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("same\ntokens", no_wrap=True)
    table.add_column("text", overflow="ellipsis", no_wrap=True, ratio=1)  # what is left of the width
    for method, decoded in results.items():
        stats = decoded.stats
        table.add_row(
            method,
            str(len(decoded.sequences[0])),
            str(stats.target_passes),
            f"{stats.steps_per_pass:.2f}",
            f"{stats.tokens_per_second:.1f}",
            verdicts.get(method, "—"),
            " ".join(decoded.text[0].split()[:8]),
        )
    Console().print(table)


def _equality(tokens: list[int], plain_tokens: list[int], plain: str) -> str:
    if tokens == plain_tokens:
        return f"= {plain} ✓"
    return f"≠ {plain} at {in_common(tokens, plain_tokens)}"


app.command()(reported(run))
app.command()(sweep)
app.command()(reported(reports))
app.command()(records)
app.command()(distill)
app.command()(reported(demo))
