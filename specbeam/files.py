"""Files that are whole or not there, locks between processes, and where a user's folders are.

Every room but the core uses it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import filelock
import platformdirs


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write text (as UTF-8) or bytes so that `path` holds all of it or what it held before. Makes missing folders.

    Raises OSError, naming `path`, where it cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # of a folder that was never made, or of a disk that is read-only by now
            aside.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def exclusive(lock_file: str | Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, made if it is missing, and remove it at the end. A process that dies loses its lock.

    Raises ValueError(`refusal`) at once when another process, or another caller in this one, holds it.
    """
    lock_file = Path(lock_file)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(refusal) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            lock_file.unlink()
        lock.release()


CACHE = "SPECBEAM_CACHE"
# Where libraries look for folders, which a user may have given as seen from the folder that a command was typed in.
FOLDERS = (
    *(CACHE, "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "HF_MODULES_CACHE"),
    *("HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR", "GRADIO_TEMP_DIR", "WANDB_DIR"),
    *("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"),
)
HOMELESS = {  # what plots and kernels keep at home, and where in the folder that stands in for it
    "MPLCONFIGDIR": "matplotlib",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "jupyter/config",
    "JUPYTER_DATA_DIR": "jupyter/data",
    "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
}


def cache_folder() -> Path:
    """Where specbeam keeps converted models and measurements, as an absolute path. It need not be there.

    It is SPECBEAM_CACHE, or the platform's user cache, or the `spare_folder` where there is no home to hold that.
    Raises ValueError for a SPECBEAM_CACHE in a home that is not known.
    """
    if own := os.environ.get(CACHE):
        return here(own, CACHE)
    try:
        usual = platformdirs.user_cache_path("specbeam", appauthor=False)
    except RuntimeError:  # nobody has said where the home is
        return spare_folder()
    known = not usual.parts[0].startswith("~")  # as older versions of platformdirs leave it
    home = _home()
    if known and (usual.is_dir() or home is None or home not in usual.parents or at_home()):
        return here(usual)
    return spare_folder()


def spare_folder() -> Path:
    """A folder of this user alone among the temporary files, for what would be kept at home if there was one.

    Where nothing can be written, it is one that is not there.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        folder = Path(tempfile.gettempdir()).absolute() / f"specbeam-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        theirs = hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022)
        return _own_folder() if theirs or not stat.S_ISDIR(found.st_mode) else folder
    except FileExistsError:
        return _own_folder()
    except OSError:  # no disk to write to
        return Path(os.path.abspath(os.sep), f"specbeam-{secrets.token_hex(8)}")


@functools.cache
def _own_folder() -> Path:
    """One of this process, where somebody else has taken the name of the user's."""
    folder = tempfile.mkdtemp(prefix="specbeam-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def at_home() -> bool:
    """Whether there is a home folder that can be written to."""
    home = _home()
    return home is not None and home.is_dir() and os.access(home, os.W_OK | os.X_OK)


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and no such user
        return None
    return home if home.is_absolute() else None


def here(path: str | os.PathLike[str], what: str = "the path") -> Path:
    """The path as seen from the working directory, absolute, with a leading ~ as the home folder.

    Raises ValueError, saying `what` it is, where that home is not known, and where the working directory is gone.
    """
    try:
        return Path(os.path.abspath(Path(path).expanduser()))
    except RuntimeError:
        problem, remedy = "begins at a home folder that is not known here", "write the whole path"
    except FileNotFoundError:
        problem, remedy = "is relative to a working directory that is gone", "change to another one"
    raise ValueError(f"{what} {str(path)!r} {problem}; {remedy}.")


def places(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environment` that name folders, meaning the same folders to a process that starts elsewhere.

    Where there is no home that can be written to, they say where else plots and kernels may keep their files.
    """
    found = {}
    for name in FOLDERS:
        if value := environment.get(name):
            try:
                found[name] = str(here(value, name))
            except ValueError:
                if name == CACHE:
                    raise
    if not at_home():
        spare = spare_folder()
        found = {name: str(spare / folder) for name, folder in HOMELESS.items()} | found
    return found


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Within, this process and those that it starts find their folders by what `places` says."""
    before = dict(os.environ)
    os.environ.update(places(before))
    try:
        yield
    finally:
        for name in (*FOLDERS, *HOMELESS):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
