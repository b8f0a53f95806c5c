import errno
import json
import tempfile
from pathlib import Path

import nbformat
import papermill
import pytest
import zmq
from notebook_factory import ended, write_notebook

from specbeam.experiments.provenance import SOURCES, sources_sha256
from specbeam.experiments.records import RunRecord
from specbeam.experiments.runner import RunFailed, _how, checked_name, run_notebook
from specbeam.files import FOLDERS, HOMELESS, exclusive, spare_folder


def run(path, out_dir, name=None, timeout=None, **overrides):
    return run_notebook(path, overrides=overrides, out_dir=out_dir, progress=False, name=name, timeout=timeout)


def names(folder):
    return sorted(item.name for item in folder.iterdir())


def test_an_accepted_run_leaves_its_notebook_and_record_and_no_earlier_failure(tmp_path):
    write_notebook(tmp_path / "runs", "01_toy.failed")
    path = write_notebook(tmp_path, code=("import os, sys; print(os.getcwd(), sys.executable)",))
    record = run(path, tmp_path / "runs", num_beams=8)
    assert (record.status, record.metrics) == ("ok", {"answer": 16})
    assert record.parameters == {"num_beams": 8, "length_penalty": 1.0, "prompts": ["a"], "seed": None}
    assert record.seconds and record.notebook_sha256 and record.versions[SOURCES] == sources_sha256()
    assert names(tmp_path / "runs") == ["01_toy.ipynb", "01_toy.json"]
    assert RunRecord.load(tmp_path / "runs" / "01_toy.json") == record
    assert str(tmp_path) in (tmp_path / "runs" / "01_toy.ipynb").read_text()


@pytest.mark.parametrize(
    ("code", "record", "reason"),
    [
        ("raise KeyError('no such beam')", True, "KeyError: 'no such beam'"),
        ("import os; os._exit(3)", True, "Kernel died with exit status 3 in the cell 'import os; os._exit(3)'"),
        ("import os; os.kill(os.getpid(), 9)", True, "Kernel died by SIGKILL, as when memory runs out, in the cell"),
        ("1 + 1", False, "saved no record"),
        ("open(__import__('os').environ['SPECBEAM_RECORD'], 'w').write('{')", False, "not complete JSON"),
    ],
    ids=["a cell raises", "the kernel exits", "the kernel is killed", "no record", "a truncated record"],
)
def test_a_run_that_did_not_finish_is_kept_as_failed(tmp_path, code, record, reason):
    out_dir = tmp_path / "runs"
    RunRecord("01_toy").save(out_dir / "01_toy.json")
    write_notebook(out_dir)
    path = write_notebook(tmp_path, code=(code,), record=record)
    with pytest.raises(RunFailed, match="01_toy failed") as error:
        run(path, out_dir)
    assert reason in error.value.record.error
    assert names(out_dir) == ["01_toy.failed.ipynb", "01_toy.json"]
    assert RunRecord.load(out_dir / "01_toy.json").status == "failed"
    assert nbformat.read(out_dir / "01_toy.failed.ipynb", as_version=4).cells


def test_a_run_that_takes_too_long_is_failed_and_its_kernel_ends(tmp_path):
    code = ("import os; open('pid', 'w').write(str(os.getpid()))", "while True: pass")
    for timeout in (4, 16, 64):  # on a busy machine the kernel may not have started in the first
        with pytest.raises(RunFailed):
            run(write_notebook(tmp_path, code=code), tmp_path / "runs", timeout=timeout)
        record = RunRecord.load(tmp_path / "runs" / "01_toy.json")
        if "respond" not in (record.error or ""):
            break
    assert record.status == "failed"
    assert record.error == f"Timed out: the run took longer than {timeout} s, and was in the cell 'while True: pass'"
    assert names(tmp_path / "runs") == ["01_toy.failed.ipynb", "01_toy.json"]
    assert ended(int((tmp_path / "pid").read_text()))


def test_what_the_kernels_process_prints_past_the_notebook_is_kept(tmp_path):
    no_python = {"PYTHONHOME": str(tmp_path)}
    with pytest.raises(RunFailed, match="Kernel died before replying"):
        run_notebook(write_notebook(tmp_path), None, None, tmp_path / "runs", False, variables=no_python)
    assert "01_toy.log" in names(tmp_path / "runs")
    assert "init" in (tmp_path / "runs" / "01_toy.log").read_text()


def test_ends_of_a_kernel_are_told_in_words():
    assert [_how(status) for status in (None, 0, -9, -200)] == [
        "for an unknown reason",
        "with exit status 0",
        "by SIGKILL, as when memory runs out,",
        "by signal 200",
    ]


