"""YAML as its version 1.2 reads it, and the values that a record can hold.

PyYAML reads YAML 1.1, where 010 is 8, 1:30 is 90 and yes is true. Here the core schema of 1.2.2 (its section 10.3.2)
decides: 010 is 10, and whatever is no number, true, false or null is text. Only dates stay dates, to be refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

from specbeam.text import check_text, is_whole

_TAG = "tag:yaml.org,2002:"
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_KINDS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "timestamp": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "merge": r"<<",
}


class _Loader(yaml.SafeLoader):
    """Refuses what JSON cannot hold: other types, keys that are no text, and a key that comes twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: build
        for tag, build in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in ("null", "bool", "float", "seq", "map", "timestamp")
    }

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        text = self.construct_scalar(node)
        with contextlib.suppress(UnicodeDecodeError):  # JSON writes a character beyond 16 bits as two escapes
            return text if is_whole(text) else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != f"{_TAG}merge"]
        for place, key in enumerate(own):
            if type(key) is not str:
                raise ConstructorError(None, None, f"the key {key!r} is no text: write it in quotes", node.start_mark)
            if key in own[:place]:
                raise ConstructorError(None, None, f"the key {key!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


for _kind, _pattern in _KINDS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_pattern})$"), None)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_whole_number)
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)


def parse_yaml(text: str, where: str) -> Any:
    """Plain YAML data. Raises ValueError naming the place (`where`) of malformed text, and of what JSON cannot hold."""
    if ends := [letter for letter in "\x85\u2028\u2029" if letter in text]:  # PyYAML would make spaces of them
        escape = rf"\u{ord(ends[0]):04x}"
        raise ValueError(
            f"{where} is not YAML that can be read: it holds a bare {escape}; write {escape} in double quotes"
        )
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not YAML that can be read: {' '.join(str(error).split())}") from error


def yaml_text(value: Any) -> str:
    """One line that `parse_yaml` reads as `value`: JSON with escapes for the characters that YAML takes for others."""
    return _UNSAFE.sub(lambda found: rf"\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def check_value(value: Any, what: str) -> None:
    """Raises ValueError, saying `what` it is, for a value that a record, which is JSON, cannot hold."""
    try:
        _check(value, what)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply, or holds itself") from None


def _check(value: Any, what: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"{what} has the key {key!r}, and keys must be text")
            check_text(key, f"a key of {what}")
            _check(item, f"{what}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _check(item, f"{what}[{place}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{what} is {value}, and must be finite")
    elif isinstance(value, str):
        check_text(value, what)
    elif value is not None and not isinstance(value, int):
        kind = type(value).__name__
        raise ValueError(f"{what} is a {kind}: use numbers, text, lists and mappings of them; text may need quotes")
