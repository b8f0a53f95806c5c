"""What the commands that decode share: their options, how a wrong one is reported, and the pair that they load.

Models are loaded after what was asked for has been checked.
"""

import contextlib
import functools
import json
import math
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

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


def decode_options(
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


def relaxed_options(method: str, margin: float | None, tolerance: float, top_r: int) -> dict[str, Any]:
    """The inexact options that were given; each belongs to one method."""
    given = {"margin": (margin, None), "tolerance": (tolerance, 0.0), "top_r": (top_r, 1)}
    options = {name: value for name, (value, exact) in given.items() if value != exact}
    for name in options:
        belongs = "speculative_beam" if name == "margin" else "speculative"
        if method != belongs:
            raise ValueError(f"{name} is an option of {belongs}, not of {method}; leave it out or change the method")
    return options


def prepare(
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


def decode(method: str, pair: Any, inputs: Any, options: dict[str, Any]) -> Any:
    """One method with the options that it takes."""
    import specbeam as sb

    return sb.METHODS[method](pair, inputs, **fitting(method, options))


def fitting(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a method takes: the greedy ones know nothing of beams."""
    if method in ("greedy", "speculative"):
        return {name: options[name] for name in ("max_new_tokens", "tolerance", "top_r") if name in options}
    return options


def heading(decoded: Any, rank: int) -> str:
    """What stands above one of several returned sequences."""
    return f"[{rank + 1}] score {decoded.scores[rank]:.4f}"


def summary(pair: Any, method: str, decoded: Any) -> str:
    """One line on how much work a decode took."""
    stats = decoded.stats
    label = method if decoded.exact else f"{method}, not exact ({stats.relaxed_steps} relaxed steps)"
    accepted = ", ".join(f"{count} × {steps}" for steps, count in sorted(stats.accepted.items()))
    passes = f"{stats.steps} steps in {stats.target_passes} target passes"
    return (
        f"{pair.name}, {label}: {passes} ({stats.steps_per_pass:.2f} steps a pass; "
        f"passes × steps committed: {accepted or 'none'}), {stats.tokens_per_second:.1f} tokens/s, "
        f"{stats.decode_s:.2f} s after a prefill of {stats.prefill_s:.2f} s"
    )


def head(pair: Any, prompt: str) -> dict[str, Any]:
    return {"model": pair.name, "revisions": pair.revisions, "prompt": prompt}


def as_dict(method: str, decoded: Any) -> dict[str, Any]:
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


def print_json(value: Any) -> None:
    print(json.dumps(finite(value), ensure_ascii=False))


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
