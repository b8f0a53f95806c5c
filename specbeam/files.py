"""Files that are whole or not there, locks between processes, and the cache folder. Every room but the core uses it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write text (as UTF-8) or bytes so that `path` holds all of it or what it held before. Makes missing folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
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


def cache_folder() -> Path:
    """Where specbeam keeps converted models and measurements: SPECBEAM_CACHE, or the platform's user cache."""
    if own := os.environ.get("SPECBEAM_CACHE"):
        return Path(own).expanduser()
    return platformdirs.user_cache_path("specbeam", appauthor=False)
