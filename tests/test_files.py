"""Where a user's folders are, whatever the home and the working directory; and files that are whole or not there."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from specbeam import files
from specbeam.files import cache_folder, here, places, settled, spare_folder, write_atomic

posix = pytest.mark.skipif(os.name != "posix", reason="homes are variables and owners on POSIX")


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No variable names a folder; the home, the temporary folder and the working directory are new."""
    for name in (*files.FOLDERS, *files.HOMELESS):
        monkeypatch.delenv(name, raising=False)
    for name in ("home", "tmp", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def no_home(monkeypatch, kind, folder):
    """A home that is not there, or that nobody has said."""
    if kind == "gone":
        monkeypatch.setenv("HOME", str(folder / "gone"))
        return
    monkeypatch.delenv("HOME")

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)


@posix
def test_a_relative_cache_is_that_of_the_folder_it_was_set_in(bare, monkeypatch):
    monkeypatch.setenv("SPECBEAM_CACHE", "cache")
    with settled():
        monkeypatch.chdir(bare)
        assert cache_folder() == bare / "work" / "cache"
    assert os.environ["SPECBEAM_CACHE"] == "cache"
    monkeypatch.setenv("SPECBEAM_CACHE", "~/cache")
    assert cache_folder() == bare / "home" / "cache"


@posix
def test_folders_in_variables_mean_the_same_to_a_process_that_starts_elsewhere(bare):
    given = {"SPECBEAM_CACHE": "./c", "HF_HOME": "hf", "HF_HUB_CACHE": "~/hub", "TORCH_HOME": "/t", "TMPDIR": ""}
    work = bare / "work"
    assert places({**given, "PATH": "bin"}) == {
        **{"SPECBEAM_CACHE": f"{work}/c", "HF_HOME": f"{work}/hf"},
        **{"HF_HUB_CACHE": f"{bare}/home/hub", "TORCH_HOME": "/t"},
    }


@posix
def test_a_home_keeps_the_cache_and_what_plots_and_kernels_keep(bare, monkeypatch):
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda *_, **__: bare / "home" / ".cache" / "specbeam")
    assert cache_folder() == bare / "home" / ".cache" / "specbeam"
    assert places({}) == {}


@posix
@pytest.mark.parametrize("kind", ["gone", "unknown"])
def test_without_a_home_a_folder_among_the_temporary_ones_stands_in(bare, monkeypatch, kind):
    no_home(monkeypatch, kind, bare)
    spare = bare / "tmp" / f"specbeam-{os.getuid()}"
    assert cache_folder() == spare_folder() == spare
    assert stat.S_IMODE(spare.stat().st_mode) == 0o700
    assert places({}) == {
        "MPLCONFIGDIR": f"{spare}/matplotlib",
        "IPYTHONDIR": f"{spare}/ipython",
        "JUPYTER_CONFIG_DIR": f"{spare}/jupyter/config",
        "JUPYTER_DATA_DIR": f"{spare}/jupyter/data",
        "JUPYTER_RUNTIME_DIR": f"{spare}/jupyter/runtime",
    }
    assert places({"MPLCONFIGDIR": "plots"})["MPLCONFIGDIR"] == f"{bare}/work/plots"
    with settled():
        assert os.environ["JUPYTER_RUNTIME_DIR"] == f"{spare}/jupyter/runtime"
    assert "JUPYTER_RUNTIME_DIR" not in os.environ


@posix
def test_a_home_that_cannot_be_written_to_is_no_place_for_a_cache_that_is_not_there(bare, monkeypatch):
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda *_, **__: bare / "home" / ".cache" / "specbeam")
    monkeypatch.setattr(os, "access", lambda path, mode: "home" not in str(path))
    assert cache_folder() == bare / "tmp" / f"specbeam-{os.getuid()}"
    (bare / "home" / ".cache" / "specbeam").mkdir(parents=True)
    assert cache_folder() == bare / "home" / ".cache" / "specbeam"  # which may hold a model already


@posix
def test_a_cache_in_an_unknown_home_is_one_line(bare, monkeypatch):
    no_home(monkeypatch, "unknown", bare)
    monkeypatch.setenv("SPECBEAM_CACHE", "~/cache")
    with pytest.raises(ValueError, match=r"SPECBEAM_CACHE '~/cache' begins at a home folder that is not known"):
        cache_folder()


@posix
def test_a_spare_folder_that_others_could_write_to_is_not_used(bare):
    spare = bare / "tmp" / f"specbeam-{os.getuid()}"
    spare.mkdir()
    spare.chmod(0o777)
    found = spare_folder()
    assert found != spare and found.parent == bare / "tmp" and stat.S_IMODE(found.stat().st_mode) == 0o700
    assert spare_folder() == found


@posix
def test_a_working_directory_that_is_gone_is_one_line(bare, monkeypatch):
    (bare / "work" / "gone").mkdir()
    monkeypatch.chdir(bare / "work" / "gone")
    (bare / "work" / "gone").rmdir()
    with pytest.raises(ValueError, match=r"the path 'x' is relative to a working directory that is gone"):
        here("x")
    assert here("/x") == Path("/x")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_as_it_was_and_names_it(tmp_path, monkeypatch, call):
    path = write_atomic(tmp_path / "record.json", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomic(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"] and path.read_text() == "old"
