"""What a record file may hold, as a JSON schema (draft 2020-12), and how an older file becomes a current one.

Knows JSON alone: nothing about notebooks, nor about the class that records are read into. `specbeam records --schema`
prints the schema for programs in other languages.

Versions of the format, in the field `schema`:

1. Files without the field. They hold the same fields otherwise.
2. `schema` says the version.
"""

import textwrap
from collections.abc import Callable
from typing import Any

VERSION = 2
STATUSES = ("ok", "failed")
_KINDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def _described(kind: str | list[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **more}


_SAMPLES = _described("array", "Texts that decoders wrote: prompt, method and text of each.", items={"type": "object"})

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "specbeam run record",
    "description": "One run of a notebook or benchmark: what was run, on what, and what came out.",
    "type": "object",
    "required": ["schema", "notebook", "status"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": VERSION, "description": "Version of this format."},
        "notebook": _described("string", "Name of the notebook, without .ipynb.", minLength=1),
        "status": {"enum": list(STATUSES), "description": "Whether the run was accepted."},
        "error": _described(["string", "null"], "Why the run failed."),
        "parameters": _described("object", "Every parameter of the run with its resolved value."),
        "metrics": _described(
            "object",
            "Results, most important first: the first plain values are shown as the key numbers.",
            properties={"samples": _SAMPLES},
        ),
        "timings": _described(
            "object",
            "Repeated measurements by name, in the unit that the name ends in.",
            additionalProperties=_described("object", "Median, minimum, maximum and count, or other statistics."),
        ),
        "warmups": _described(["integer", "null"], "Unmeasured calls before each timing.", minimum=0),
        "repeats": _described(["integer", "null"], "Measured calls of each timing.", minimum=0),
        "seeds": _described("array", "Seeds of the random number generators.", items={"type": "integer"}),
        "models": _described(
            "object",
            "Target and draft: class, name, revision, dtype, parameters, and whether there is a chat template.",
        ),
        "device": _described(["string", "null"], "Device of the target, as PyTorch names it."),
        "dtype": _described(["string", "null"], "Number format of the target's weights."),
        "threads": _described(["integer", "null"], "CPU threads of PyTorch.", minimum=1),
        "versions": _described("object", "Package → version.", additionalProperties={"type": "string"}),
        "machine": _described("string", "System, processor type, cores, GPU."),
        "commit": _described(["string", "null"], "Git commit of the working tree."),
        "dirty": _described(["boolean", "null"], "Whether the working tree had changes that are not committed."),
        "notebook_sha256": _described(["string", "null"], "Hash of the notebook's cells without outputs."),
        "finished": _described("string", "When the record was made, ISO 8601."),
        "seconds": _described(["number", "null"], "Duration of the whole run.", minimum=0),
    },
}


def _add_version(document: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 2, **document}


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _add_version}  # version → to the next one


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a record in the current version of the format.

    Raises ValueError for a version that is newer than this package, or no version at all.
    """
    version = document.get("schema", 1)
    if type(version) is not int or version < 1:
        raise ValueError(f"'schema' must be a version number from 1 to {VERSION}, it is {_short(version)}.")
    if version > VERSION:
        raise ValueError(
            f"it is of schema {version}, and this specbeam reads up to {VERSION}: update specbeam to read it."
        )
    for old in range(version, VERSION):
        document = _UPGRADES[old](document)
    return document


def check(document: dict[str, Any]) -> None:
    """Raises ValueError, naming the field, where a document of the current version breaks the schema.

    Only the schema's own keywords are known here: importing the package jsonschema may take longer than reading a
    thousand records. The tests compare the two.
    """
    if fault := _fault(document, SCHEMA, ""):
        raise ValueError(fault)


def _fault(value: Any, schema: dict[str, Any], where: str) -> str | None:
    """What is wrong first: with the value itself, else with one inside."""
    if fault := _own_fault(value, schema, where):
        return fault
    if isinstance(value, list):
        inside = [(item, schema.get("items", {}), f"{where}.{index}") for index, item in enumerate(value)]
    elif isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        inside = [(item, known.get(name, other), f"{where}.{name}") for name, item in value.items()]
    else:
        return None
    return next(filter(None, (_fault(item, rule, place.lstrip(".")) for item, rule, place in inside)), None)


def _own_fault(value: Any, schema: dict[str, Any], where: str) -> str | None:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{where!r} must be {' or '.join(_KINDS[kind] for kind in kinds)}, it is {_short(value)}."
    if "enum" in schema and value not in schema["enum"]:
        return f"{where!r} must be one of {', '.join(schema['enum'])}, it is {_short(value)}."
    if "const" in schema and value != schema["const"]:
        return f"{where!r} must be {schema['const']}, it is {_short(value)}."
    if "minLength" in schema and isinstance(value, str) and len(value) < schema["minLength"]:
        return f"{where!r} must not be empty."
    if "minimum" in schema and _is(value, "number") and value < schema["minimum"]:
        return f"{where!r} must be at least {schema['minimum']}, it is {_short(value)}."
    if isinstance(value, dict):
        if missing := [name for name in schema.get("required", []) if name not in value]:
            return f"the field {missing[0]!r} is missing."
        if schema.get("additionalProperties") is False and (unknown := value.keys() - schema["properties"].keys()):
            return f"unknown field {min(unknown)!r}: the file is of another version of specbeam, or no record."
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, _TYPES[kind])


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 60, placeholder=" …")
