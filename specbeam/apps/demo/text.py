"""What the web page says: status, text, race and links as markup in which what visitors and models wrote is text.

Plain data in, HTML out; knows no Gradio. `STYLE` is the page's style sheet, on Gradio's own colour variables.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from specbeam.apps.cli.common import as_dict, finite
from specbeam.decoding.decoders import Decoded
from specbeam.decoding.live import Snapshot
from specbeam.decoding.methods import BASELINES, in_common
from specbeam.experiments.record_models import describe
from specbeam.models.load import Pair
from specbeam.pictures.drawing import attribute, counted, text
from specbeam.pictures.token_text import token_texts

from .jobs import Standing
from .settings import METHODS, Settings

STYLE = """
.gradio-container .html-container { padding: 0; }
.gradio-container .block:has(> .html-container > div:empty) { display: none; }
#run, #race, #stop, #back, #next { font-size: 14px; padding: 8px 6px; white-space: nowrap; }
#back, #next { align-self: center; }
@media (max-width: 720px) {
  #results { min-height: 100vh; } #steps { flex-wrap: wrap; } #slider { flex-basis: 100%; order: -1; }
}
footer { display: none !important; }
.sb-status, .sb-refused { padding: 8px 12px; border-radius: 6px; font-size: 14px; line-height: 1.5;
  background: var(--background-fill-secondary); color: var(--body-text-color); overflow-wrap: anywhere; }
