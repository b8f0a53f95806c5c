"""Adapters of PEFT on disk: a few trained weights (`adapter_config.json` beside them) and the name of a base model.

PEFT is an optional package: it is imported where an adapter is loaded, and asked for by name where it is missing.
"""

import importlib
import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import file_exists, try_to_load_from_cache
from transformers.utils.peft_utils import find_adapter_config_file

from specbeam.engines.wrappers import refuse_adapter

INSTALL = "pip install peft"
CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def adapter_config(name: str, revision: str | None) -> dict[str, Any] | None:
    """The configuration of an adapter, by folder or hub id; None for a model that has all of its weights.

    A model that has an adapter beside its weights is one of the latter: transformers loads both.
    """
    if Path(name).is_dir():
        file = None if (Path(name) / "config.json").is_file() else find_adapter_config_file(name)
    else:
        file = find_adapter_config_file(name, revision=revision) if _on_hub(name, revision) else None
    return None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))


def _on_hub(name: str, revision: str | None) -> bool:
    """Whether a hub id is an adapter's, by the cache or by one question to the hub.

    Without a network it is none as far as can be told: loading the model will wait for the network, and say so.
    """
    if isinstance(try_to_load_from_cache(name, CONFIG, revision=revision), str):
        return True
    try:
        return file_exists(name, CONFIG, revision=revision)
    except Exception:  # whatever it is, the model's own loading meets it as well, and is the place to report it
        return False


def base_of(config: dict[str, Any], name: str, role: str) -> str:
    """The hub id or folder of the model that an adapter belongs to.

    Raises:
        ValueError: where the adapter names none.
    """
    base = config.get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{role} {name!r} is an adapter that names no base model; put base_model_name_or_path into its {CONFIG}"
        )
    return base


def require_peft(name: str, role: str) -> Any:
    """The package. Raises ValueError with the pip command where it is missing."""
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise ValueError(f"{role} {name!r} is an adapter, which needs the package peft; run: {INSTALL}") from error


def refuse_unservable_adapter(name: str, role: str, revision: str | None) -> None:
    """Raise a ValueError, before the base model is loaded, for an adapter that is not there or cannot be served."""
    peft = require_peft(name, role)
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in WEIGHTS):
        raise ValueError(f"{role} folder {name!r} has an {CONFIG}, but no {WEIGHTS[0]}; copy or download it again")
    refuse_adapter(name, peft.PeftConfig.from_pretrained(name, **_at(revision)))


def with_adapter(model: Any, name: str, role: str, revision: str | None) -> Any:
    """`model` with the adapter in it, as a PeftModel: `set_adapter` and `disable_adapter` switch it."""
    peft = require_peft(name, role)
    try:
        return peft.PeftModel.from_pretrained(model, name, **_at(revision))
    except (RuntimeError, KeyError) as error:
        first = " ".join(str(error).split())
        raise ValueError(
            f"{role} {name!r} does not fit its base model {model.config.name_or_path!r}: {first[:300]}. Put the "
            "adapter on the model yourself, and hand that in: Pair(target=…, draft=…, tokenizer=…)"
        ) from error


def has_tokenizer(folder: str | os.PathLike) -> bool:
    """Whether a tokenizer lies in the folder of an adapter; else that of the base model belongs to it."""
    return any((Path(folder) / file).is_file() for file in _TOKENIZER)


def _at(revision: str | None) -> dict[str, Any]:
    return {} if revision is None else {"revision": revision}
