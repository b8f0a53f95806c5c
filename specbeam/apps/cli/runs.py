"""`specbeam run` and `specbeam reports`: execute notebooks, and make pages of their runs."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from . import options, output


def run(
    notebooks: Annotated[list[str], typer.Argument(help="Names in notebooks/, paths, or all.", metavar="NOTEBOOK...")],
    params: options.Params = None,
    parameter: options.Assignments = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's files; default: the notebook's.")] = None,
    timeout: options.Timeout = None,
    track: options.Track = None,
    out_dir: options.Runs = Path("build/runs"),
    reports_dir: Annotated[
        Path | None, typer.Option("--reports", help="Keep pages and their index there up to date meanwhile.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Begin at the first one whose run is not there, with these parameters.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Run all of them, in spite of --resume.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Execute notebooks with papermill; exit code 1 when one of them is not accepted.

    Ctrl-C or a SIGTERM ends the run that is on its way, which leaves a record that says so, and all that would follow.
    """
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
    # all of them before the first, which may run for minutes
    resolved = [parameters.resolve_parameters(path, params, chosen[path]) for path in paths]

    tracking = Tracking(track)
    console = output.console(stderr=True)
    failed, pages = 0, Pages(reports_dir, out_dir, name, paths)
    begin = _done_before(paths, resolved, name, out_dir) if resume and not replace else 0
    if index := pages.update(begin):
        console.print(f"The index of the reports grows while they run: {index}", highlight=False, soft_wrap=True)
    if begin:
        done = f"{begin} of {len(paths)} notebooks ran before with these parameters and sources"
        console.print(f"{done}; --replace runs them again.", highlight=False)
    for place, path in [*enumerate(paths)][begin:]:
        console.print(f"[bold]{path.stem}[/bold]  {place + 1} of {len(paths)}", highlight=False)
        try:
            with _terminable():
                record = run_notebook(path, params, chosen[path], out_dir, progress, name=name, timeout=timeout)
        except RunFailed as error:
            failed += 1
            console.print(f"[red]failed[/red]  {escape(error.record.error or '')}", highlight=False, soft_wrap=True)
            console.print(f"        kept as {error.notebook}", highlight=False, markup=False, soft_wrap=True)
        except KeyboardInterrupt as interrupt:
            pages.update(done=len(paths))
            console.print(f"interrupted: {path.stem} is kept as failed, and the same command runs it again.")
            raise typer.Exit(143 if interrupt.args else 130) from None
        else:
            console.print(f"[green]ok[/green]      {record.seconds:.1f} s", highlight=False)
        pages.update(done=place + 1)
        if seen := tracking.log(out_dir, name or path.stem):
            console.print(f"        tracked: {seen}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        console.print(f"{failed} of {len(paths)} notebooks failed.")
    end(bool(failed), tracking.problems)


def _done_before(paths: list[Path], resolved: list[dict[str, Any]], name: str | None, out_dir: Path) -> int:
    """How many of the first runs need not be repeated. One that reads the others' records runs after all of them."""
    from specbeam.experiments.records import plain
    from specbeam.experiments.sweep import SKIPPED, Point, state_on_disk

    for place, (path, chosen) in enumerate(zip(paths, resolved, strict=True)):
        point = Point(name or path.stem, {}, plain(chosen, "parameters"))
        try:
            if state_on_disk(path, point, out_dir).state != SKIPPED:
                return place
        except ValueError:  # a run with other parameters, which is repeated with these
            return place
    return len(paths)


class Pages:
    """The HTML pages of runs, and an index that says which notebooks are yet to run; nothing without a folder."""

    def __init__(self, folder: Path | None, runs_dir: Path, name: str | None, notebooks: list[Path]):
        self._folder, self._runs_dir = folder, runs_dir
        self._names = [name or path.stem for path in notebooks]
        self._titles = [title(path) for path in notebooks] if folder else []

    def update(self, done: int = 0) -> Path | None:
        """The first so many have run. Returns the path of the index."""
        if self._folder is None:
            return None
        from specbeam.reports.write import write_reports

        self._runs_dir.mkdir(parents=True, exist_ok=True)
        coming = list(zip(self._names, self._titles, strict=True))[done:]
        changed = self._names[max(done - 1, 0) : done] if coming else None
        return write_reports(self._runs_dir, self._folder, changed, coming)


def title(notebook: Path) -> str:
    """What the first heading of a notebook says."""
    from specbeam.experiments.parameters import read_notebook

    text = "\n".join(cell.source for cell in read_notebook(notebook).cells if cell.cell_type == "markdown")
    return next((line[2:] for line in text.splitlines() if line.startswith("# ")), notebook.stem)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM ends a run as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("by SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
    output.console(stderr=True).print(table)
    print(index)
