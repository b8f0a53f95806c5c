"""Where a run happened: versions, threads, machine, git commit, and hashes of the notebook and of this package."""

import contextlib
import hashlib
import json
import os
import platform
import re
from collections import Counter
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from . import repository
from .cpu import cpu

NOTEBOOK_VARIABLE = "SPECBEAM_NOTEBOOK"  # the source that the runner executes
SOURCES = "specbeam_sources"  # the entry of a record's versions that holds `sources_sha256`
PACKAGES = ("specbeam", "torch", "transformers", "tokenizers", "numpy")
PACKAGE = Path(__file__).resolve().parents[1]


def environment(notebook: str, source: Path | None = None) -> dict[str, Any]:
    """The fields of a record that the process knows by itself.

    source: the notebook's file; by default the one that the runner executes, or else that of the repository.
    """
    import torch  # here, because reading a record should not cost a second

    source = source or Path(os.environ.get(NOTEBOOK_VARIABLE) or repository_root() / "notebooks" / f"{notebook}.ipynb")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kinds = Counter(torch.cuda.get_device_name(index) for index in range(gpus))  # a record's device is only "cuda:0"
    processor = cpu()
    widest = [unit.upper() for unit in processor["vector_units"] if unit != "fma"][-1:]
    machine = [f"{platform.system()} {platform.machine()}", processor["name"], *widest, f"{os.cpu_count()} cores"]
    return {
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": ", ".join(machine + [f"{count} × {name}" for name, count in kinds.items()]),
        **origin(source),
        "notebook_sha256": notebook_sha256(source) if source.is_file() else None,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def origin(notebook: Path) -> dict[str, Any]:
    """The fields of a record that say which commit of specbeam's own checkout ran, None where there is no such thing.

    `dirty` says whether that checkout has changed something that it tracks, or whether the commit lacks a file of the
    package, the notebook, or a module beside it. A notebook of another repository is told by its hash alone.
    """
    ours = _own_checkout()
    if ours.commit is None:
        return {"commit": None, "dirty": None}
    theirs = repository.held(notebook)
    within = theirs.commit is not None and theirs.root == ours.root
    lacks = not within and notebook.is_file() and ours.root in notebook.resolve().parents
    beside = theirs.path.rpartition("/")[0] if within else None
    return {"commit": ours.commit, "dirty": lacks or _dirty(ours.root, beside)}


def _own_checkout() -> repository.Held:
    """The commit of this package, if it is checked out as specbeam and not as a part of something else."""
    ours = repository.held(PACKAGE / "__init__.py")
    if ours.path != f"{PACKAGE.name}/__init__.py":
        return repository.Held()
    try:
        project = repository.text_at(ours.root, "pyproject.toml")
    except repository.Unknown:
        return repository.Held()
    name = re.search(r"""^name\s*=\s*["']([^"']*)["']""", project, re.MULTILINE)
    return ours if name and name[1] == "specbeam" else repository.Held()


def _dirty(root: Path, beside: str | None) -> bool | None:
    """Whether a checkout differs from its commit in what a run may have read; None where git does not tell.

    beside: a folder of which only modules count, because runs may leave their records there.
    """
    try:
        if repository.changed(root) or repository.untracked(root, PACKAGE.name):
            return True
        return beside is not None and any(path.endswith(".py") for path in repository.untracked(root, beside))
    except repository.Unknown:
        return None


def notebook_sha256(path: str | Path) -> str:
    """Hash of a notebook's cells without their outputs, so that saving it from JupyterLab changes nothing."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    sources = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def sources_sha256() -> str:
    """Hash of this package's Python files, schema and weights, which says more than a commit with local changes."""
    digest = hashlib.sha256()
    for path in sorted({*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.json"), *PACKAGE.glob("drafts/weights/*/*")}):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{path.stat().st_size}\0".encode())
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
