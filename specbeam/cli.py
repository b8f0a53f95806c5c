"""The `specbeam` command: decode a prompt, compare the four methods, run notebooks, render reports.

Models are loaded inside the commands, after what was asked for has been checked.
"""

import contextlib
import functools
import itertools
import json
import math
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from specbeam.cli_distill import distill
from specbeam.cli_records import records
from specbeam.cli_runs import reports, run
from specbeam.cli_sweep import sweep

app = typer.Typer(
    name="specbeam",
    help="Speculative beam decoding: exact beam search with fewer passes of the target model.",
    no_args_is_help=True,
    add_completion=False,
)

METHOD_NAMES = ("greedy", "beam", "speculative", "speculative_beam")
BASELINES = {"speculative": "greedy", "speculative_beam": "beam"}  # what each has to equal, token for token

Prompt = Annotated[str, typer.Argument(help='The prompt; "-" reads it from standard input.')]
NumBeams = Annotated[int, typer.Option(help="Beams of the beam methods.")]
MaxNewTokens = Annotated[int, typer.Option(help="Tokens to generate at most.")]
Target = Annotated[str | None, typer.Option(help="Hub id or folder of a causal LM; default: the embedded one.")]
Draft = Annotated[str, typer.Option(help="auto, recall, ngram, none, or a smaller model's hub id or folder.")]
System = Annotated[str | None, typer.Option(help="System prompt.")]
DType = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or float64.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps …")]
DeviceMap = Annotated[str | None, typer.Option(help='"auto" spreads a model over several GPUs.')]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the target on the hub.")]
DraftRevision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the draft on the hub.")]
Packed = Annotated[bool, typer.Option(help="Pack the weights on a CPU, where possible, for faster passes.")]
LengthPenalty = Annotated[float, typer.Option(help="Beam scores are divided by length to this power.")]
EarlyStopping = Annotated[str, typer.Option(help="When a beam search may end: true, false or never.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def reported(command: Callable) -> Callable:
    """A ValueError, wherever it comes from, becomes one line on stderr and exit code 2."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ValueError as error:
            print("specbeam: " + " ".join(str(error).split()), file=sys.stderr)
            raise typer.Exit(2) from None

    return wrapper


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
    options = _options(num_beams, max_new_tokens, length_penalty, early_stopping, num_return_sequences)
    options |= _relaxed(method, margin, tolerance, top_r)
    places = {"dtype": dtype, "device": device, "device_map": device_map, "revision": revision}
    pair, inputs = _prepare(prompt, system, debug, target, draft, packed, draft_revision=draft_revision, **places)
    decoded = _decode(method, pair, inputs, options)
    if as_json:
        _print_json(_head(pair, prompt) | _as_dict(method, decoded))
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for rank, text in enumerate(decoded.text):
        if len(decoded.text) > 1:
            console.print(f"[{rank + 1}] score {decoded.scores[rank]:.4f}")
        console.print(text.strip())
        console.print()
    label = method if decoded.exact else f"{method}, not exact ({decoded.stats.relaxed_steps} relaxed steps)"
    console.print(f"{pair.name}, {label}: {_summary(decoded)}", style="dim")


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
    options = _options(num_beams, max_new_tokens, length_penalty, early_stopping, 1)
    places = {"dtype": dtype, "device": device, "device_map": device_map, "revision": revision}
    pair, inputs = _prepare(prompt, system, False, target, draft, packed, draft_revision=draft_revision, **places)
    _decode("greedy", pair, inputs, {"max_new_tokens": min(2, max_new_tokens)})  # warm up
    results = {method: _decode(method, pair, inputs, options) for method in METHOD_NAMES}
    verdicts = {
        method: _equality(results[method].sequences[0], results[plain].sequences[0], plain)
        for method, plain in BASELINES.items()
    }
    if as_json:
        rows = {method: _as_dict(method, decoded) for method, decoded in results.items()}
        for method, plain in BASELINES.items():
            rows[method]["equal"] = results[method].sequences[0] == results[plain].sequences[0]
        _print_json(_head(pair, prompt) | {"methods": rows})
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


def _options(
    num_beams: int, max_new_tokens: int, length_penalty: float, early_stopping: str, num_return_sequences: int
) -> dict[str, Any]:
    words = {"true": True, "false": False, "never": "never"}
    if early_stopping.lower() not in words:
        raise ValueError(f"early_stopping={early_stopping!r} is none of {', '.join(words)}")
    return {
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "early_stopping": words[early_stopping.lower()],
        "num_return_sequences": num_return_sequences,
    }


def _relaxed(method: str, margin: float | None, tolerance: float, top_r: int) -> dict[str, Any]:
    """The inexact options that were given; each belongs to one method."""
    given = {"margin": (margin, None), "tolerance": (tolerance, 0.0), "top_r": (top_r, 1)}
    options = {name: value for name, (value, exact) in given.items() if value != exact}
    for name in options:
        belongs = "speculative_beam" if name == "margin" else "speculative"
        if method != belongs:
            raise ValueError(f"{name} is an option of {belongs}, not of {method}; leave it out or change the method")
    return options


def _prepare(
    prompt: str, system: str | None, debug: bool, target: str | None, draft: str, packed: bool, **options: Any
) -> tuple[Any, Any]:
    """The pair and the rendered prompt, on its device. An empty prompt is refused before a model loads."""
    import specbeam as sb

    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise ValueError(f"the prompt {text!r} is empty; write at least one word")
    pair = sb.load_pair(target, draft=draft, packed="auto" if packed else False, **options)
    with contextlib.redirect_stdout(sys.stderr):  # what debug shows is not the command's answer
        inputs = sb.render_prompt(pair.tokenizer, text, system=system, debug=debug)
    return pair, inputs.to(pair.target.device)


def _decode(method: str, pair: Any, inputs: Any, options: dict[str, Any]) -> Any:
    """One method with the options that it takes: the greedy ones know nothing of beams."""
    import specbeam as sb

    if method in ("greedy", "speculative"):
        options = {name: options[name] for name in ("max_new_tokens", "tolerance", "top_r") if name in options}
    return sb.METHODS[method](pair, inputs, **options)


def _equality(tokens: list[int], plain_tokens: list[int], plain: str) -> str:
    if tokens == plain_tokens:
        return f"= {plain} ✓"
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(tokens, plain_tokens, strict=False))
    return f"≠ {plain} at {len(list(same))}"


def _summary(decoded: Any) -> str:
    stats = decoded.stats
    accepted = ", ".join(f"{count} × {steps}" for steps, count in sorted(stats.accepted.items()))
    passes = f"{stats.steps} steps in {stats.target_passes} target passes"
    return (
        f"{passes} ({stats.steps_per_pass:.2f} steps a pass; "
        f"passes × steps committed: {accepted or 'none'}), {stats.tokens_per_second:.1f} tokens/s, "
        f"{stats.decode_s:.2f} s after a prefill of {stats.prefill_s:.2f} s"
    )


def _head(pair: Any, prompt: str) -> dict[str, Any]:
    return {"model": pair.name, "revisions": pair.revisions, "prompt": prompt}


def _as_dict(method: str, decoded: Any) -> dict[str, Any]:
    names = (
        *("steps", "target_passes", "target_tokens", "draft_passes", "accepted", "steps_per_pass"),
        *("relaxed_steps", "tokens_per_second", "prefill_s", "decode_s", "draft_s", "target_s", "peak_kv_tokens"),
    )
    return {
        "method": method,
        "exact": decoded.exact,
        "text": list(decoded.text),
        "sequences": [list(map(int, tokens)) for tokens in decoded.sequences],
        "scores": None if decoded.scores is None else [float(score) for score in decoded.scores],
        "stats": {name: getattr(decoded.stats, name) for name in names},
    }


def _print_json(value: Any) -> None:
    print(json.dumps(_finite(value), ensure_ascii=False))


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


app.command()(reported(run))
app.command()(sweep)
app.command()(reported(reports))
app.command()(records)
app.command()(distill)
