import gc
import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
from notebook_factory import Journal, ended, wait_until, write_notebook

from specbeam.experiments.cluster import LOST, _collect, _Flight, connected, run_on_cluster, worker_command
from specbeam.experiments.records import RunRecord
from specbeam.experiments.sweep import DONE, FAILED, RUNNING, WAITING, plan_sweep, run_sweep

distributed = pytest.importorskip("distributed")


def one_point(folder, **options):
    path = write_notebook(folder, **options)
    return path, plan_sweep(path, ["num_beams=2"])


@pytest.mark.slow
def test_a_killed_workers_point_is_run_again_and_all_come_back(tmp_path):
    journal, out_dir = Journal(tmp_path, stops=(2,)), tmp_path / "runs"
    points = plan_sweep(journal.notebook, ["point=1,2,3,4,5,6"])
    changes, over = [], threading.Event()

    def kill_the_worker_of_point_2():
        wait_until(lambda: over.is_set() or 2 in journal.entries("begin"), "point 2 begins")
        kernel, worker = journal.processes(2)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: ended(kernel), "the kernel notices that its worker is gone")
        journal.gate.touch()

    killer = threading.Thread(target=kill_the_worker_of_point_2)
    with connected("local", 2) as client:
        killer.start()
        run_sweep(journal.notebook, points, out_dir, run_on_cluster(journal.notebook, out_dir, client), changes.append)
    over.set()
    killer.join()

    assert not [change.remark for change in changes if change.state == FAILED]
    assert sorted(change.point.values["point"] for change in changes if change.state == DONE) == [1, 2, 3, 4, 5, 6]
    assert sorted(journal.entries("end")) == [1, 2, 3, 4, 5, 6]
    assert sorted(journal.entries("begin")) == [1, 2, 2, 3, 4, 5, 6]
    for point in range(1, 7):
        record = RunRecord.load(out_dir / f"01_toy__point={point}.json")
        assert (record.status, record.metrics, record.parameters["point"]) == ("ok", {"answer": point * 2}, point)
        assert record.commit and record.notebook_sha256, "told by the machine that asked"
        assert (out_dir / f"01_toy__point={point}.ipynb").is_file()
        assert "began at tcp://" in (out_dir / f"01_toy__point={point}.log").read_text()
    assert "was lost; the point was begun again" in (out_dir / "01_toy__point=2.log").read_text()
    assert len(list(out_dir.iterdir())) == 18, "a notebook, a record and a log a point, and nothing else"
    told = []
    run_sweep(journal.notebook, points, out_dir, lambda todo: iter(()), told.append)
    assert {change.state for change in told} == {"skipped"}, "what workers made counts as done here"


def came_back(folder, future, notes=()):
    """The change and the record of a point whose task ended like this."""
    path, (point,) = one_point(folder)
    flight = _Flight(point, future, worker="tcp://far:1", notes=list(notes))
    change = _collect(flight, path, folder / "runs", {"commit": "c0ffee", "dirty": False, "notebook_sha256": "5a"})
    record = RunRecord.load(folder / "runs" / f"{point.name}.json")
    assert (record.commit, record.dirty, record.notebook_sha256) == ("c0ffee", False, "5a")
    assert record.parameters["num_beams"] == 2 and not list((folder / "runs").glob(".*"))
    return change, record


def test_a_run_that_failed_at_a_worker_is_a_failed_record_here(tmp_path):
    there = RunRecord("01_toy", status="failed", error="KeyError: 'beam'", parameters={"num_beams": 2}, seconds=2.0)
    result = {"record": there.save(tmp_path / "there.json").read_text(), "executed": "{}", "log": "began\n"}
    future = SimpleNamespace(status="finished", result=lambda: result)
    change, record = came_back(tmp_path, future, notes=["worker tcp://old:1 was lost"])
    assert (change.state, change.remark, change.seconds) == (FAILED, "KeyError: 'beam'", 2.0)
    assert (record.status, record.error) == ("failed", "KeyError: 'beam'")
    stem = tmp_path / "runs" / "01_toy__num_beams=2"
    assert stem.with_name(f"{stem.name}.failed.ipynb").read_text() == "{}"
    assert stem.with_name(f"{stem.name}.log").read_text() == "worker tcp://old:1 was lost\nbegan\n"


def test_a_point_that_came_back_without_a_result_is_a_failed_record(tmp_path):
    worker = SimpleNamespace(address="tcp://far:1")
    for error, reason in [
        (distributed.KilledWorker("key", worker, 3), r"Its worker was lost 4 times, the last one at tcp://far:1"),
        (OSError("disk full\nthere"), "disk full"),
    ]:
        change, record = came_back(tmp_path, SimpleNamespace(status="error", exception=lambda error=error: error))
        assert change.state == FAILED and record.status == "failed" and record.finished
        assert record.error == change.remark and change.remark.startswith(reason)


