"""The libraries' own environment, made once with plain pip from the versions that the lock file pins.

It is made aside and gets its name when it is complete, so that an interrupted set-up is taken up where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from specbeam.files import write_atomic

LOCK = "requirements-peers.lock"
FAILED = "not_installed.json"


@dataclass(frozen=True)
class Environment:
    """Where the libraries are installed, and which requirements are not, with pip's reason."""

    python: Path
    packages: Path  # its site-packages
    key: str  # of the lock file and this Python
    failed: Mapping[str, str] = field(default_factory=dict)


def make_environment(build: Path, lock: Path, say: Callable[[str], None]) -> Environment:
    """The environment for this lock file in the folder `build`, made if it is not there; others of older locks go.

    A requirement that cannot be installed is left out and tried again the next time.

    Raises ValueError if there is no lock file, or if nothing could be installed.
    """
    if not lock.is_file():
        raise ValueError(
            f"there is no {lock}: the peers are set up in specbeam's repository, so run this in a clone of it."
        )
    key = hashlib.sha256(f"{lock.read_text()}{sys.version}{sysconfig.get_platform()}".encode()).hexdigest()[:12]
    folder, scratch = build / f"environment-{key}", build / f".environment-{key}.making"
    if not folder.is_dir():
        say(f"Installing the libraries of {lock.name} into {folder} (once, about 800 MB, a minute or two) …")
        if not _python(scratch).exists():
            _run([sys.executable, "-m", "venv", str(scratch)])
        _install(scratch, lock)
        for old in build.glob("environment-*"):
            shutil.rmtree(old)
        scratch.rename(folder)
    elif (folder / FAILED).exists():
        say("Trying once more what could not be installed …")
        _install(folder, lock)
    failed = json.loads((folder / FAILED).read_text()) if (folder / FAILED).exists() else {}
    where = _run([str(_python(folder)), "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"])
    return Environment(_python(folder), Path(where.strip()), key, failed)


def install_error(output: str) -> str:
    """The first error in pip's output, without addresses: those of a package index are nobody's business."""
    lines = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    told = lines[0] if lines else (output.strip().splitlines() or ["it said nothing"])[-1]
    return re.sub(r"\w+://\S+|host='[^']*'", "…", told)


def _install(folder: Path, lock: Path) -> None:
    """Everything at once, or if that fails each requirement by itself, as one library less is better than none."""
    pip = [str(_python(folder)), "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps"]
    (folder / FAILED).unlink(missing_ok=True)
    try:
        _run([*pip, "-r", str(lock)])
        return
    except ValueError as error:
        whole = str(error)
    failed, lines = {}, [line.strip() for line in lock.read_text().splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    for line in wanted:
        try:
            _run([*pip, line])
        except ValueError as error:
            failed[line.partition("==")[0]] = str(error)
    if len(failed) == len(wanted):
        raise ValueError(f"pip could install none of {lock.name}: {whole}. Is there a package index within reach?")
    write_atomic(folder / FAILED, json.dumps(failed))


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _run(command: list[str]) -> str:
    """What the command printed. Raises ValueError with its error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(install_error(done.stderr or done.stdout))
    return done.stdout
