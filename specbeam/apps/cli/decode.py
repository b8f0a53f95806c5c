"""`specbeam generate` and `specbeam compare`: decode a prompt by one method, or by all four."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from specbeam.decoding.methods import BASELINES, METHOD_NAMES, in_common
from specbeam.experiments.record_models import describe_decode
from specbeam.experiments.records import plain
from specbeam.text import check_text, read_utf8

from . import options, output
from .summary import heading, summary


def generate(
    prompt: options.Prompt,
    method: Annotated[str, typer.Option(help=", ".join(METHOD_NAMES) + ".")] = "speculative_beam",
    num_beams: options.NumBeams = 4,
    max_new_tokens: options.MaxNewTokens = 64,
    num_return_sequences: Annotated[int, typer.Option(help="Beams to return, best first.")] = 1,
    target: options.Target = None,
    draft: options.Draft = "auto",
    system: options.System = None,
    prefill: options.Prefill = None,
    dtype: options.DType = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    draft_revision: options.DraftRevision = None,
    engine: options.Engine = "auto",
    packed: options.Packed = True,
    length_penalty: options.LengthPenalty = 1.0,
    early_stopping: options.EarlyStopping = "false",
    margin: Annotated[float | None, typer.Option(help="Nats; speculative_beam drops weak beams. Not exact.")] = None,
    tolerance: Annotated[float, typer.Option(help="Nats; speculative keeps tokens almost as likely. Not exact.")] = 0.0,
    top_r: Annotated[
        int, typer.Option(help="speculative keeps drafted tokens of the likeliest. Not exact above 1.")
    ] = 1,
    allowed: Annotated[Path | None, typer.Option(help="File with the permitted answers, one a line.")] = None,
    debug: Annotated[bool, typer.Option(help="Show the rendered prompt on stderr first.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Decode PROMPT and print the text, what was accepted, and speed."""
    if method not in METHOD_NAMES:
        raise ValueError(f"method={method!r} is none of {', '.join(METHOD_NAMES)}")
    given = _decode_options(num_beams, max_new_tokens, length_penalty, early_stopping, num_return_sequences)
    given = _fitting(method, given) | _relaxed_options(method, margin, tolerance, top_r)
    answers = None if allowed is None else _lines(allowed)
    places = {"dtype": dtype, "device": device, "device_map": device_map, "revision": revision, "engine": engine}
    pair, inputs = _prepare(
        prompt, system, debug, target, draft, packed, prefill, draft_revision=draft_revision, **places
    )
    if answers is not None:
        given["allowed"] = _trie(answers, pair)
    if sys.stdout.isatty() and not as_json:
        from .terminal import show

        show(pair, inputs, method, given, output.console(soft_wrap=True, markup=False))
        return
    decoded = _decode(method, pair, inputs, given)
    if as_json:
        _print_json(pair, prompt, describe_decode(method, decoded))
        return
    for rank, text in enumerate(decoded.text):
        if len(decoded.text) > 1:
            print(heading(decoded, rank))
        print(f"{text}\n")
    print(summary(pair, method, decoded))


