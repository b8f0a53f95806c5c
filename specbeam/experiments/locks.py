"""A lock on a name in a folder, held by one process. The operating system drops it when that process ends.

So a process that was killed leaves no lock behind, at most an empty file that locks nothing.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: str | Path, refusal: str) -> Iterator[None]:
    """Hold the lock file at `path`, made if it is missing, and remove it at the end.

    Raises ValueError(`refusal`) when another process, or another thread of this one, holds it (flock(2)).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open_locked(path, refusal)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open_locked(path: Path, refusal: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it before may have removed the file between our open and our lock; then nobody can find ours.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise ValueError(refusal) from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
