"""Where a run happened: versions, threads, machine, git commit, and the notebook's hash."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

NOTEBOOK_VARIABLE = "SPECBEAM_NOTEBOOK"  # the source that the runner executes
PACKAGES = ("specbeam", "torch", "transformers", "tokenizers", "numpy")


def environment(notebook: str) -> dict[str, Any]:
    """The fields of a record that the process knows by itself."""
    root = repository_root()
    source = Path(os.environ.get(NOTEBOOK_VARIABLE) or root / "notebooks" / f"{notebook}.ipynb")
    status = _git(root, "status", "--porcelain")
    return {
        "threads": _threads(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": ", ".join([f"{platform.system()} {platform.machine()}", f"{os.cpu_count()} cores", *_gpus()]),
        "commit": _git(root, "rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "notebook_sha256": notebook_sha256(source) if source.is_file() else None,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def notebook_sha256(path: str | Path) -> str:
    """Hash of a notebook's cells without their outputs, so that saving it from JupyterLab changes nothing."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    sources = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def repository_root() -> Path:
    """The nearest folder above the working directory that holds a pyproject.toml, else the working directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


def _threads() -> int | None:
    import torch  # here, because reading a record should not cost a second

    return torch.get_num_threads()


def _gpus() -> list[str]:
    """Each kind of GPU once: a record's device says only "cuda:0"."""
    import torch

    if not torch.cuda.is_available():
        return []
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)]


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
