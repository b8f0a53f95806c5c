"""`specbeam sweep`: a grid of runs, with a table of their states."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from . import options, output
from .runs import end

if TYPE_CHECKING:
    from specbeam.experiments.sweep import Change, Point

COLOURS = {"waiting": "dim", "running": "bold cyan", "done": "green", "skipped": "dim green", "failed": "bold red"}


def sweep(
    notebook: Annotated[str, typer.Argument(help="Name in notebooks/, or a path.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE,VALUE", help="A parameter and its values, as YAML; lists as [2,4],[8]."),
    ] = None,
    params: options.Params = None,
    parameter: options.Assignments = None,
    name: Annotated[str | None, typer.Option(help="What names of runs begin with; default: the notebook's.")] = None,
    timeout: options.Timeout = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on Dask workers: an address like tcp://host:8786, or local.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Workers of --scheduler local, which disturb timings.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Run every point again, finished ones too.")] = False,
    track: options.Track = None,
    out_dir: options.Runs = Path("build/runs"),
    reports_dir: Annotated[
        Path | None, typer.Option(help="Where the pages go; default: reports, beside the runs.")
    ] = None,
) -> None:
    """Run a notebook at every point of a grid, one after the other; points that are done already are skipped.

    Start an interrupted sweep again with the same command. Exit code 1 when a point failed.
    """
    # Papermill and what it brings take a second to import, which `specbeam --help` should not cost.
    from specbeam.experiments.parameters import find_notebooks, parse_overrides
    from specbeam.experiments.sweep import plan_sweep, run_here, run_sweep
    from specbeam.reports.tracking import Tracking
    from specbeam.reports.write import write_reports

    paths = find_notebooks([notebook])
    if len(paths) != 1:
        raise ValueError("A sweep is of one notebook: name it.")
    path = paths[0]
    if timeout is not None and not timeout > 0:
        raise ValueError(f"--timeout {timeout:g} must be above 0 seconds.")
    if workers is not None and scheduler is None:
        raise ValueError("--workers goes with --scheduler local; without it runs are serial, so that timings count.")
    points = plan_sweep(path, grid or [], params, parse_overrides(parameter or []), name)

    tracking = Tracking(track)
    board, console = Board(points), output.console(stderr=True)
    try:
        with ExitStack() as stack:
            execute = run_here(path, out_dir, timeout)
            if scheduler is not None:
                from specbeam.experiments.cluster import connected, run_on_cluster

                client = stack.enter_context(connected(scheduler, workers))
                execute = run_on_cluster(path, out_dir, client, timeout)
            report = stack.enter_context(shown(board, console))
            run_sweep(path, points, out_dir, execute, tracking.following(report, out_dir), replace)
    except KeyboardInterrupt:
        console.print(f"{board.counts()}. Interrupted: the same command goes on from here.", highlight=False)
        raise typer.Exit(130) from None
    if not console.is_terminal:  # the table's last state says it
        print(board.counts(), file=sys.stderr)
    failed = [name for name, state in board.states.items() if state == "failed"]
    for item in failed:
        console.print(f"[red]failed[/red]  {item}: {escape(board.remarks[item])}", highlight=False, soft_wrap=True)
    try:
        print(write_reports(out_dir, reports_dir or out_dir.resolve().parent / "reports"))
    except ValueError as error:  # of another run in the folder; the sweep itself is done
        print(f"specbeam: the pages are not complete: {error}", file=sys.stderr)
    end(bool(failed), tracking.problems)


class Board:
    """The states of a sweep's points, as a table and as lines, with an estimate of the time left."""

    def __init__(self, points: Sequence[Point]):
        self.points = points
        self.states = {point.name: "waiting" for point in points}
        self.remarks = {point.name: "" for point in points}
        self.seconds: dict[str, float] = {}
        self.begun: dict[str, float] = {}

    def update(self, change: Change) -> None:
        name = change.point.name
        self.states[name], self.remarks[name] = change.state, change.remark
        if change.state == "running":
            self.begun[name] = time.monotonic()
        if change.seconds is not None:
            self.seconds[name] = change.seconds

    def seconds_left(self) -> float | None:
        """An estimate from the mean of the finished runs, those of an earlier sweep included; None without any."""
        known = [self.seconds[name] for name in self.seconds if self.states[name] in ("done", "skipped")]
        if not known:
            return None
        mean = statistics.fmean(known)
        running = [name for name, state in self.states.items() if state == "running"]
        rest = [max(0.0, mean - self._elapsed(name)) for name in running]
        return (sum(rest) + mean * list(self.states.values()).count("waiting")) / max(1, len(running))

    def counts(self) -> str:
        """The number of points in each state, and the time left while some are unfinished."""
        states = list(self.states.values())
        text = ", ".join(f"{states.count(state)} {state}" for state in COLOURS if state in states)
        left = self.seconds_left() if {"waiting", "running"} & set(states) else None
        return f"{len(states)} point{'s' if len(states) > 1 else ''}: {text}" + (
            "" if left is None else f"; about {duration(left)} left"
        )

    def line(self, change: Change) -> str:
        """A change as a line, for a file or a pipe. Empty for a point that only waits."""
        if change.state == "waiting" and not change.remark:
            return ""
        took = f"  {duration(change.seconds)}" if change.state in ("done", "failed") and change.seconds else ""
        remark = f"  ({change.remark})" if change.remark else ""
        counts = f"  [{self.counts()}]" if change.state in ("done", "failed") else ""
        return f"{change.state:<8}{change.point.name}{took}{remark}{counts}"

    def __rich_console__(self, console: Console, options: Any) -> Any:
        table = Table(box=None, pad_edge=False)
        for key in self.points[0].values:
            table.add_column(key, overflow="fold")
        table.add_column("state", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
        for point in self._window(max(3, console.height - 5)):
            state = self.states[point.name]
            seconds = self._elapsed(point.name) if state == "running" else self.seconds.get(point.name)
            values = [value if isinstance(value, str) else json.dumps(value) for value in point.values.values()]
            table.add_row(
                *map(escape, values),
                f"[{COLOURS[state]}]{state}",
                "" if seconds is None else duration(seconds),
                escape(self.remarks[point.name]),
            )
        yield table
        yield Text(self.counts())

    def _window(self, rows: int) -> Sequence[Point]:
        """As many points as fit, around the first that is not finished."""
        order = [state in ("waiting", "running") for state in self.states.values()]
        first = order.index(True) if True in order else len(order)
        start = max(0, min(first - rows // 3, len(order) - rows))
        return self.points[start : start + rows]

    def _elapsed(self, name: str) -> float:
        return time.monotonic() - self.begun[name]


@contextmanager
def shown(board: Board, console: Console) -> Iterator[Callable[[Change], None]]:
    """A function that shows changes: in a live table, or as lines where there is no terminal."""
    if console.is_terminal:
        with Live(board, console=console, refresh_per_second=2):
            yield board.update
        return

    def print_line(change: Change) -> None:
        board.update(change)
        if line := board.line(change):
            print(line, file=sys.stderr, flush=True)

    yield print_line


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.3 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
