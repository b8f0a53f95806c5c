"""Finished runs sent to an experiment tracker: what is in their records, and their pages.

Knows nothing of how runs come about. A tracker is a function of a run and its page; another one is an entry in
TRACKERS. What goes wrong in one loses no run, because the record is on disk before.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from specbeam.experiments.record_table import cell, flat
from specbeam.experiments.records import RunRecord

from .facts import read_run
from .write import page_html

Tracker = Callable[[str, RunRecord, str | None, Path], str]  # name, record, page's HTML, folder → where it is now

PROJECT = "specbeam"  # Weights & Biases' own WANDB_PROJECT comes before it
OFFLINE = ("offline", "disabled", "dryrun")
PART_LENGTH = 60  # characters of a table's name between slashes
NAME_LENGTH = 128  # characters that Weights & Biases takes


class Tracking:
    """Sends runs of a folder to the tracker of this name, or nowhere when it is None.

    `problems` holds what went wrong, one line a run. Raises ValueError, before any run, for an unknown tracker and for
    one that is not installed or not logged in.
    """

    def __init__(self, name: str | None):
        if name is not None and name not in TRACKERS:
            raise ValueError(f"There is no tracker {name!r}; there are: {', '.join(TRACKERS)}.")
        self.name = name
        self.tracker = TRACKERS[name]() if name is not None else None
        self.problems: list[str] = []

    def log(self, runs_dir: str | Path, run: str) -> str | None:
        """Send one run; return where it can be seen, or None when there is no tracker or it failed."""
        if self.tracker is None:
            return None
        try:
            found, page = read_run(runs_dir, run), None
            if found.notebook is not None:
                with contextlib.suppress(ValueError):  # too large, or torn: the numbers are still worth tracking
                    page = page_html(found)
            return self.tracker(run, found.record, page, Path(runs_dir))
        except Exception as error:  # trackers and networks raise anything, and the next run must go on
            reason = " ".join(str(error).split()) or type(error).__name__
            kept = Path(runs_dir) / f"{run}.json"
            self.problems.append(f"{run} is not tracked by {self.name} ({reason}); its record is {kept}.")
            return None

    def following(self, report: Callable[[Any], None], runs_dir: str | Path) -> Callable[[Any], None]:
        """`report` of a sweep, which then also sends each point that is done or failed."""

        def both(change: Any) -> None:
            report(change)
            if change.state in ("done", "failed"):
                self.log(runs_dir, change.point.name)

        return both


def wandb_tracker() -> Tracker:
    """Weights & Biases. With WANDB_MODE=offline it needs no account and no network: `wandb sync` uploads later.

    Raises ValueError when wandb is not installed, or not logged in where it has to be.
    """
    try:
        import wandb
    except ImportError:
        raise ValueError('Tracking with wandb needs it: pip install "specbeam[wandb]".') from None
    if os.environ.get("WANDB_MODE", "online") not in OFFLINE:
        try:
            wandb.login()  # asks for a key now, at a terminal, and not after hours of runs
        except Exception as error:
            raise ValueError(
                f"Tracking with wandb needs an account ({' '.join(str(error).split())}): "
                "run `wandb login`, or set WANDB_API_KEY, or keep it on this machine with WANDB_MODE=offline."
            ) from None
    return _log_to_wandb


def _log_to_wandb(name: str, record: RunRecord, page: str | None, runs_dir: Path) -> str:
    import wandb

    values, tables = split(record)
    # The run is over: what wandb would find out about this process, its commit and its load is not the run's.
    settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        dir=os.environ.get("WANDB_DIR") or runs_dir.resolve().parent,
        name=_cut(name),
        group=_cut(record.notebook),
        tags=[record.status],
        config={**record.parameters, PROJECT: {**facts(record), "run": name}},
        settings=settings,
        reinit="finish_previous",
    )
    ok = False
    try:
        run.summary.update(values)
        shown: dict[str, Any] = {
            key: wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
            for key, (columns, rows) in tables.items()
        }
        if page is not None:
            shown["page"] = wandb.Html(page, inject=False, data_is_not_path=True)
        if shown:
            run.log(shown)
        ok = record.status == "ok"
    finally:
        run.finish(exit_code=0 if ok else 1)
    if run.offline or run.disabled:
        return f"{Path(run.dir).parent} (upload it with: wandb sync)"
    return str(run.url)


TRACKERS: dict[str, Callable[[], Tracker]] = {"wandb": wandb_tracker}


def facts(record: RunRecord) -> dict[str, Any]:
    """Everything in a record that is neither parameter nor result."""
    left = ("parameters", "metrics", "timings", "error")
    return {name: value for name, value in vars(record).items() if name not in left}


def split(record: RunRecord) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """The results as plain values by name, and as tables: (columns, rows) by name.

    Dicts become names with slashes; a list of dicts or of lists is a table, the samples of prompts and outputs for one.
    """
    values: dict[str, Any] = {}
    tables: dict[str, tuple[Any, Any]] = {}
    for name, item in {**flat(record.metrics, "/"), **flat({"timings": record.timings}, "/")}.items():
        items = item if isinstance(item, list) else []
        if items and all(isinstance(row, list) for row in items):
            items = [{str(number): value for number, value in enumerate(row)} for row in items]
        if items and all(isinstance(row, Mapping) for row in items):
            columns = list(dict.fromkeys(str(key) for row in items for key in row))
            tables[_file_name(name)] = columns, [[cell(row.get(key)) for key in columns] for row in items]
        else:
            values[name] = item
    if record.seconds is not None:
        values["seconds"] = record.seconds
    if record.error is not None:
        values["error"] = record.error
    return values, tables


def _cut(name: str) -> str:
    """The name, or its beginning and a hash of the whole where it is too long."""
    end = f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - len(end)] + end


def _file_name(name: str) -> str:
    """The name in letters that are safe in file names, which W&B makes of it; with a hash where it is not the same."""
    safe = "/".join(re.sub(r"[^\w .,=+()-]+|^\.+", "-", part)[:PART_LENGTH] for part in name.split("/"))
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
