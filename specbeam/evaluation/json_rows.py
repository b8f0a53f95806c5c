"""The objects of a file of JSON, with the numbers of their lines: one a line (JSON lines), one list, or one object.

What a file leaves open, such as a key that occurs twice, is refused with its line and not decided here.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .file_text import read_text, shown

_SPACE = re.compile(r"[ \t\n\r]*")  # of JSON
_DIGITS = 640  # Python can be set to refuse longer integers


def json_rows(file: Path, encoding: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, or of one JSON list; blank lines are skipped. Raises ValueError."""
    text = read_text(file, encoding)
    begin = _after_spaces(text)
    found = _listed(file, text, begin) if text[begin : begin + 1] == "[" else _lines(file, text)
    for line, row in found:
        if not isinstance(row, dict):
            raise ValueError(f'{file}, line {line}: {shown(row)} is no JSON object like {{"prompt": "…"}}')
        yield line, row


def _lines(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """A value a line. A file that is one object in several lines is that object."""
    # str.splitlines would also split at characters that stand in texts, such as U+2028; \r is a space to JSON
    lines = text.split("\n") if "\n" in text else text.split("\r")
    first = True
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row, end = _decoder.raw_decode(line, _after_spaces(line))
        except json.JSONDecodeError as error:
            if first and (whole := _whole(text)) is not None:
                yield number, whole
                return
            raise _malformed(file, number, error.msg, error.pos + 1) from error
        except (RecursionError, _TwiceError) as error:
            raise _refused(file, number, error) from error
        rest = line[end:].strip(" \t\r")
        if rest == ",":
            raise ValueError(
                f"{file}, line {number}: a comma follows the object; remove the commas between lines, or put all "
                "objects into one list, [ … ]"
            )
        if rest:
            raise _malformed(file, number, "there is more after the value; write one object a line", end + 1)
        yield number, row
        first = False


def _whole(text: str) -> Any:
    """The one object that the text is, over several lines; None if it is not."""
    try:
        row, end = _decoder.raw_decode(text, _after_spaces(text))
    except (json.JSONDecodeError, RecursionError, _TwiceError):
        return None
    return None if text[end:].strip() else row


def _listed(file: Path, text: str, begin: int) -> Iterator[tuple[int, Any]]:
    """The values of the JSON list that begins at `begin`."""
    begins = [0, *(one.end() for one in re.finditer(r"\r\n|\r|\n", text))]

    def malformed(why: str, at: int) -> ValueError:
        line = bisect_right(begins, at)
        return _malformed(file, line, why, at - begins[line - 1] + 1)

    at, mark = _after_spaces(text, begin + 1), ","
    if text[at : at + 1] == "]":
        at, mark = at + 1, "]"
    while mark == ",":
        line = bisect_right(begins, at)
        if text[at : at + 1] == "]":
            raise malformed("the list ends after a comma; remove the comma", at)
        try:
            row, end = _decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise malformed(error.msg, error.pos) from error
        except (RecursionError, _TwiceError) as error:
            raise _refused(file, line, error) from error
        yield line, row
        end = _after_spaces(text, end)
        mark = text[end : end + 1]
        if mark not in (",", "]"):
            raise malformed("a comma or the end of the list, ], is missing", end)
        at = _after_spaces(text, end + 1)
    if text[at:].strip():
        raise malformed("there is more after the end of the list", at)


def _after_spaces(text: str, at: int = 0) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # it matches anything
    return found.end()


class _TwiceError(ValueError):
    """A key occurs twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _TwiceError(f"the key {shown(twice)} occurs twice in one object; keep one")
    return row


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _DIGITS else float(digits)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)


def _malformed(file: Path, line: int, why: str, column: int) -> ValueError:
    if why.startswith("Invalid control character"):
        why = "a control character within a text; write it as an escape, such as \\n, \\t or \\u000c"
    if why.startswith(("Expecting property name", "Illegal trailing comma")):
        why = "a key in double quotes is missing; quote the key, or remove the comma in front of the end"
    return ValueError(f"{file}, line {line}: malformed JSON ({why}, column {column})")


def _refused(file: Path, line: int, error: RecursionError | _TwiceError) -> ValueError:
    why = (
        str(error)
        if isinstance(error, _TwiceError)
        else "lists or objects are nested too deeply; leave out the key that holds them"
    )
    return ValueError(f"{file}, line {line}: {why}")
