"""What the commands print: tables by Rich, and what a model wrote as it is."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

from rich.console import Console


def console(**options: Any) -> Console:
    """A Rich console that takes `:key:` in a name or a text for what it is, and no emoji."""
    return Console(**{"emoji": False, "highlight": False, **options})


def encodes_everything() -> bool:
    """Whether standard output can hold any text."""
    return _holds_all(sys.stdout)


def lose_nothing() -> None:
    """What an encoding such as ASCII lacks is printed as an escape: an error would lose what was decoded.

    "surrogateescape" is what Python takes in a C locale; it saves bytes that are no text, and fails at other letters.
    """
    for stream in (sys.stdout, sys.stderr):
        failing = ("strict",) if _holds_all(stream) else ("strict", "surrogateescape")
        if isinstance(stream, io.TextIOWrapper) and stream.errors in failing:
            stream.reconfigure(errors="backslashreplace")


def _holds_all(stream: Any) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def flush() -> None:
    """Hand over what was printed. Raises OSError where it cannot be written, a BrokenPipeError where nobody reads.

    What is left then goes nowhere: Python would complain of it once more at its end.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):  # a stream without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
