"""What a record says of the models and of a decode: names, sizes, number formats, texts and counts.

A name is one that means something on another machine: a model out of a cache has its own name there, not its folder's.
"""

import re
from typing import Any

from specbeam.models.embedded import NAME

_EMBEDDED = re.compile(rf"(?:.*[/\\])?{re.escape(NAME)}-[0-9a-f]{{12}}[/\\]?")
_HUB_CACHE = re.compile(r".*[/\\]models--(?P<id>[^/\\]+)(?:[/\\].*)?")  # as huggingface_hub lays its cache out
_COUNTS = (
    *("steps", "target_passes", "target_tokens", "draft_passes", "accepted", "steps_per_pass"),
    *("relaxed_steps", "tokens_per_second", "prefill_s", "decode_s", "draft_s", "target_s", "peak_kv_tokens"),
    "engine",
)


def describe(pair: Any) -> dict[str, Any]:
    """The fields `models`, `device` and `dtype` of a record; none where there is no target."""
    target, draft = getattr(pair, "target", None), getattr(pair, "draft", None)
    if target is None:
        return {}
    revisions = getattr(pair, "revisions", None) or {}
    models = {
        "pair": model_name(str(getattr(pair, "name", ""))),
        "target": _model(target, revisions.get("target")),
    }
    if hasattr(target, "get_output_embeddings"):
        from specbeam.engines.target import Target  # imports PyTorch, which is there already where a model is

        models["target"]["engine"] = Target.of(target).runtime
    if (tokenizer := getattr(pair, "tokenizer", None)) is not None:
        models["target"]["chat_template"] = getattr(tokenizer, "chat_template", None) is not None
    if draft is not None:
        small = getattr(draft, "model", None)
        about = _model(small, revisions.get("draft")) if hasattr(small, "num_parameters") else {}
        models["draft"] = {**about, **_model(draft, revisions.get("draft"))}
    return {
        "models": models,
        "device": str(target.device) if hasattr(target, "device") else None,
        "dtype": models["target"].get("dtype"),
    }


def describe_decode(method: str, decoded: Any) -> dict[str, Any]:
    """A `Decoded` as one object of plain values: texts, tokens, scores and counts, without its trace."""
    return {
        "method": method,
        "exact": decoded.exact,
        "text": list(decoded.text),
        "sequences": [list(map(int, tokens)) for tokens in decoded.sequences],
        "scores": None if decoded.scores is None else [float(score) for score in decoded.scores],
        "stats": {name: getattr(decoded.stats, name) for name in _COUNTS},
    }


def model_name(name: str) -> str:
    """A hub id or a folder, or two of them with " + " between; a folder inside a cache becomes its model's name."""
    return " + ".join(map(_short_name, name.split(" + ")))


def _short_name(name: str) -> str:
    if _EMBEDDED.fullmatch(name):
        return NAME
    if match := _HUB_CACHE.fullmatch(name):
        return match["id"].replace("--", "/", 1)
    return name


def _model(model: Any, revision: str | None) -> dict[str, Any]:
    from specbeam.compat import commit_hash  # imports PyTorch, which is there already where a model is

    config = getattr(model, "config", None)
    name = getattr(config, "name_or_path", None)
    described = {
        "class": type(model).__name__,
        "name": model_name(str(name)) if name else None,
        "revision": revision or commit_hash(config),
        "dtype": str(model.dtype).removeprefix("torch.") if getattr(model, "dtype", None) is not None else None,
        "parameters": int(model.num_parameters()) if hasattr(model, "num_parameters") else None,
    }
    return {key: value for key, value in described.items() if value is not None}
