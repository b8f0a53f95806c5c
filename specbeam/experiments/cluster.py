"""Points of a sweep on the workers of a Dask cluster, one run per worker at a time.

A task carries the notebook's text and its parameters, and brings back the executed notebook, the record and the log,
so no file system needs to be shared: a worker needs this package, with the same sources, and nothing else. Dask decides
which worker runs what. It gives the point of a lost worker to another one, as often as its setting
`distributed.scheduler.allowed-failures` says (https://distributed.dask.org/en/stable/resilience.html). A worker
resource limits each worker to one run at a time (https://distributed.dask.org/en/stable/resources.html).
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .provenance import SOURCES, environment, notebook_sha256, origin, sources_sha256
from .records import RunRecord
from .runner import RunFailed, publish, run_notebook, scratch_files
from .sweep import DONE, FAILED, RUNNING, WAITING, Change, Executor, Point

RESOURCE = {"specbeam": 1}
CONNECT_S, POLL_S = 10.0, 0.3
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def connected(scheduler: str, workers: int | None = None, timeout: float = CONNECT_S) -> Iterator[Any]:
    """A Dask client of the scheduler at an address, or, for "local", of `workers` new processes on this machine.

    Raises ValueError when distributed is not installed, for something that is not an address, when no scheduler answers
    there within `timeout` seconds, or when it has workers and none of them has the resource that a run needs.
    """
    try:
        import distributed
    except ImportError:
        raise ValueError("A sweep on a cluster needs Dask: pip install 'specbeam[cluster]'") from None
    if scheduler != "local" and workers is not None:
        raise ValueError("--workers goes with --scheduler local; another scheduler has the workers that joined it.")
    if scheduler == "local" and (workers is not None and workers < 1):
        raise ValueError(f"--workers {workers} must be 1 or more.")
    if scheduler != "local" and "://" not in scheduler:
        raise ValueError(f"--scheduler {scheduler!r} is no address: give one like tcp://host:8786, or local.")
    for logger in ("distributed", "distributed.client"):  # our own messages say what went wrong
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        address: Any = scheduler
        if scheduler == "local":
            count = workers or 1
            threads = max(1, (os.cpu_count() or 1) // count)
            options: dict[str, Any] = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
            address = stack.enter_context(
                distributed.LocalCluster(count, threads_per_worker=threads, resources=RESOURCE, **options)
            )
        try:
            if scheduler != "local":
                _try(scheduler, timeout)
            client = stack.enter_context(distributed.Client(address, timeout=timeout, set_as_default=False))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"No Dask scheduler answers at {scheduler} within {timeout:g} s: start one with `dask scheduler`, "
                f"or correct the address. ({error})"
            ) from None
        ready, lacking = _workers(client)
        if lacking and not ready:
            raise ValueError(
                f"None of the {len(lacking)} workers of {scheduler} has the resource specbeam=1: start them with "
                f"`{worker_command(client)}`."
            )
        yield client


def _try(address: str, timeout: float) -> None:
    """Raises OSError or ValueError when nothing answers at the address.

    A client that finds out itself lives on until it is collected; when that happens while another one starts, both
    wait for ever.
    """
    from distributed import Security
    from distributed.comm.core import connect

    async def answered() -> None:
        await (await connect(address, timeout=timeout, **Security().get_connection_args("client"))).close()

    with ThreadPoolExecutor(1) as thread:  # the caller's may have a loop already, as in a notebook
        thread.submit(lambda: asyncio.run(answered())).result()


def worker_command(client: Any) -> str:
    """The command that starts a worker for the client's scheduler; a run gets all CPU threads of its worker."""
    return f"dask worker {client.scheduler.address} --nthreads 1 --resources specbeam=1"