def test_a_name_is_taken_by_another_notebooks_run_or_by_one_that_goes_on(tmp_path):
    path, out_dir = write_notebook(tmp_path), tmp_path / "runs"
    RunRecord("02_other").save(out_dir / "mine.json")
    with pytest.raises(ValueError, match=r"same name.*is a run of 02_other, not of 01_toy"):
        run(path, out_dir, name="mine")
    with exclusive(out_dir / ".01_toy.lock", ""), pytest.raises(ValueError, match="01_toy is running"):
        run(path, out_dir)
    for wrong in ("a/b", "", ".a", "a.failed", "a" * 201):
        with pytest.raises(ValueError, match="must begin with"):
            checked_name(wrong)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            run(path, out_dir, timeout=wrong)
    assert names(out_dir) == ["mine.json"]


def test_a_wrong_parameter_stops_before_anything_runs(tmp_path):
    path = write_notebook(tmp_path)
    with pytest.raises(ValueError, match="unknown parameter 'beams'"):
        run(path, tmp_path / "runs", beams=3)
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_run_leaves_a_record_that_says_so_and_nothing_half_written(tmp_path, monkeypatch):
    path, out_dir = write_notebook(tmp_path), tmp_path / "runs"
    RunRecord("01_toy").save(out_dir / "01_toy.json")
    write_notebook(out_dir)

    (out_dir / ".01_toy.0123abcd.running.ipynb").touch()  # of a run that was killed
    (out_dir / ".01_toy_2.0123abcd.running.ipynb").touch()

    def interrupted(_source, executed, **_options):
        with open(executed, "w") as file:
            file.write("{")
        raise KeyboardInterrupt

    monkeypatch.setattr("specbeam.experiments.runner.papermill.execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(path, out_dir)
    assert names(out_dir) == [".01_toy_2.0123abcd.running.ipynb", "01_toy.failed.ipynb", "01_toy.json"]
    record = RunRecord.load(out_dir / "01_toy.json")
    assert record.status == "failed" and (record.error or "").startswith("Interrupted")


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("written", ["the notebook", "the record"])
def test_a_full_disk_leaves_what_was_there_and_says_which_file(tmp_path, monkeypatch, written):
    before = RunRecord("01_toy", metrics={"answer": 8}).save(tmp_path / "runs" / "01_toy.json").read_text()
    path = write_notebook(tmp_path)
    if written == "the record":  # papermill has failed for another reason, which the record cannot say
        monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: 1 / 0)
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr(papermill, "execute_notebook", full)
    monkeypatch.setattr("specbeam.experiments.runner.environment", lambda *_: {})
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(path, tmp_path / "runs")
    assert caught.value.errno == errno.ENOSPC and str(caught.value.filename).startswith(str(tmp_path / "runs"))
    assert names(tmp_path / "runs") == ["01_toy.json"]
    assert (tmp_path / "runs" / "01_toy.json").read_text() == before


WHERE = """
import json, os
from specbeam.files import cache_folder
names = ("HF_HOME", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
json.dump([target, str(cache_folder()), *(os.environ[name] for name in names)], open("seen.json", "w"))
"""


@pytest.mark.slow
def test_a_kernel_finds_the_folders_of_its_caller_and_needs_no_home(tmp_path, monkeypatch):
    typed = tmp_path / "typed"
    (typed / "my-model").mkdir(parents=True)
    for name in (*FOLDERS, *HOMELESS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("SPECBEAM_CACHE", "./cache")
    monkeypatch.setenv("HF_HOME", "hf")
    monkeypatch.chdir(typed)
    path = write_notebook(tmp_path / "notebooks", "01_toy", (WHERE,), "target = None  # hub id or folder", answer="1")
    record = run(path, "runs", target="./my-model")
    assert (record.status, record.parameters) == ("ok", {"target": str(typed / "my-model")})
    assert names(typed / "runs") == ["01_toy.ipynb", "01_toy.json"]
    spare = spare_folder()
    assert json.loads((path.parent / "seen.json").read_text()) == [
        *(f"{typed}/my-model", f"{typed}/cache", f"{typed}/hf"),
        *(f"{spare}/matplotlib", f"{spare}/jupyter/runtime", f"{spare}/ipython"),
    ]
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(not zmq.has("ipc"), reason="this system has no sockets in the file system")
@pytest.mark.parametrize(("name", "transport"), [("t", "ipc"), ("leaves no room for the name of a socket" * 3, "tcp")])
def test_a_kernel_hears_its_own_run_alone(tmp_path, monkeypatch, name, transport):
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / name
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        path = write_notebook(tmp_path, code=("import ipykernel; print(ipykernel.get_connection_info())",))
        run(path, tmp_path / "runs")
        assert names(folder) == []
    assert f'\\"transport\\": \\"{transport}\\"' in (tmp_path / "runs" / "01_toy.ipynb").read_text()
