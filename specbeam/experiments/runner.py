"""Runs a notebook with checked parameters and accepts the run only if it really finished.

Papermill calls every cell completed when the kernel dies, so a run counts only if papermill returned, every code
cell has an execution count, and the notebook left a record.
"""

import contextlib
import errno
import glob
import logging
import os
import re
import secrets
import signal
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from specbeam.files import exclusive, settled

from .jupyter_kernels import Kernel
from .parameters import ParamsFiles, changed_parameters, read_notebook, resolve_parameters
from .provenance import NOTEBOOK_VARIABLE, SOURCES, environment, notebook_sha256, sources_sha256
from .records import RECORD_VARIABLE, RunRecord

logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it logs of a failed run is in the record
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
START_S = 180  # a kernel on a loaded machine or a slow network disk may take minutes to start


class RunFailed(RuntimeError):
    """A notebook ran and is not accepted. `record` says why, `notebook` is the kept `*.failed.ipynb`."""

    def __init__(self, record: RunRecord, notebook: Path):
        super().__init__(f"{record.notebook} failed: {record.error} (kept as {notebook})")
        self.record = record
        self.notebook = notebook


def run_notebook(
    path: str | Path,
    params_file: ParamsFiles | None = None,
    overrides: Mapping[str, Any] | None = None,
    out_dir: str | Path = "build/runs",
    progress: bool = True,
    *,
    name: str | None = None,
    timeout: float | None = None,
    variables: Mapping[str, str] | None = None,
    settle: bool = True,
) -> RunRecord:
    """Execute a notebook with this interpreter and return its record.

    `name` is that of the files (default: the notebook's), `timeout` the seconds that the whole run may take, and
    `variables` are environment variables for the kernel. `settle=False` leaves relative paths among the parameters.

    Leaves `<name>.ipynb` and `<name>.json` in `out_dir`, and `<name>.log` when the kernel's process printed something
    past the notebook. All are written aside and moved there at the end, so a killed run changes nothing. Raises
    ValueError before anything runs for wrong parameters, a name that another notebook's run has, or a run of that name
    that has not ended. Raises RunFailed for a run that is not accepted: the notebook is then kept as
    `<name>.failed.ipynb` beside a record with status "failed". An interrupted run leaves the same, and the interrupt
    goes on. Raises OSError where `out_dir` cannot be written, as when its disk is full: what was there stays as it was.
    """
    path, out_dir = Path(path).resolve(), Path(out_dir).resolve()
    name = path.stem if name is None else checked_name(name)
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r} must be a number of seconds above 0, or None for no limit")
    resolved = resolve_parameters(path, params_file, overrides, settle)
    refuse_foreign(out_dir, name, path.stem)
    busy = f"{name} is running in {out_dir}: wait for it, or give this run another name."
    files = scratch_files(out_dir, name)
    with settled(), exclusive(out_dir / f".{name}.lock", busy), files as (executed, recorded, log):
        hashes, interrupt = (notebook_sha256(path), sources_sha256()), None
        started = time.perf_counter()
        places = {RECORD_VARIABLE: str(recorded), NOTEBOOK_VARIABLE: str(path)}
        deadline = None if timeout is None else started + timeout
        with open(log, "wb") as output, Kernel({**(variables or {}), **places}, output, deadline) as kernel:
            try:
                papermill.execute_notebook(
                    str(path),
                    str(executed),
                    parameters=changed_parameters(path, resolved),
                    kernel_name="python3",
                    language="python",
                    cwd=str(path.parent),
                    progress_bar=progress,
                    start_timeout=int(min(START_S, max(1, timeout or START_S))),
                    timeout_func=kernel.seconds_left,
                    kernel_manager_class=kernel.manager,
                )
                record = _accept(executed, recorded)
            except (Exception, KeyboardInterrupt) as error:  # what libraries raise here has no common base
                if isinstance(error, OSError) and error.errno in UNWRITABLE:  # nothing would hold a record of it either
                    raise OSError(error.errno, error.strerror, str(out_dir / f"{name}.ipynb")) from error
                record = RunRecord(path.stem, **environment(path.stem, path))
                record.status, record.error = "failed", _reason(error, kernel, timeout)
                if isinstance(error, KeyboardInterrupt) or getattr(error, "ename", None) == "KeyboardInterrupt":
                    interrupt = error if isinstance(error, KeyboardInterrupt) else KeyboardInterrupt()
        record.parameters = {**record.parameters, **resolved}
        record.seconds = round(time.perf_counter() - started, 3)
        record.notebook_sha256, record.versions[SOURCES] = hashes
        record.save(recorded)
        publish(out_dir, name, executed, recorded, log, ok=record.status == "ok")
    if interrupt is not None:
        raise interrupt
    if record.status != "ok":
        raise RunFailed(record, out_dir / f"{name}.failed.ipynb")
    return record


