"""Decodes with one model take turns: a draft remembers one decode at a time, and a second would corrupt it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

_locks: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_holders: dict[int, int] = {}  # lock's id -> thread that holds it
_guard = threading.Lock()


@contextmanager
def turn(model: Any) -> Iterator[None]:
    """Wait until no other thread decodes with `model`, then hold it.

    Raises ValueError where this very thread decodes with it already (from within `watch`, a processor, a criterion):
    waiting would never end.
    """
    with _guard:
        lock = _locks.setdefault(model, threading.Lock())
        if _holders.get(id(lock)) == threading.get_ident():
            raise ValueError(
                f"this {type(model).__name__} is in the middle of a decode: let that end before another begins, or "
                "load a second pair."
            )
    with lock:
        _holders[id(lock)] = threading.get_ident()
        try:
            yield
        finally:
            del _holders[id(lock)]
