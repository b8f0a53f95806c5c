"""What a record says of the models that decoded: their names, sizes and number formats, and whether they know chat.

A name is one that means something on another machine: a model out of a cache has its own name there, not its folder's.
"""

import re
from typing import Any

from specbeam.models.embedded import NAME

_EMBEDDED = re.compile(rf"(?:.*[/\\])?{re.escape(NAME)}-[0-9a-f]{{12}}[/\\]?")
_HUB_CACHE = re.compile(r".*[/\\]models--(?P<id>[^/\\]+)(?:[/\\].*)?")  # as huggingface_hub lays its cache out


def describe(pair: Any) -> dict[str, Any]:
    """The fields `models`, `device` and `dtype` of a record; none where there is no target."""
    target = getattr(pair, "target", None)
    if target is None:
        return {}
    revisions = getattr(pair, "revisions", None) or {}
    draft = getattr(pair, "draft", None)
    models: dict[str, Any] = {
        "pair": model_name(str(getattr(pair, "name", ""))),
        "target": _model(target, revisions.get("target")),
    }
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


def model_name(name: str) -> str:
    """A hub id or a folder, or two of them with " + " between; a folder inside a cache becomes its model's name."""
    return " + ".join(map(_short_name, name.split(" + ")))


def _short_name(name: str) -> str:
    if _EMBEDDED.fullmatch(name):
        return NAME
    if found := _HUB_CACHE.fullmatch(name):
        return found["id"].replace("--", "/", 1)
    return name


def _model(model: Any, revision: str | None) -> dict[str, Any]:
    config = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", None)
    described = {
        "class": type(model).__name__,
        "name": model_name(str(name)) if name else None,
        "revision": revision or getattr(config, "_commit_hash", None),
        "dtype": str(model.dtype).removeprefix("torch.") if getattr(model, "dtype", None) is not None else None,
        "parameters": int(model.num_parameters()) if hasattr(model, "num_parameters") else None,
    }
    return {key: value for key, value in described.items() if value is not None}
