"""The rows of a table with a header (CSV, TSV), with the numbers of the lines on which they begin.

What a table leaves open, such as a column that occurs twice or a cell "nan", is refused with its line and not decided
here.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .file_text import format_of, read_text, shown

FIELDS = ("prompt", "reference")  # the columns that are read
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# what pandas, R and databases write for a value that is missing, and a person for a word
_MISSING = ("nan", "NaN", "NaT", "NA", "<NA>", "#N/A", "null", "NULL", "None")
_LINE_END = r"\r+\n|\r|\n"
_limit = threading.Lock()


def table_rows(file: Path, encoding: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table by column, with the line on which each begins. Names of `FIELDS` in lower case.

    Cells are divided by whichever of `DELIMITERS` makes the header name a prompt, or by what a first line `sep=;` says.

    Raises ValueError for a malformed table, a column that is read and occurs twice, and cells that may be missing.
    """
    text = read_text(file, encoding)
    if (at := text.find("\0")) >= 0:
        line = len(re.findall(_LINE_END, text[:at])) + 1
        raise ValueError(f"{file}, line {line}: there is a NUL character, which no text holds; save the file as UTF-8")
    first = re.search(_LINE_END, text)
    end = "\r" if first and first.group() == "\r" else "\n"  # \r in files of old Macs, where \n divides lines of a cell
    lines = [line + end for line in text.removesuffix(end).split(end)] if text else []
    named = re.fullmatch(r'"?sep=([^\r\n]*?)"?[\r\n]*', lines[0], re.IGNORECASE) if lines else None
    if named and named.group(1) not in DELIMITERS:
        known = ", ".join(DELIMITERS.values())
        raise ValueError(
            f"{file}, line 1: sep={named.group(1)} is no delimiter that is read; cells are divided by {known}"
        )
    skipped = 1 if named else 0
    delimiter = named.group(1) if named else _delimiter(lines, "," if format_of(file) == ".csv" else "\t")
    rows = _parsed(file, lines[skipped:], delimiter, skipped)
    if not rows:
        return
    header = _header(file, *rows[0], delimiter)
    for line, row in rows[1:]:
        if len(row) > len(header):
            raise ValueError(
                f"{file}, line {line}: {len(row)} cells where the header has {len(header)}; "
                f"put a text that holds {DELIMITERS[delimiter]} in double quotes"
            )
        if len(row) > 1 and not any(cell.strip() for cell in row):
            continue
        if [_name(cell) for cell in row] == header:
            raise ValueError(f"{file}, line {line}: the header is repeated here; remove this line")
        cells = dict(zip(header, row, strict=False))  # a short row lacks its last columns
        for column in FIELDS:
            _check_cell(cells.get(column), text, f"{file}, line {line}: the {column}")
        yield line, cells


def _check_cell(cell: str | None, text: str, what: str) -> None:
    if cell is None:
        return
    if cell.strip() in _MISSING:
        raise ValueError(
            f"{what} {cell!r} may be a missing value or a text; leave the cell empty, or write the text in JSON lines"
        )
    written = '"' + cell.replace('"', '""') + '"'  # if these quotes belong to the text
    if re.fullmatch(r'\s+".*"\s*', cell, re.DOTALL) and written not in text:
        raise ValueError(f"{what} {shown(cell)} has a space in front of its quotes; remove the space")


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """The delimiter that makes the header name a field; the usual one if none does, or if there is one column."""
    for delimiter in (usual, *DELIMITERS):
        try:
            header = next(filter(None, csv.reader(lines, delimiter=delimiter)), [])
        except csv.Error:  # which is reported when the table is read
            continue
        if len(header) > 1 and set(map(_name, header)) & set(FIELDS):
            return delimiter
    return usual


def _name(cell: str) -> str:
    name = cell.lstrip("\ufeff").strip()
    return name.casefold() if name.casefold() in FIELDS else name


def _header(file: Path, line: int, row: Sequence[str], delimiter: str) -> list[str]:
    header = [_name(cell) for cell in row]
    for name in FIELDS:
        if header.count(name) > 1:
            raise ValueError(f"{file}, line {line}: the column {name!r} occurs twice; keep one, or rename the other")
    for name in header:
        parts = {_name(part) for part in re.split(r"[,;|\t]", name)}
        if name not in FIELDS and len(header) > 1 and parts & set(FIELDS):
            raise ValueError(
                f"{file}, line {line}: the header holds {shown(name)}, so it is divided by more than "
                f"{DELIMITERS[delimiter]}; use one delimiter"
            )
    return header


def _parsed(file: Path, lines: Sequence[str], delimiter: str, skipped: int) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, with the lines on which they begin."""
    found = []
    with _limit:  # it is one for the process
        before = csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines)) + 1))
        try:
            begin, rows = 1, csv.reader(iter(lines), delimiter=delimiter, strict=True)
            for row in rows:
                if row:
                    found.append((begin + skipped, row))
                begin = rows.line_num + 1
        except csv.Error as error:
            why = "a line break outside of quotes" if "new-line" in str(error) else error
            raise ValueError(
                f"{file}, line {begin + skipped}: malformed CSV ({why}); put a cell with quotes or line breaks in "
                "double quotes, and double those within"
            ) from error
        finally:
            csv.field_size_limit(before)
    return found