def run_on_cluster(notebook: str | Path, out_dir: str | Path, client: Any, timeout: float | None = None) -> Executor:
    """An executor that gives points to the workers of a `connected` client and writes what comes back to `out_dir`.

    It raises ValueError when the scheduler is lost; results that came back before are kept.
    """
    notebook, out_dir = Path(notebook), Path(out_dir)

    def run(points: Sequence[Point]) -> Iterator[Change]:
        shared = {"notebook": notebook.name, "text": notebook.read_text(encoding="utf-8"), "timeout": timeout}
        here = {**origin(notebook), "notebook_sha256": notebook_sha256(notebook)}
        queue, flights = deque(points), list[_Flight]()
        while queue or flights:
            ready, _ = _ask(client, _workers)
            # No more than there are workers: points that wait at a worker would count as lost with it.
            while queue and len(flights) < max(1, len(ready)):
                flights.append(_Flight.begin(client, queue.popleft(), shared))
                if not ready:
                    yield Change(flights[-1].point, WAITING, f"for a worker: {worker_command(client)}")
            processing = _ask(client, type(client).processing)
            for flight in flights:
                yield from flight.changes(processing)
            if client.status == "closed" or any(flight.future.status in ("cancelled", "lost") for flight in flights):
                raise ValueError(LOST)
            for flight in [flight for flight in flights if flight.future.done()]:
                flights.remove(flight)
                yield _collect(flight, notebook, out_dir, here)
            time.sleep(POLL_S)

    return run


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    """Runs on a worker: execute the notebook in a folder of its own and return the files' contents."""
    from distributed import get_worker

    worker = get_worker()
    where = f"{worker.address} on {socket.gethostname()}, CPU threads: {worker.state.nthreads}"
    if sources_sha256() != task[SOURCES]:
        raise ValueError(f"worker {worker.address} has other sources of specbeam: install there what is installed here")
    with tempfile.TemporaryDirectory(prefix="specbeam-", dir=worker.local_directory) as folder:
        path, out_dir, name = Path(folder, "source", task["notebook"]), Path(folder, "runs"), task["name"]
        path.parent.mkdir()
        path.write_text(task["text"], encoding="utf-8")
        # Dask sets these to 1 for its worker processes; a run is meant to have the whole worker.
        variables = dict.fromkeys(THREADS, str(worker.state.nthreads))
        began = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        options: dict[str, Any] = {"name": name, "timeout": task["timeout"], "variables": variables}
        with contextlib.suppress(RunFailed):
            # the sender has settled the paths, and what a worker's folder holds means nothing
            run_notebook(path, None, task["parameters"], out_dir, progress=False, settle=False, **options)
        files = {item.suffix: item.read_text(encoding="utf-8") for item in out_dir.iterdir()}
        log = f"{began} began at {where}\n{files.get('.log', '')}"
        return {"record": files[".json"], "executed": files.get(".ipynb"), "log": log}


LOST = (
    "The Dask scheduler is gone. Finished runs are kept: start the same sweep again when the scheduler is back, "
    "and it goes on from there."
)


@dataclass
class _Flight:
    """A point that the scheduler has taken and not yet given back."""

    point: Point
    future: Any
    worker: str | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, client: Any, point: Point, shared: dict[str, Any]) -> "_Flight":
        task = {**shared, SOURCES: sources_sha256(), "name": point.name, "parameters": dict(point.parameters)}
        key = f"specbeam-{point.name}-{secrets.token_hex(4)}"
        return cls(point, client.submit(run_task, task, key=key, resources=RESOURCE, pure=False))

    def changes(self, processing: dict[str, Sequence[str]]) -> Iterator[Change]:
        """A change when the point has come to another worker, by the keys that each living worker has."""
        worker = next((worker for worker, keys in processing.items() if self.future.key in keys), None)
        if worker in (None, self.worker):
            return
        if self.worker is not None and self.worker not in processing:
            self.notes.append(f"worker {self.worker} was lost; the point was begun again")
        self.worker = worker
        yield Change(self.point, RUNNING, f"{'again, ' if self.notes else ''}at {worker}")


def _collect(flight: _Flight, notebook: Path, out_dir: Path, here: dict[str, Any]) -> Change:
    """Write the files that a worker returned, or a failed record where it returned none."""
    point, future = flight.point, flight.future
    result: dict[str, Any] = {"executed": None, "log": ""}
    with scratch_files(out_dir, point.name) as (executed, recorded, log):
        if future.status == "finished":
            result = future.result()
            recorded.write_text(result["record"], encoding="utf-8")
            record = RunRecord.load(recorded)
        else:
            record = RunRecord(notebook.stem, status="failed", parameters=dict(point.parameters))
            record.finished = environment(notebook.stem, notebook)["finished"]
            record.error = _explained(future.exception(), flight)
        for name, value in here.items():  # a worker need not have the repository
            setattr(record, name, value)
        record.save(recorded)
        if result["executed"] is not None:
            executed.write_text(result["executed"], encoding="utf-8")
        log.write_text("".join(f"{line}\n" for line in flight.notes) + result["log"], encoding="utf-8")
        publish(out_dir, point.name, executed, recorded, log, ok=record.status == "ok")
    ok = record.status == "ok"
    return Change(point, DONE if ok else FAILED, "" if ok else record.error or "", record.seconds)


def _explained(error: BaseException, flight: _Flight) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        times = getattr(error, "allowed_failures", 0) + 1
        return f"Its worker was lost {times} times, the last one at {flight.worker}: out of memory, or out of time?"
    return next(iter(str(error).splitlines()), type(error).__name__)


def _ask(client: Any, question: Any) -> Any:
    try:
        return question(client)
    except OSError:
        raise ValueError(LOST) from None


def _workers(client: Any) -> tuple[list[str], list[str]]:
    """Addresses of the workers that take runs, and of those that lack the resource for it."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    ready = [address for address, worker in workers.items() if worker["resources"].get("specbeam", 0) >= 1]
    return ready, [address for address in workers if address not in ready]