@pytest.fixture(scope="module")
def in_process():
    """A scheduler with one worker, in this process, that lacks the resource."""
    options = {"processes": False, "dashboard_address": None, "silence_logs": 50, "protocol": "tcp"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        yield cluster


def test_workers_that_lack_the_resource_are_told_how_to_start(in_process):
    address = in_process.scheduler_address
    command = f"dask worker {address} --nthreads 1 --resources specbeam=1"
    with pytest.raises(ValueError, match=f"None of the 1 workers.*resource specbeam=1.*{command}"), connected(address):
        pass


def test_a_worker_with_other_sources_is_refused(tmp_path, in_process, monkeypatch):
    versions = iter(["ours", "theirs"])
    monkeypatch.setattr("specbeam.experiments.cluster.sources_sha256", lambda: next(versions))
    monkeypatch.setattr("specbeam.experiments.cluster.RESOURCE", {})  # so that the worker without it takes the point
    monkeypatch.setattr("specbeam.experiments.cluster._workers", lambda client: (["tcp://here"], []))
    path, points = one_point(tmp_path)
    with connected(in_process.scheduler_address) as client:
        changes = list(run_on_cluster(path, tmp_path / "runs", client)(points))
    assert changes[-1].state == FAILED and "has other sources of specbeam" in changes[-1].remark
    assert RunRecord.load(tmp_path / "runs" / f"{points[0].name}.json").status == "failed"


@pytest.mark.parametrize(
    ("scheduler", "workers", "reason"),
    [
        ("tcp://127.0.0.1:9", None, r"No Dask scheduler answers at tcp://127.0.0.1:9 within 0.5 s.*dask scheduler"),
        ("tcp://host", None, "No Dask scheduler answers.*missing port"),
        ("no://host:1", None, "No Dask scheduler answers.*unknown address scheme"),
        ("host:8786", None, r"no address.*tcp://host:8786"),
        ("tcp://host:8786", 2, "--workers goes with --scheduler local"),
        ("local", 0, "must be 1 or more"),
    ],
)
def test_a_scheduler_that_cannot_be_reached_is_refused_in_time(scheduler, workers, reason):
    with pytest.raises(ValueError, match=reason), connected(scheduler, workers, timeout=0.5):
        pass


def test_a_client_that_did_not_connect_is_gone_at_once():
    def clients():
        return sum(type(each) is distributed.Client for each in gc.get_objects())

    gc.collect()
    before = clients()
    with pytest.raises(ValueError, match="No Dask scheduler answers") as caught, connected("tcp://host", timeout=0.5):
        pass
    assert clients() == before, "a later collection might find it while another client starts, which waits for ever"
    assert caught.value


def test_without_dask_the_pip_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'specbeam\[cluster\]'"), connected("local"):
        pass


class FakeClient:
    """A scheduler without workers at first, on which no point ends, and which goes when it is asked often."""

    def __init__(self):
        self.workers, self.submitted, self.questions = {}, [], 0
        self.scheduler = SimpleNamespace(address="tcp://host:1")

    @property
    def status(self):
        self.questions += 1
        return "closed" if self.questions > 4 else "running"

    def scheduler_info(self, n_workers):
        return {"workers": self.workers}

    def submit(self, _function, task, key, resources, pure):
        assert (resources, pure) == ({"specbeam": 1}, False)
        self.submitted.append(task["parameters"]["num_beams"])
        return SimpleNamespace(key=key, status="pending", done=lambda: False)

    def processing(self):
        return {}


def test_no_more_points_are_on_their_way_than_there_are_workers_and_late_ones_get_theirs(tmp_path):
    path = write_notebook(tmp_path)
    client, points = FakeClient(), plan_sweep(path, ["num_beams=1,2,3,4"])
    changes = run_on_cluster(path, tmp_path, client)(points)
    first = next(changes)
    assert (first.state, first.remark) == (WAITING, f"for a worker: {worker_command(client)}")
    assert client.submitted == [1]
    for letter in "abc":
        client.workers[f"tcp://{letter}:1"] = {"resources": {"specbeam": 1.0}}
    client.workers["tcp://d:1"] = {"resources": {}}
    with pytest.raises(ValueError, match="scheduler is gone"):
        list(changes)
    assert client.submitted == [1, 2, 3]
    assert "start the same sweep again" in LOST


def test_a_point_whose_worker_is_gone_is_told_as_begun_again(tmp_path):
    (point,) = one_point(tmp_path)[1]
    flight = _Flight(point, SimpleNamespace(key="k"))
    assert not list(flight.changes({"a": ["other"]}))
    assert [(item.state, item.remark) for item in flight.changes({"a": ["k"]})] == [(RUNNING, "at a")]
    assert not list(flight.changes({"a": ["k"]}))
    assert [item.remark for item in flight.changes({"a": [], "b": ["k"]})] == ["at b"], "it was not begun at a"
    assert [item.remark for item in flight.changes({"a": ["k"]})] == ["again, at a"]
    assert flight.notes == ["worker b was lost; the point was begun again"]
