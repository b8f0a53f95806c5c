"""The markup of the web page, from the templates beside it, and the record of a run.

Plain data in, HTML out; knows no Gradio. What visitors and models wrote is escaped. `STYLE` is the page's style sheet,
on Gradio's own colour variables.
"""

from __future__ import annotations

import base64
import json
import ntpath
from collections.abc import Mapping
from typing import Any

from specbeam.decoding.decoders import Decoded
from specbeam.decoding.live import LiveState
from specbeam.decoding.methods import BASELINES, in_common
from specbeam.experiments.record_models import describe, describe_decode
from specbeam.experiments.records import plain
from specbeam.models.load import Pair
from specbeam.pictures.drawing import counted, templates
from specbeam.pictures.token_text import token_texts

from .settings import METHODS, Settings

TEMPLATES = templates("specbeam.apps.demo")
TEMPLATES.globals |= {"counted": counted, "METHODS": METHODS}
PIECES: Any = TEMPLATES.get_template("pieces.html.j2").module  # its macros are functions
STYLE = TEMPLATES.get_template("style.css").render()


def race(now: LiveState) -> str:
    """A card for each method, and whether the speculative ones found what their plain search finds."""
    fastest = max(_speed(now, name) for name in METHODS)
    return PIECES.race(now, [_card(name, now, fastest) for name in METHODS])


def links(asked: Settings, document: Mapping[str, Any]) -> str:
    """The link that repeats a run, and its record as a download."""
    return PIECES.links(asked.query(), asked.method, base64.b64encode(json.dumps(document).encode()).decode())


def equality(one: Decoded, plain: Decoded, name: str) -> str:
    """Whether two decodes gave the same tokens, in words; one that was stopped is compared as far as it came."""
    a, b = one.sequences[0], plain.sequences[0]
    if a == b:
        return f"✓ the same {counted(len(a), 'token')} as {name}"
    same = in_common(a, b)
    if same == min(len(a), len(b)):
        return f"the same {counted(same, 'token')} as {name} as far as both came"
    return f"≠ {name} from token {same + 1} on"


def shown(name: str) -> str:
    """The name of a pair for visitors, whom the server's folders do not concern: of a folder only the last part."""
    return " + ".join(_last(one) if _is_path(one) else one for one in name.split(" + "))


def models(pair: Pair) -> dict[str, Any]:
    """What records say of the models, with names as visitors see them."""
    found = describe(pair)
    for role, about in found.get("models", {}).items():
        if isinstance(about, dict) and "name" in about:
            about["name"] = shown(about["name"])
        elif isinstance(about, str):
            found["models"][role] = shown(about)
    return found


def record(pair: Pair, asked: Settings, results: Mapping[str, Decoded], about: Mapping[str, Any]) -> dict[str, Any]:
    """A run as JSON: what was asked for, of which models, and what came of it, traces with their texts included.

    `about` are fields that all runs of this server share. Values that JSON has no word for are null.
    """
    found: dict[str, Any] = {"kind": "specbeam demo run", **about, **models(pair)}
    found |= {"revisions": pair.revisions, "parameters": {**vars(asked), "query": asked.query()}}
    found["results"] = {}
    for method, decoded in results.items():
        one = describe_decode(method, decoded)
        if decoded.trace:
            one["trace"] = decoded.trace[0].to_json(token_texts(decoded.trace[0], pair.tokenizer))
        found["results"][method] = one
    return plain(found, "record", nan_as_null=True)


def _is_path(name: str) -> bool:
    return ntpath.isabs(name) or bool(ntpath.splitdrive(name)[0]) or name.startswith((".", "~"))


def _last(path: str) -> str:
    return ntpath.basename(path.rstrip("/\\")) or path


def _card(name: str, now: LiveState, fastest: float) -> dict[str, Any]:
    baseline = BASELINES.get(name, "")
    both = {name, baseline} <= now.results.keys()
    return {
        "name": name,
        "shot": now.shots.get(name),
        "result": now.results.get(name),
        "speed": (speed := _speed(now, name)),
        "percent": 100 * speed / fastest if fastest else 0,
        "same": equality(now.results[name], now.results[baseline], METHODS[baseline]) if both else "",
    }


def _speed(now: LiveState, name: str) -> float:
    """Tokens a second, the prompt's pass included."""
    if name in now.results:
        return now.results[name].stats.tokens_per_second
    shot = now.shots.get(name)
    return len(shot.tokens) / max(shot.seconds, 1e-9) if shot else 0.0
