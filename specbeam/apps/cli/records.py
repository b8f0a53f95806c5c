"""`specbeam records`: what the runs of a folder found, as a table, as JSON, or as a file for other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specbeam.experiments.record_schema import SCHEMA
from specbeam.experiments.record_table import (
    FORMATS,
    Row,
    column,
    columns,
    differing_parameters,
    export,
    headline,
    ordered,
    read_rows,
    text,
    where,
)

from . import options

PARAMETERS = 6  # columns of differing parameters, at most
PIPED_WIDTH = 2000  # no terminal, no line to fit: grep and a mail want each row whole


def records(
    runs_dir: options.Runs = Path("build/runs"),
    conditions: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COLUMN=VALUE", help="Keep these rows; also !=, <, <=, >, >=, ~ (contains)."),
    ] = None,
    chosen: Annotated[
        list[str] | None,
        typer.Option("--columns", metavar="NAME,NAME", help="Fields, parameters or metrics, such as speed.beam."),
    ] = None,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="Order by a column; -COLUMN: falling.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write all columns, or those chosen, as .csv or .parquet.")] = None,
    schema: Annotated[bool, typer.Option(help="Print the JSON schema of a record and nothing else.")] = False,
) -> None:
    """List what the runs of a folder found; filter, sort and export it."""
    if schema:
        print(json.dumps(SCHEMA, indent=2, ensure_ascii=False), flush=True)
        return
    if out is not None and out.suffix not in FORMATS:
        raise ValueError(f"out={str(out)!r} must end in {' or '.join(FORMATS)}.")
    everything = read_rows(runs_dir)
    if not everything:
        raise ValueError(f"There are no records in {runs_dir}: run a notebook first (make run-notebooks).")
    names = [name.strip() for part in chosen or [] for name in part.split(",") if name.strip()]
    full = [column(everything, name) for name in names]
    rows = where(ordered(everything, sort or "name"), conditions or [])
    if out is not None:
        export(rows, full or columns(everything), out)
        print(f"{out}: {len(rows)} records", file=sys.stderr)
    if as_json:
        print(json.dumps([_chosen(row, full) for row in rows], ensure_ascii=False), flush=True)
    elif out is None:
        same = _print_table(rows, full, names)
        count = f"{len(rows)} of {len(everything)}" if len(rows) < len(everything) else str(len(rows))
        print(", ".join([f"{count} record{'' if count == '1' else 's'}", *same]), file=sys.stderr)


def _chosen(row: Row, full: list[str]) -> dict[str, Any]:
    if full:
        return {name: row.values.get(name) for name in full}
    return {"name": row.name, **asdict(row.record)}


def _print_table(rows: Sequence[Row], full: list[str], names: list[str]) -> list[str]:
    """Print the table; return what a terminal has no room to say in every row: what all of them share."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    lines = [_line(row, full, names) for row in rows] if full else _overview(rows, console.is_terminal)
    if not lines:
        return []
    shared = []
    if not full and len(lines) > 1 and console.is_terminal:
        shared = [name for name in ("device", "commit") if len({line.get(name) for line in lines}) == 1]
        shared = [name for name in shared if name in lines[0]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown = [name for name in lines[0] if name not in shared]
    for name in shown:
        numbers = all(_is_number(line[name]) for line in lines)
        justify = "right" if numbers else "left"
        table.add_column(escape(name), overflow="fold", justify=justify, no_wrap=name in ("run", "commit", "seconds"))
    for line, row in zip(lines, rows, strict=True):
        table.add_row(*(escape(line[name]) for name in shown), style="red" if row.record.status == "failed" else None)
    console.print(table, highlight=False)
    sys.stdout.flush()
    return [f"{name} {lines[0][name]} in all" for name in shared]


def _line(row: Row, full: list[str], names: list[str]) -> dict[str, str]:
    return {name: _shown(row.values.get(column)) for name, column in zip(names, full, strict=True)}


def _overview(rows: Sequence[Row], lines_break: bool) -> list[dict[str, str]]:
    """One notebook's runs have columns of their own; runs of several share one for parameters and one for metrics."""
    between = "\n" if lines_break else ", "
    differing = differing_parameters(row.record for row in rows)
    one = len({row.record.notebook for row in rows}) == 1
    metrics = list(dict.fromkeys(name for row in rows for name, _ in headline(row.record)))[:5] if one else []
    lines = []
    for row in rows:
        record = row.record
        names = differing.get(record.notebook, [])[:PARAMETERS]
        parameters = {name: _shown(record.parameters.get(name)) for name in names}
        found = dict(headline(record))
        line = {"run": row.name, "status": record.status + (f": {record.error}" if record.error else "")}
        if one:
            line |= parameters | {name: found.get(name, "") for name in metrics}
        else:
            line["differing parameters"] = between.join(f"{name}={value}" for name, value in parameters.items())
            line["key numbers"] = between.join(f"{name} {value}" for name, value in found.items())
        line["commit"] = (record.commit or "")[:8] + ("+" if record.dirty else "")
        line["device"] = " ".join(filter(None, [record.device, record.dtype]))
        line["seconds"] = "" if record.seconds is None else f"{record.seconds:.1f}"
        lines.append(line)
    empty = {name for name in (lines[0] if lines else {}) if not any(line[name] for line in lines)}
    return [{name: value for name, value in line.items() if name not in empty} for line in lines]


def _shown(value: Any) -> str:
    return "" if value is None else " ".join(text(value).split())


def _is_number(value: str) -> bool:
    try:
        return bool(float(value or 0)) or True
    except ValueError:
        return False
