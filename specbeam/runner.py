"""Runs a notebook with checked parameters and accepts the run only if it really finished.

Papermill calls every cell completed when the kernel dies, so a run counts only if papermill returned, every code
cell has an execution count, and the notebook left a record.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from specbeam.parameters import changed_parameters, read_notebook, resolve_parameters
from specbeam.records import NOTEBOOK_VARIABLE, RECORD_VARIABLE, RunRecord, environment, notebook_sha256


class RunFailed(RuntimeError):
    """A notebook ran and is not accepted. `record` says why, `notebook` is the kept `*.failed.ipynb`."""

    def __init__(self, record: RunRecord, notebook: Path):
        super().__init__(f"{record.notebook} failed: {record.error} (kept as {notebook})")
        self.record = record
        self.notebook = notebook


def run_notebook(
    path: str | Path,
    params_file: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    out_dir: str | Path = "build/runs",
    progress: bool = True,
) -> RunRecord:
    """Execute a notebook with this interpreter and return its record.

    Leaves `<name>.ipynb` and `<name>.json` in `out_dir`; both are written aside and moved there when the run is
    accepted, so an interrupted run changes nothing. Raises ValueError for wrong parameters before anything runs,
    and RunFailed for a run that is not accepted: the notebook is then kept as `<name>.failed.ipynb` beside a record
    with status "failed".
    """
    path, out_dir = Path(path).resolve(), Path(out_dir).resolve()
    resolved = resolve_parameters(path, params_file, overrides)
    out_dir.mkdir(parents=True, exist_ok=True)
    accepted, failed = out_dir / f"{path.stem}.ipynb", out_dir / f"{path.stem}.failed.ipynb"
    executed, recorded = out_dir / f".{path.stem}.running.ipynb", out_dir / f".{path.stem}.running.json"
    for leftover in (executed, recorded):
        leftover.unlink(missing_ok=True)  # a stale record must not vouch for this run
    started = time.perf_counter()
    try:
        try:
            papermill.execute_notebook(
                str(path),
                str(executed),
                parameters=changed_parameters(path, resolved),
                kernel_name="python3",
                language="python",
                cwd=str(path.parent),
                progress_bar=progress,
                kernel_manager_class=_kernel_manager(path, recorded),
            )
            record = _accept(executed, recorded)
        except Exception as error:  # the kernel, papermill and the checks raise types without a common base
            record = RunRecord(path.stem, **environment(path.stem))
            record.status, record.error = "failed", _reason(error)
        record.parameters = {**resolved, **record.parameters}
        record.seconds = round(time.perf_counter() - started, 3)
        record.notebook_sha256 = notebook_sha256(path)
        record.save(recorded)
        ok = record.status == "ok"
        for old in (accepted, failed, out_dir / f"{path.stem}.json"):
            old.unlink(missing_ok=True)
        if executed.is_file():
            os.replace(executed, accepted if ok else failed)
        os.replace(recorded, out_dir / f"{path.stem}.json")
        if not ok:
            raise RunFailed(record, failed)
        return record
    finally:
        for leftover in (executed, recorded):
            leftover.unlink(missing_ok=True)


def _accept(executed: Path, recorded: Path) -> RunRecord:
    code = [cell for cell in read_notebook(executed).cells if cell.cell_type == "code" and cell.source.strip()]
    if skipped := [cell for cell in code if cell.execution_count is None]:
        raise ValueError(f"{len(skipped)} of {len(code)} code cells did not run, the first: {skipped[0].source!r}")
    if not recorded.is_file():
        raise ValueError("the notebook saved no record: its last cell should call RunRecord.collect(…).save()")
    return RunRecord.load(recorded)


def _kernel_manager(path: Path, recorded: Path) -> type[AsyncKernelManager]:
    """A kernel manager that starts this interpreter, whatever kernels are installed under the name python3."""
    package = str(Path(__file__).resolve().parents[1])
    search = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Kernel specifications substitute ${NAME} in these values, and $$ stands for a dollar sign.
    variables = {
        "PYTHONPATH": os.pathsep.join(search),
        RECORD_VARIABLE: str(recorded),
        NOTEBOOK_VARIABLE: str(path),
    }
    spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"],
        display_name="Python 3",
        language="python",
        env={name: value.replace("$", "$$") for name, value in variables.items()},
    )

    class InterpreterKernel(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return InterpreterKernel


def _reason(error: Exception) -> str:
    """One line. Papermill keeps the cell's own error apart from its message, which holds the whole traceback."""
    name, value = getattr(error, "ename", None), getattr(error, "evalue", None)
    text = f"{name}: {value}" if name else str(error) or type(error).__name__
    return next((line for line in text.splitlines() if line.strip()), text)
