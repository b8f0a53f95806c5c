"""The checkpoint as each library wants it, made once, its weights compared with the checkpoint's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .environment import Environment

CONVERT = Path(__file__).with_name("workers") / "convert.py"
LIMIT_S = 1800


def converted(
    script: Path, source: Path, end_token: int, environment: Environment, build: Path, say: Callable[[str], None]
) -> Path:
    """The folder with the model that `script` made of the Hugging Face folder `source`; older ones of it go.

    `verified.json` in it says how many rows of weights were found to be those of the checkpoint.

    Raises ValueError with the converter's last words if it fails, or if a weight differs.
    """
    made_by = f"{script.read_text()}{CONVERT.read_text()}{environment.key}{source.name}{end_token}"
    folder = build / f"{script.stem}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    say(f"Converting {source.name} into {folder} (once, less than a minute) …")
    scratch, log = folder.with_name(f".{folder.name}.converting"), build / f"{script.stem}.convert.log"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    arguments = [script, source, scratch, end_token, environment.packages]
    command = [sys.executable, str(CONVERT), *map(str, arguments)]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        with log.open("w") as stream:
            done = subprocess.run(command, stdout=stream, stderr=stream, env=offline, timeout=LIMIT_S)
        if done.returncode:
            raise ValueError(f"the conversion failed: {last_line(log)}")
        for old in build.glob(f"{script.stem}-*"):
            shutil.rmtree(old)
        scratch.rename(folder)
    except subprocess.TimeoutExpired:
        raise ValueError(f"the conversion took more than {LIMIT_S} s; its output is in {log}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def verified(folder: Path) -> dict[str, int]:
    """How many tensors and different rows of the checkpoint are in the converted model, bit for bit: all."""
    return json.loads((folder / "verified.json").read_text())


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"
