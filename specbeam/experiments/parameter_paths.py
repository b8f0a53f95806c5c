"""Paths among parameters, which mean what they mean where the command is typed.

A notebook runs in its own folder, and on a cluster in one that nobody knows. So a relative path that comes from a
command or a parameters file is made absolute before the run, and the record holds it so: it names the same file to
whoever repeats the run on this machine. The defaults in the notebook stay as the notebook's folder sees them.
"""

from __future__ import annotations

import os
import re
from typing import Any

from specbeam.files import here

_NAMES_PATHS = re.compile(r"\b(folder|file|path)s?\b", re.IGNORECASE)  # in the word of help on a parameter
_EXPLICIT = re.compile(r"(\.{1,2}|~[^/\\]*)[/\\].*")  # ./model, ../model, ~/model
_WORDS = ("auto", "trained", "recall", "ngram", "none")  # drafts; a folder of that name is ./recall
_HUB = "hub:"  # before the folder of a data set
_LONGEST = 4096


def settled_value(value: Any, help: str) -> Any:
    """The value of a parameter, with relative paths in it as absolute ones. `help` is what its line says of it.

    Text is a path if it begins with ./, ../ or ~ and something is there. Where the help speaks of a folder, a file or a
    path, so is a name of something that is there, and what begins like that need not be there: the error then says
    where it was looked for.
    """
    if isinstance(value, list):
        return [settled_value(item, help) for item in value]
    if not isinstance(value, str) or not 0 < len(value) < _LONGEST or "\0" in value or "\n" in value:
        return value
    if value.startswith(_HUB):
        return _HUB + settled_value(value.removeprefix(_HUB), "folder")
    expected, explicit = bool(_NAMES_PATHS.search(help)), bool(_EXPLICIT.fullmatch(value))
    if not explicit and (not expected or value in _WORDS or os.path.isabs(value)):
        return value
    try:
        path = here(value)
        there = os.path.exists(path)
    except ValueError:  # a home that is not known
        if expected:
            raise
        return value
    return str(path) if there or (explicit and expected) else value
