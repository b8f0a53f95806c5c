"""`specbeam run` and `specbeam reports`: execute notebooks, and make pages of their runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import options


def run(
    notebooks: Annotated[list[str], typer.Argument(help="Names in notebooks/, paths, or all.", metavar="NOTEBOOK...")],
    params: options.Params = None,
    parameter: options.Assignments = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's files; default: the notebook's.")] = None,
    timeout: options.Timeout = None,
    track: options.Track = None,
    out_dir: options.Runs = Path("build/runs"),
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Execute notebooks with papermill; exit code 1 when one of them is not accepted."""
    # Papermill and what it brings take a second to import, which `specbeam --help` should not cost.
    from specbeam.experiments import parameters
    from specbeam.experiments.runner import RunFailed, run_notebook
    from specbeam.reports.tracking import Tracking

    paths = parameters.find_notebooks(notebooks)
    overrides = parameters.parse_overrides(parameter or [])
    known = {path: parameters.read_parameters(path) for path in paths}
    parameters.check_values(overrides, known, "overrides")
    chosen = {path: {key: overrides[key] for key in overrides if key in known[path]} for path in paths}
    _check_names(paths, name)
    for path in paths:  # all of them before the first, which may run for minutes
        parameters.resolve_parameters(path, params, chosen[path])

    tracking = Tracking(track)
    console = Console(stderr=True)
    failed = 0
    for path in paths:
        console.print(f"[bold]{path.stem}[/bold]")
        try:
            record = run_notebook(path, params, chosen[path], out_dir, progress, name=name, timeout=timeout)
        except RunFailed as error:
            failed += 1
            console.print(f"[red]failed[/red]  {escape(error.record.error or '')}", highlight=False, soft_wrap=True)
            console.print(f"        kept as {error.notebook}", highlight=False, markup=False, soft_wrap=True)
        else:
            console.print(f"[green]ok[/green]      {record.seconds:.1f} s", highlight=False)
        if seen := tracking.log(out_dir, name or path.stem):
            console.print(f"        tracked: {seen}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        console.print(f"{failed} of {len(paths)} notebooks failed.")
    end(bool(failed), tracking.problems)


def end(failed: bool, untracked: list[str]) -> None:
    """Print why runs were not tracked, and exit: with 1 when a run failed, 3 when runs are done but not tracked."""
    for problem in untracked:
        print(f"specbeam: {problem}", file=sys.stderr)
    if failed or untracked:
        raise typer.Exit(1 if failed else 3)


def _check_names(paths: list[Path], name: str | None) -> None:
    if name is not None and len(paths) > 1:
        raise ValueError(f"--name {name} is for one notebook, and these are {len(paths)}.")
    stems: dict[str, Path] = {}
    for path in paths:
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise ValueError(
                f"Two runs of the same name: {other} and {path} would write the same files. "
                "Run them one by one, each with a --name of its own."
            )


def reports(
    runs_dir: options.Runs = Path("build/runs"),
    out_dir: Annotated[Path, typer.Option(help="Where the pages go.")] = Path("build/reports"),
) -> None:
    """Write a page for every executed notebook and an index of them, and print the index's path."""
    from specbeam.reports.write import headline, read_runs, write_reports

    index = write_reports(runs_dir, out_dir)
    table = Table(box=None, pad_edge=False)
    for column in ("notebook", "status", "key numbers"):
        table.add_column(column, overflow="fold")
    for item in read_runs(runs_dir):
        numbers = "  ".join(f"{name} {value}" for name, value in headline(item.record))
        table.add_row(escape(item.name), item.record.status, escape(numbers))
    Console(stderr=True).print(table)
    print(index)
