"""The HTML around the playground's pictures: the table of methods, errors, and the page without widgets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from specbeam.decoding.decoders import METHODS, Decoded
from specbeam.decoding.methods import BASELINES, in_common
from specbeam.pictures.drawing import text

STYLE = f"<style>{Path(__file__).with_name('style.css').read_text(encoding='utf-8')}</style>"
HEADER = ("method", "search steps", "target passes", "steps a pass", "tokens a second", "speed", "same tokens")


def block(title: str, markup: str) -> str:
    """A heading and the markup below it; wide tables scroll."""
    return f'<h4>{text(title)}</h4><div class="scroll">{markup}</div>'


def alert(words: str) -> str:
    """An error that cannot be overlooked."""
    return f'<div class="alert" role="alert"><b>This did not work.</b> {text(words)}</div>'


def static_page(blocks: Sequence[str]) -> str:
    """A part of a page, without scripts: blocks one below the other."""
    return f'{STYLE}<div class="specbeam-play mathjax_ignore tex2jax_ignore">{"".join(blocks)}</div>'


def same_tokens(method: str, results: Mapping[str, Decoded], stopped: Collection[str] = ()) -> str:
    """Whether a speculative method returned the tokens of its plain search, in words; "" if that is not known."""
    plain = BASELINES.get(method)
    if plain is None or {method, plain} & set(stopped) or not {method, plain} <= results.keys():
        return ""
    ours, theirs = (results[name].sequences[0] for name in (method, plain))
    if ours == theirs:
        return f"yes, as {plain}"
    return f"no, {plain} differs from token {in_common(ours, theirs) + 1} on"


def method_rows(
    results: Mapping[str, Decoded], stopped: Collection[str] = (), running: str | None = None
) -> list[list[str]]:
    """A row for each method, under `HEADER`. `stopped` methods ended early; `running` has not ended."""
    return [_row(name, results, stopped, running) for name in METHODS]


def method_table(
    results: Mapping[str, Decoded], stopped: Collection[str] = (), running: str | None = None, chosen: str | None = None
) -> str:
    """`method_rows` as an HTML table; the row of `chosen` is highlighted."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in HEADER)
    body = []
    for name, (first, *others) in zip(METHODS, method_rows(results, stopped, running), strict=True):
        mark = ' class="chosen"' if name == chosen else ""
        cells = "".join(f"<td>{text(cell)}</td>" for cell in others)
        body.append(f'<tr{mark}><th scope="row">{text(first)}</th>{cells}</tr>')
    return f'<table class="methods"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _row(name: str, results: Mapping[str, Decoded], stopped: Collection[str], running: str | None) -> list[str]:
    if name not in results:
        return [name, "running …" if name == running else "–", *["–"] * (len(HEADER) - 2)]
    stats = results[name].stats
    plain = BASELINES.get(name)
    speed = "1" if plain is None else "–"
    if plain is not None and plain in results and not {name, plain} & set(stopped):
        speed = f"× {_seconds(results[plain]) / max(_seconds(results[name]), 1e-9):.2f}"
    return [
        *(name, f"{stats.steps}{', stopped' if name in stopped else ''}", str(stats.target_passes)),
        *(f"{stats.steps_per_pass:.2f}", f"{stats.tokens_per_second:.1f}", speed),
        same_tokens(name, results, stopped) or "–",
    ]


def _seconds(decoded: Decoded) -> float:
    return decoded.stats.prefill_s + decoded.stats.decode_s