def compare(
    prompt: options.Prompt,
    num_beams: options.NumBeams = 4,
    max_new_tokens: options.MaxNewTokens = 64,
    target: options.Target = None,
    draft: options.Draft = "auto",
    system: options.System = None,
    dtype: options.DType = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    draft_revision: options.DraftRevision = None,
    engine: options.Engine = "auto",
    packed: options.Packed = True,
    length_penalty: options.LengthPenalty = 1.0,
    early_stopping: options.EarlyStopping = "false",
    as_json: options.AsJson = False,
) -> None:
    """Decode PROMPT by all four methods and say whether the speculative ones equal their plain search."""
    given = _decode_options(num_beams, max_new_tokens, length_penalty, early_stopping, 1)
    places = {"dtype": dtype, "device": device, "device_map": device_map, "revision": revision, "engine": engine}
    pair, inputs = _prepare(prompt, system, False, target, draft, packed, draft_revision=draft_revision, **places)
    _decode("greedy", pair, inputs, {"max_new_tokens": min(2, max_new_tokens)})  # warm up
    results = {method: _decode(method, pair, inputs, _fitting(method, given)) for method in METHOD_NAMES}
    tokens = {method: decoded.sequences[0] for method, decoded in results.items()}
    if as_json:
        rows = {method: describe_decode(method, decoded) for method, decoded in results.items()}
        for method, baseline in BASELINES.items():
            rows[method]["equal"] = tokens[method] == tokens[baseline]
        _print_json(pair, prompt, {"methods": rows})
        return
    title = f"{pair.name}, {num_beams} beams, {max_new_tokens} new tokens at most"
    table = Table(title=title, box=box.SIMPLE_HEAD, expand=True, pad_edge=False, collapse_padding=True)
    table.add_column("method", no_wrap=True)
    for title in ("tokens", "passes", "steps\n/pass", "tokens\n/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("same\ntokens", no_wrap=True)
    table.add_column("text", overflow="ellipsis", no_wrap=True, ratio=1)  # what is left of the width
    for method, decoded in results.items():
        stats, baseline = decoded.stats, BASELINES.get(method)
        table.add_row(
            method,
            str(len(tokens[method])),
            str(stats.target_passes),
            f"{stats.steps_per_pass:.2f}",
            f"{stats.tokens_per_second:.1f}",
            _equality(tokens[method], tokens[baseline], baseline) if baseline else "—",
            Text(" ".join(decoded.text[0].split()[:8])),
        )
    output.console().print(table)


def _decode_options(
    num_beams: int, max_new_tokens: int, length_penalty: float, early_stopping: str, num_return_sequences: int
) -> dict[str, Any]:
    words = {"true": True, "false": False, "never": "never"}
    if early_stopping.lower() not in words:
        raise ValueError(f"early_stopping={early_stopping!r} is none of {', '.join(words)}")
    return {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "early_stopping": words[early_stopping.lower()],
        "num_return_sequences": num_return_sequences,
    }


def _relaxed_options(method: str, margin: float | None, tolerance: float, top_r: int) -> dict[str, Any]:
    """The inexact options that were given; each belongs to one method."""
    given = {"margin": (margin, None), "tolerance": (tolerance, 0.0), "top_r": (top_r, 1)}
    relaxed = {name: value for name, (value, exact) in given.items() if value != exact}
    for name in relaxed:
        belongs = "speculative_beam" if name == "margin" else "speculative"
        if method != belongs:
            raise ValueError(f"{name} is an option of {belongs}, not of {method}; leave it out or change the method")
    return relaxed


def _fitting(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options that a method takes: the greedy ones know nothing of beams."""
    return given if "beam" in method else {name: given[name] for name in ("max_new_tokens", "do_sample")}


def _prepare(
    prompt: str,
    system: str | None,
    debug: bool,
    target: str | None,
    draft: str,
    packed: bool,
    prefill: str | None = None,
    **places: Any,
) -> tuple[Any, Any]:
    """The pair and the rendered prompt, on its device. An empty prompt is refused before a model loads."""
    import specbeam as sb

    text = _from_stdin() if prompt == "-" else prompt
    if not text.strip():
        raise ValueError(f"the prompt {text!r} is empty; write at least one word")
    check_text(text, "the prompt")
    check_text(system or "", "the system prompt")
    check_text(prefill or "", "the prefill")
    pair = sb.load_pair(target, draft=draft, packed="auto" if packed else False, **places)
    asked: Any = text
    if prefill is not None:
        asked = [{"role": "user", "content": text}, {"role": "assistant", "content": prefill}]
    with contextlib.redirect_stdout(sys.stderr):  # what debug shows is not the command's answer
        inputs = sb.render_prompt(pair.tokenizer, asked, system=system, debug=debug)
    return pair, inputs.to(pair.target.device)


def _lines(path: Path) -> list[str]:
    """The answers in a file. Raises ValueError where there is none."""
    lines = [line.removesuffix("\r") for line in read_utf8(path).split("\n")]
    if not (answers := [line for line in lines if line.strip()]):
        raise ValueError(f"{path} holds no answer; write one a line")
    return answers


def _trie(answers: list[str], pair: Any) -> Any:
    """The answers as tokens, each of which may end."""
    import specbeam as sb
    from specbeam.models.stopping import stop_tokens

    tokens = [pair.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
    return sb.Trie(tokens, sorted(stop_tokens(pair.target)))


def _from_stdin() -> str:
    try:
        text = sys.stdin.read().removeprefix("\ufeff")  # a byte order mark, as Windows writes it into pipes
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the prompt on standard input is not {error.encoding}: byte {error.start} is "
            f"{error.object[error.start]:#x}; convert it, for example with iconv -t utf-8"
        ) from None
    if "\0" in text:
        raise ValueError("the prompt on standard input holds NUL characters, as UTF-16 does; convert it to UTF-8")
    return text


def _decode(method: str, pair: Any, inputs: Any, given: dict[str, Any]) -> Any:
    import specbeam as sb

    return sb.METHODS[method](pair, inputs, **given)


def _equality(tokens: list[int], others: list[int], baseline: str) -> str:
    return f"= {baseline} ✓" if tokens == others else f"≠ {baseline} at {in_common(tokens, others)}"


def _print_json(pair: Any, prompt: str, answer: dict[str, Any]) -> None:
    document = {"model": pair.name, "revisions": pair.revisions, "prompt": prompt, **answer}
    ascii_only = not output.encodes_everything()
    print(json.dumps(plain(document, "answer", nan_as_null=True), ensure_ascii=ascii_only))
