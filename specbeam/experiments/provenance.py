"""Where a run happened: versions, threads, machine, git commit, and hashes of the notebook and of this package."""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from collections import Counter
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from .cpu import cpu

NOTEBOOK_VARIABLE = "SPECBEAM_NOTEBOOK"  # the source that the runner executes
SOURCES = "specbeam_sources"  # the entry of a record's versions that holds `sources_sha256`
PACKAGES = ("specbeam", "torch", "transformers", "tokenizers", "numpy")


def environment(notebook: str) -> dict[str, Any]:
    """The fields of a record that the process knows by itself."""
    import torch  # here, because reading a record should not cost a second

    root = repository_root()
    source = Path(os.environ.get(NOTEBOOK_VARIABLE) or root / "notebooks" / f"{notebook}.ipynb")
    status = _git(root, "status", "--porcelain")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kinds = Counter(torch.cuda.get_device_name(index) for index in range(gpus))  # a record's device is only "cuda:0"
    processor = cpu()
    widest = [unit.upper() for unit in processor["vector_units"] if unit != "fma"][-1:]
    machine = [f"{platform.system()} {platform.machine()}", processor["name"], *widest, f"{os.cpu_count()} cores"]
    return {
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": ", ".join(machine + [f"{count} × {name}" for name, count in kinds.items()]),
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


def sources_sha256() -> str:
    """Hash of this package's Python files, schema and weights, which says more than a commit with local changes."""
    folder, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted({*folder.rglob("*.py"), *folder.rglob("*.json"), *folder.glob("drafts/weights/*/*")}):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def repository_root() -> Path:
    """The nearest folder above the working directory that holds a pyproject.toml, else the working directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
