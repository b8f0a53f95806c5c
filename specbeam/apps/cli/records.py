"""`specbeam records`: the results of a folder of runs, as a table, as JSON, or as a file for other tools."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
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

from . import options, output

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
    """List the results of a folder of runs; filter, sort and export them."""
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
        whole = [{"name": row.name, **asdict(row.record)} for row in rows]
        parts = [{name: row.values.get(name) for name in full} for row in rows]
        print(json.dumps(parts if full else whole, ensure_ascii=not output.encodes_everything()), flush=True)
    elif out is None:
        same = _print_table(rows, full, names)
        count = f"{len(rows)} of {len(everything)}" if len(rows) < len(everything) else str(len(rows))
        print(", ".join([f"{count} record{'' if count == '1' else 's'}", *same]), file=sys.stderr)


def _print_table(rows: Sequence[Row], full: list[str], names: list[str]) -> list[str]:
    """Print the table; return values that all rows share, for which a terminal has no room in every row."""
    if not rows:
        return []
    console, shared = output.console(), list[str]()
    if not console.is_terminal:
        console = output.console(width=PIPED_WIDTH)
    if full:
        wanted = list(zip(names, full, strict=True))
        lines = [{name: _shown(row.values.get(column)) for name, column in wanted} for row in rows]
    else:
        lines = _overview(rows, console.is_terminal)
        if console.is_terminal and len(lines) > 1:
            both = [name for name in ("device", "commit") if name in lines[0]]
            shared = [name for name in both if len({line[name] for line in lines}) == 1]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown = [name for name in lines[0] if name not in shared]
    for name in shown:
        justify = "right" if all(_is_number(line[name]) for line in lines) else "left"
        table.add_column(escape(name), overflow="fold", justify=justify, no_wrap=name in ("run", "commit", "seconds"))
    for line, row in zip(lines, rows, strict=True):
        table.add_row(*(escape(line[name]) for name in shown), style="red" if row.record.status == "failed" else None)
    console.print(table, highlight=False)
    sys.stdout.flush()
    return [f"{name} {lines[0][name]} in all" for name in shared]


def _overview(rows: Sequence[Row], in_lines: bool) -> list[dict[str, str]]:
    """One notebook's runs have columns of their own; runs of several share one for parameters and one for metrics."""
    between = "\n" if in_lines else ", "
    differing = differing_parameters(row.record for row in rows)
    one = len({row.record.notebook for row in rows}) == 1
    metrics = list(dict.fromkeys(name for row in rows for name, _ in headline(row.record)))[:5] if one else []
    lines = []
    for row in rows:
        record = row.record
        names = differing.get(record.notebook, [])[:PARAMETERS]
        parameters = {name: _shown(record.parameters.get(name)) for name in names}
        numbers = dict(headline(record))
        line = {"run": row.name, "status": record.status + (f": {record.error}" if record.error else "")}
        if one:
            line |= parameters | {name: numbers.get(name, "") for name in metrics}
        else:
            line["differing parameters"] = between.join(f"{name}={value}" for name, value in parameters.items())
            line["key numbers"] = between.join(f"{name} {value}" for name, value in numbers.items())
        line["commit"] = (record.commit or "")[:8] + ("+" if record.dirty else "")
        line["device"] = " ".join(filter(None, [record.device, record.dtype]))
        line["seconds"] = "" if record.seconds is None else f"{record.seconds:.1f}"
        lines.append(line)
    filled = [name for name in lines[0] if any(line[name] for line in lines)]
    return [{name: line[name] for name in filled} for line in lines]


def _shown(value: Any) -> str:
    return "" if value is None else " ".join(text(value).split())


def _is_number(value: str) -> bool:
    with contextlib.suppress(ValueError):
        float(value or 0)
        return True
    return False
