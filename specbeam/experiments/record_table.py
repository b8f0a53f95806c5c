"""A folder of records as a table: its columns, filters, order, and files in CSV and Parquet.

A column is a path into the record: `status`, `parameters.num_beams`, `metrics.speed.beam`, `versions.torch`. The first
part may be left out: `num_beams` is looked up among the parameters, then the metrics.
"""

import csv
import difflib
import io
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from specbeam.files import write_atomic

from .records import RunRecord
from .yaml_values import parse_yaml

KEY_NUMBERS = 4
GROUPS = ("parameters", "metrics", "timings", "models", "versions")
FORMATS = (".csv", ".parquet")
_FILTER = re.compile(r"(?P<column>[^=!<>~]+?)\s*(?P<sign>!=|<=|>=|=|<|>|~)\s*(?P<value>.*)", re.DOTALL)
_ORDERINGS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """A record, its file's name without the suffix, and its values by column."""

    name: str
    record: RunRecord
    values: Mapping[str, Any]


def read_rows(runs_dir: str | Path) -> list[Row]:
    """Every record in a folder and the folders below it, by name; hidden ones are left out.

    A record that cannot be read is listed as failed, with the reason. Raises ValueError when there is no such folder.
    """
    runs_dir = Path(runs_dir)
    if not runs_dir.is_dir():
        raise ValueError(f"There is no folder {runs_dir} of runs: run a notebook first (make run-notebooks).")
    rows = []
    for path in sorted(runs_dir.rglob("*.json")):
        parts = path.relative_to(runs_dir).with_suffix("").parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        try:
            record = RunRecord.load(path)
        except ValueError as error:
            record = RunRecord(path.stem, status="failed", error=str(error))
        name = "/".join(parts)
        rows.append(Row(name, record, {"name": name, **flat(asdict(record))}))
    return rows


def column(rows: Sequence[Row], name: str) -> str:
    """The full name of a column. Raises ValueError, with the nearest names, when no record has it."""
    known = columns(rows)
    for candidate in (name, *(f"{group}.{name}" for group in GROUPS)):
        if candidate in known:
            return candidate
    short = {item.partition(".")[2] if item.partition(".")[0] in GROUPS else item: item for item in known}
    near = difflib.get_close_matches(name, [*short, *known], n=5, cutoff=0.5)
    inside = [item for item in short if item.startswith(f"{name}.") or short[item].startswith(f"{name}.")]
    offered = list(dict.fromkeys(inside + near))[:8] or [item for item in known if "." not in item]
    raise ValueError(f"No record has a column {name!r}; there are, among others: {', '.join(offered)}.")


def columns(rows: Iterable[Row]) -> list[str]:
    """Full names of all columns, in the order of the record's fields."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    fields = ["name", *asdict(RunRecord(""))]
    return sorted(names, key=lambda name: fields.index(name.partition(".")[0]))


def where(rows: Sequence[Row], conditions: Iterable[str]) -> list[Row]:
    """The rows that meet every condition, such as "num_beams=4", "status!=ok", "speed>=1.5" or "commit~0a1b".

    The value is read as YAML; `~` asks whether the column's text contains it. A row without the column has null there.
    Raises ValueError for another form and for an unknown column.
    """
    kept = list(rows)
    for condition in conditions:
        parts = _FILTER.fullmatch(condition.strip())
        if not parts:
            raise ValueError(
                f"A filter has the form column=value (or !=, <, <=, >, >=, ~ for contains), and {condition!r} has not."
            )
        name, test = column(rows, parts["column"]), _test(parts["sign"], parts["value"].strip(), condition)
        kept = [row for row in kept if test(row.values.get(name))]
    return kept


def ordered(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows by a column, or from the largest value down with a "-" before its name; empty values come last."""
    full = column(rows, name.removeprefix("-"))
    empty = [row for row in rows if row.values.get(full) is None]
    filled = [row for row in rows if row.values.get(full) is not None]
    return sorted(filled, key=lambda row: _rank(row.values[full]), reverse=name.startswith("-")) + empty


def differing_parameters(records: Iterable[RunRecord]) -> dict[str, list[str]]:
    """Notebook → names of the parameters that are not the same in all of its runs."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record.parameters:
            runs.setdefault(record.notebook, []).append(record.parameters)

    def differing(several: list[dict[str, Any]]) -> list[str]:
        names = dict.fromkeys(name for parameters in several for name in parameters)
        return [name for name in names if len({text(parameters.get(name)) for parameters in several}) > 1]

    return {notebook: differing(several) for notebook, several in runs.items()}


def headline(record: RunRecord) -> list[tuple[str, str]]:
    """The first few plain metrics as (name, value) text."""
    items = [item for item in record.metrics.items() if isinstance(item[1], (bool, int, float, str))]
    return [(name.replace("_", " "), text(value)) for name, value in items[:KEY_NUMBERS]]


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def export(rows: Sequence[Row], names: Sequence[str], path: str | Path) -> Path:
    """Write columns as .csv or .parquet, atomically; lists become JSON text.

    Raises ValueError for another suffix, and for Parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"A table is written as {' or '.join(FORMATS)}, and {str(path)!r} ends in neither.")
    cells = {name: [cell(row.values.get(name)) for row in rows] for name in names}
    return write_atomic(path, _csv(cells) if path.suffix == ".csv" else _parquet(cells))


def flat(value: Mapping[str, Any], sign: str = ".", prefix: str = "") -> dict[str, Any]:
    """What is in a dict of dicts by path, the names with a sign between them."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        inside = isinstance(item, Mapping)
        found |= flat(item, sign, f"{prefix}{name}{sign}") if inside else {f"{prefix}{name}": item}
    return found


def _test(sign: str, value: str, condition: str) -> Callable[[Any], bool]:
    try:
        wanted = parse_yaml(value, condition)
    except ValueError:
        wanted = value
    compare = _ORDERINGS.get(sign)
    if compare and (wanted is None or isinstance(wanted, bool | list | dict)):
        raise ValueError(f"{condition!r}: {sign} compares numbers or texts, and {value!r} is neither.")

    def test(found: Any) -> bool:
        if compare and is_number(found) and is_number(wanted):
            return compare(found, wanted)
        if compare:
            return isinstance(found, str) and compare(found, value)
        if sign == "~":
            return found is not None and value in text(found)
        equal = found == wanted and isinstance(found, bool) == isinstance(wanted, bool)  # 1 is no "true"
        return (equal or (found is not None and str(found) == value)) == (sign == "=")

    return test


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers come before texts, which cannot be compared with them."""
    return (0, value) if isinstance(value, bool | int | float) else (1, text(value))


def cell(value: Any) -> Any:
    """A value as a cell of a table: lists and dicts become JSON text."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _csv(cells: Mapping[str, list[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(cells)
    writer.writerows(zip(*cells.values(), strict=True))
    return buffer.getvalue()


def _parquet(cells: Mapping[str, list[Any]]) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ValueError('Parquet needs pyarrow: pip install "specbeam[parquet]" (or write a .csv).') from None
    arrays = {}
    for name, values in cells.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # values of several kinds, or a huge integer
            arrays[name] = pa.array([None if value is None else text(value) for value in values], pa.string())
    buffer = io.BytesIO()
    parquet.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()