.sb-refused { border-left: 4px solid #c2410c; }
.sb-status b { font-weight: 600; }
.sb-status a { color: var(--link-text-color); text-decoration: underline; }
.sb-words { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; color: var(--body-text-color); }
.sb-answer { padding: 10px 12px; border: 1px solid var(--border-color-primary); border-radius: 6px;
  background: var(--block-background-fill); font-size: 15px; min-height: 1.55em; }
.sb-race { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 12px; }
.sb-card { padding: 10px 12px; border: 1px solid var(--border-color-primary); border-radius: 6px; min-width: 0;
  background: var(--block-background-fill); color: var(--body-text-color); font-size: 14px; }
.sb-card h3 { margin: 0; font-size: 15px; font-weight: 600; color: var(--body-text-color); }
.sb-speed { font-size: 22px; font-weight: 600; margin: 2px 0 4px; font-variant-numeric: tabular-nums; }
.sb-speed small { font-size: 13px; font-weight: 400; color: var(--body-text-color-subdued); }
.sb-bar { height: 6px; border-radius: 3px; background: var(--background-fill-secondary); overflow: hidden; }
.sb-bar div { height: 100%; background: #0072b2; }
.sb-facts { margin: 6px 0; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.sb-same { font-weight: 600; color: var(--body-text-color); }
.sb-head h1 { font-size: 22px; font-weight: 600; margin: 0 0 2px; color: var(--body-text-color); }
.sb-head p { margin: 0; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.sb-foot { font-size: 13px; overflow-wrap: anywhere; padding: 12px 0; }
.sb-faint { color: var(--body-text-color-subdued); }
"""


def header(pair: Pair) -> str:
    """The top of the page."""
    about = describe(pair)
    where = f"{text(about['models']['pair'] if about else pair.name)}, {text(str(about.get('dtype') or ''))} on "
    where += text(str(about.get("device") or "this machine"))
    return (
        '<div class="sb-head"><h1>specbeam</h1><p>Beam search that a draft speeds up: the same result as plain beam '
        f"search, in fewer passes of the target model. {where}.</p></div>"
    )


def foot() -> str:
    """The bottom of the page."""
    return (
        '<div class="sb-faint sb-foot">Programs can ask as well: '
        '<code>gradio_client.Client("this address").predict("a prompt", api_name="/decode")</code> returns the text '
        "and its statistics.</div>"
    )


def refusal(words: str) -> str:
    """Why something was not done."""
    return f'<div class="sb-refused" role="alert">{text(words)}</div>'


def answer(words: str) -> str:
    """What the model wrote."""
    return f'<div class="sb-words sb-answer">{text(words.strip())}</div>'


def status(now: Standing, asked: Settings) -> str:
    """One line on where a single decode stands."""
    if now.error:
        return refusal(now.error)
    method = METHODS[asked.method]
    shot = now.shots.get(asked.method)
    if now.ahead:
        return _status(f"<b>Waiting</b> for the model: {counted(now.ahead, 'visitor')} before you.")
    if shot is None:
        if now.ended:
            return _status("<b>Stopped</b> before the first token.")
        return _status(f"<b>Reading the prompt</b> … then {method}.")
    work = f"{counted(len(shot.tokens), 'token')}, {counted(shot.steps, 'step')} in "
    work += counted(shot.target_passes, "target pass", "es")
    if not now.ended:
        return _status(f"<b>Running</b> {method}: {work}, {shot.seconds:.1f} s")
    done = "Stopped" if now.stopped else "Done"
    result = now.results.get(asked.method)
    if result is None:
        return _status(f"<b>{done}</b>: {work}.")
    stats = result.stats
    return _status(
        f"<b>{done}</b>, {method}: {work} ({stats.steps_per_pass:.2f} steps a pass), "
        f"{stats.tokens_per_second:.1f} tokens/s, {stats.prefill_s + stats.decode_s:.2f} s"
    )


def race_status(now: Standing) -> str:
    """One line on where a race stands."""
    if now.error:
        return refusal(now.error)
    if now.ahead:
        return _status(f"<b>Waiting</b> for the model: {counted(now.ahead, 'visitor')} before you.")
    if now.ended:
        done = "Stopped" if now.stopped else "Done"
        return _status(
            f"<b>{done}</b>: {counted(len(now.results), 'method')}, one after the other, {now.seconds:.1f} s"
        )
    return _status(f"<b>Running</b>, one method after the other on one model: {len(now.results)} of 4 done")


def race(now: Standing) -> str:
    """A card for each method, and whether the speculative ones found what their plain search finds."""
    fastest = max((_speed(now, name) for name in METHODS), default=0.0)
    cards = "".join(_card(name, now, fastest) for name in METHODS)
    return f'<div class="sb-race">{cards}</div>'


def _card(name: str, now: Standing, fastest: float) -> str:
    shot, result = now.shots.get(name), now.results.get(name)
    title = f"<h3>{METHODS[name]}</h3>"
    if shot is None:
        words = "not run" if now.ended else "waits for its turn" if now.shots else ""
        return f'<div class="sb-card" data-method="{name}">{title}<div class="sb-facts">{words}</div></div>'
    speed = _speed(now, name)
    share = 100 * speed / fastest if fastest else 0
    passes = counted(shot.target_passes, "target pass", "es")
    facts = (
        f"{counted(len(shot.tokens), 'token')}, {passes}, {shot.steps / max(shot.target_passes, 1):.2f} steps a pass"
    )
    plain = now.results.get(BASELINES.get(name, ""))
    same = ""
    if result is not None and plain is not None:
        same = f'<div class="sb-same">{equality(result, plain, METHODS[BASELINES[name]])}</div>'
    so_far = "" if result is not None else " so far"
    return (
        f'<div class="sb-card" data-method="{name}">{title}<div class="sb-speed">{speed:.1f} <small>tokens/s{so_far}'
        f'</small></div><div class="sb-bar"><div style="width:{share:.0f}%"></div></div><div class="sb-facts">{facts}'
        f'</div>{same}<div class="sb-words">{text(shot.text.strip())}</div></div>'
    )


def equality(one: Decoded, plain: Decoded, name: str) -> str:
    """Whether two decodes gave the same tokens, in words; one that was stopped is compared as far as it came."""
    a, b = one.sequences[0], plain.sequences[0]
    if a == b:
        return f"✓ the same {counted(len(a), 'token')} as {name}"
    same = in_common(a, b)
    if same == min(len(a), len(b)):
        return f"the same {counted(same, 'token')} as {name} as far as both came"
    return f"≠ {name} from token {same + 1} on"


def links(asked: Settings, document: Mapping[str, Any] | None) -> str:
    """The link that reproduces a run, and its record to keep."""
    found = f'<a class="sb-link" href={attribute(asked.query())} target="_blank">Link to this run</a>'
    if document is not None:
        packed = base64.b64encode(json.dumps(document).encode()).decode()
        found += (
            f' · <a class="sb-record" download="specbeam-{asked.method}.json" '
            f'href="data:application/json;base64,{packed}">Download the record (JSON)</a>'
        )
    return f'<div class="sb-status">{found}</div>'


def record(pair: Pair, asked: Settings, results: Mapping[str, Decoded], about: Mapping[str, Any]) -> dict[str, Any]:
    """A run as JSON: what was asked for, of which models, and what came of it, traces with their texts included.

    `about` are fields that all runs of this server share. Values that JSON has no word for are null.
    """
    found: dict[str, Any] = {"kind": "specbeam demo run", **about, **describe(pair)}
    found |= {"revisions": pair.revisions, "parameters": {**vars(asked), "query": asked.query()}}
    found["results"] = {}
    for method, decoded in results.items():
        one = as_dict(method, decoded)
        if decoded.trace:
            one["trace"] = decoded.trace[0].to_json(token_texts(decoded.trace[0], pair.tokenizer))
        found["results"][method] = one
    return plain(found)


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """The same with null for what JSON has no word for."""
    return finite(document)


def _speed(now: Standing, name: str) -> float:
    """Tokens a second, the prompt's pass included."""
    if name in now.results:
        return now.results[name].stats.tokens_per_second
    shot: Snapshot | None = now.shots.get(name)
    return len(shot.tokens) / max(shot.seconds, 1e-9) if shot else 0.0


def note(words: str) -> str:
    """A line of the page's own."""
    return _status(text(words))


def _status(markup: str) -> str:
    return f'<div class="sb-status" role="status">{markup}</div>'
