"""What a record file may hold, and how an older file becomes a current one.

`record_schema.json` is the JSON Schema; `specbeam records --schema` prints it for programs in other languages.
It says draft 2020-12; of the keywords that it uses, draft 7, the newest that fastjsonschema knows, means the same.

Versions of the format, in the field `schema`:

1. Files without the field. They hold the same fields otherwise.
2. `schema` says the version.
"""

import json
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
VERSION: int = SCHEMA["properties"]["schema"]["const"]


def upgrade(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a record in the current version of the format.

    Raises ValueError for a version that is newer than this package, or no version at all.
    """
    version = document.get("schema", 1)
    if type(version) is not int or version < 1:
        raise ValueError(f"record.schema must be a version number from 1 to {VERSION}, not {_short(version)}.")
    if version > VERSION:
        raise ValueError(f"it has schema {version}, and this specbeam reads up to {VERSION}: update specbeam.")
    for old in range(version, VERSION):
        document = _UPGRADES[old](document)
    return document


def check(document: dict[str, Any]) -> None:
    """Raises ValueError, naming the field, where a document of the current version breaks the schema."""
    try:
        _validator()(document, name_prefix="record")
    except fastjsonschema.JsonSchemaValueException as error:
        value = "" if isinstance(error.value, dict) else f", not {_short(error.value)}"
        raise ValueError(f"{error.message}{value}.") from None


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {  # version -> step to the next one
    1: lambda document: {"schema": 2, **document},
}


@cache
def _validator() -> Callable[..., Any]:
    return fastjsonschema.compile(SCHEMA)


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 60, placeholder=" …")
