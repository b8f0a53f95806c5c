"""Files that are whole or not there, and where the cache is. Every room but the core may use it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

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


def cache_folder() -> Path:
    """Where specbeam keeps converted models and measurements: SPECBEAM_CACHE, or the platform's user cache."""
    if own := os.environ.get("SPECBEAM_CACHE"):
        return Path(own).expanduser()
    return platformdirs.user_cache_path("specbeam", appauthor=False)