@contextlib.contextmanager
def scratch_files(out_dir: Path, name: str) -> Iterator[tuple[Path, Path, Path]]:
    """Hidden paths for the notebook, record and log of a run that has not ended; what is left there goes at the end.

    They lie in `out_dir` itself: a notebook that reads the records of its own folder finds it by its record's path.
    What a killed run of the name left goes at the beginning. A kernel outlives its killed runner for a moment, and its
    record must not vouch for the next run: so every run has file names of its own.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for leftover in out_dir.glob(f".{glob.escape(name)}.{'[0-9a-f]' * 8}.running.*"):
        leftover.unlink(missing_ok=True)
    stem = out_dir / f".{name}.{secrets.token_hex(4)}.running"
    paths = Path(f"{stem}.ipynb"), Path(f"{stem}.json"), Path(f"{stem}.log")
    try:
        yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def publish(out_dir: Path, name: str, executed: Path, recorded: Path, log: Path, ok: bool) -> None:
    """Move a finished run's files to their names. The record comes last, so where it is, everything is."""
    accepted, failed, record = (out_dir / f"{name}{suffix}" for suffix in (".ipynb", ".failed.ipynb", ".json"))
    for old in (record, accepted, failed, out_dir / f"{name}.log"):
        old.unlink(missing_ok=True)
    if executed.is_file():
        os.replace(executed, accepted if ok else failed)
    if log.is_file() and log.stat().st_size:
        os.replace(log, out_dir / f"{name}.log")
    os.replace(recorded, record)


def checked_name(name: str) -> str:
    """The name, if files can be called so. Raises ValueError where not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}", name) or name.endswith((".failed", ".running")):
        raise ValueError(
            f"the name {name!r} must begin with a letter or digit, go on with those or . _ = + -, "
            "have at most 200 characters, and not end in .failed or .running"
        )
    return name


def refuse_foreign(out_dir: Path, name: str, notebook: str) -> None:
    """Raises ValueError when a run of this name exists and is another notebook's."""
    try:
        other = RunRecord.load(out_dir / f"{name}.json").notebook
    except ValueError:  # none, or one that is broken anyway
        return
    if other != notebook:
        raise ValueError(
            f"Two runs of the same name: {out_dir / name}.json is a run of {other}, not of {notebook}. "
            "Give this one another --name, or another --out-dir."
        )


def _accept(executed: Path, recorded: Path) -> RunRecord:
    code = [cell for cell in read_notebook(executed).cells if cell.cell_type == "code" and cell.source.strip()]
    if skipped := [cell for cell in code if cell.execution_count is None]:
        raise ValueError(f"{len(skipped)} of {len(code)} code cells did not run, the first: {skipped[0].source!r}")
    if not recorded.is_file():
        raise ValueError("the notebook saved no record: its last cell should call RunRecord.collect(…).save()")
    return RunRecord.load(recorded)


def _reason(error: BaseException, kernel: Kernel, timeout: float | None) -> str:
    """One line. Papermill keeps the cell's own error apart from its message, which holds the whole traceback."""
    if isinstance(error, KeyboardInterrupt) or getattr(error, "ename", None) == "KeyboardInterrupt":
        return f"Interrupted {error}".rstrip() + (f" in the cell {_first(kernel.cell)}" if kernel.cell else "")
    if isinstance(error, CellTimeoutError):
        return f"Timed out: the run took longer than {timeout:g} s, and was in the cell {_first(kernel.cell)}"
    if isinstance(error, DeadKernelError):
        return f"Kernel died {_how(kernel.exit_status)} in the cell {_first(kernel.cell)}"
    name = getattr(error, "ename", None)
    text = f"{name}: {getattr(error, 'evalue', None)}" if name else str(error) or type(error).__name__
    return next(filter(str.strip, text.splitlines()), text)


def _how(status: int | None) -> str:
    if status is None:
        return "for an unknown reason"
    if status >= 0:
        return f"with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"by {name}" + (", as when memory runs out," if name == "SIGKILL" else "")


def _first(source: str) -> str:
    return repr(textwrap.shorten(next(filter(str.strip, source.splitlines()), ""), 60, placeholder=" …"))
