"""Which commit holds a file, by what git says of the repository around it.

A commit stands for a file only if its tree holds it. A repository that merely lies around it, as around a virtual
environment in a checkout or in a home folder under git, has nothing to say.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 20
# A git hook says by variables which repository git was called for, and that is another. Those that say how git is
# configured, which repositories to trust among them, and where its programs are, are the user's.
_KEPT = re.compile(r"GIT_(CONFIG_(COUNT|KEY_\d+|VALUE_\d+|GLOBAL|SYSTEM|NOSYSTEM)|EXEC_PATH)")


@dataclass(frozen=True)
class Held:
    """The commit that is checked out around a file and holds it, or None.

    root: top folder of the working tree.
    path: of the file within it, with slashes.
    """

    commit: str | None = None
    root: Path = Path()
    path: str = ""


def held(file: Path) -> Held:
    """The commit that is checked out around `file`, if it holds it and git tells."""
    file = file.resolve()
    try:
        root, prefix = (*_git(file.parent, "rev-parse", "--show-toplevel", "--show-prefix").splitlines(), "")[:2]
        commit = _git(file.parent, "rev-parse", "--verify", "HEAD^{commit}")
        _git(file.parent, "rev-parse", "--verify", f"HEAD:./{file.name}")
    except Unknown:
        return Held()
    return Held(commit, Path(root), f"{prefix}{file.name}")


def changed(root: Path) -> bool:
    """Whether what a working tree tracks differs from its commit. Raises Unknown where git does not tell."""
    return bool(_git(root, "status", "--porcelain", "--untracked-files=no"))


def untracked(root: Path, folder: str) -> list[str]:
    """Paths of files in a folder of a working tree that are neither tracked nor ignored. Raises Unknown, as above."""
    where = f":(top,literal){folder}" if folder else ":(top)"
    return [
        path for path in _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", where).split("\0") if path
    ]


def text_at(root: Path, path: str) -> str:
    """A file as the commit holds it. Raises Unknown where it does not."""
    return _git(root, "cat-file", "blob", f"HEAD:{path}")


class Unknown(Exception):
    """Git does not tell: it is missing, does not answer, trusts no stranger's repository, or knows no such thing."""


def _git(folder: Path, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _KEPT.fullmatch(name)}
    # in a language that is known here; and without writing to the repository, or starting what it asks for
    environment = {**kept, "LC_ALL": "C", "LANGUAGE": "C", "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": PATIENCE_S}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, check=True, **options)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unknown(str(error)) from None
    return os.fsdecode(done.stdout).rstrip("\n")
