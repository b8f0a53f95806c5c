"""What an experiment leaves behind: one JSON file beside the executed notebook.

A record says what was run (parameters, notebook, commit, models), on what (versions, device, threads), and what
came out (metrics, timings with their spread). It holds JSON values only, so it can be read without this package.
"""

import hashlib
import json
import math
import os
import platform
import secrets
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

RECORD_VARIABLE = "SPECBEAM_RECORD"  # where the runner wants the record
NOTEBOOK_VARIABLE = "SPECBEAM_NOTEBOOK"  # the source that the runner executes
PACKAGES = ("specbeam", "torch", "transformers", "tokenizers", "numpy")
STATUSES = ("ok", "failed")


@dataclass
class RunRecord:
    """One run. `metrics` keeps its order: reports show its first plain numbers as the key numbers."""

    notebook: str
    status: str = "ok"
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)  # name → spread, in the unit that the name ends in
    warmups: int | None = None
    repeats: int | None = None
    seeds: list[int] = field(default_factory=list)
    models: dict[str, Any] = field(default_factory=dict)  # "target", "draft" → class, name, revision, dtype
    device: str | None = None
    dtype: str | None = None
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    commit: str | None = None
    dirty: bool | None = None
    notebook_sha256: str | None = None
    finished: str = ""
    seconds: float | None = None
    error: str | None = None

    @classmethod
    def collect(
        cls,
        notebook: str,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, Any],
        timings: Mapping[str, Any] | None = None,
        pair: Any = None,
        *,
        seeds: Iterable[int] | None = None,
        warmups: int | None = None,
        repeats: int | None = None,
    ) -> "RunRecord":
        """Put a record together from what the notebook measured and what the process knows.

        `timings` holds a list of measurements, or their spread, for each name. `pair` is what `load_pair` returns.
        Seeds, warm-ups and repeats are taken from parameters of these names when they are not given.
        Raises ValueError for what JSON cannot hold: a NaN or infinite number, an unknown type.
        """
        if seeds is None:
            seeds = parameters.get("seeds", parameters.get("seed", []))
        if not isinstance(seeds, Iterable):
            seeds = [seeds] if seeds is not None else []
        return cls(
            notebook=notebook,
            parameters=plain(parameters, "parameters"),
            metrics=plain(metrics, "metrics"),
            timings={name: _timing(name, value) for name, value in (timings or {}).items()},
            warmups=parameters.get("warmups") if warmups is None else warmups,
            repeats=parameters.get("repeats") if repeats is None else repeats,
            seeds=[int(seed) for seed in seeds],
            **_models(pair),
            **environment(notebook),
        )

    def save(self, path: str | Path | None = None) -> Path:
        """Write the record atomically and return its path.

        Without a path it goes where the runner asked for it, or else to build/runs/<notebook>.json of the repository.
        Raises ValueError for what JSON cannot hold.
        """
        asked = path or os.environ.get(RECORD_VARIABLE)
        target = Path(asked) if asked else repository_root() / "build" / "runs" / f"{self.notebook}.json"
        document = plain(asdict(self), "record")
        return write_atomic(target, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "RunRecord":
        """Read a record. Raises ValueError when the file is missing, cut short, or no record."""
        path = Path(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"There is no record at {path}: run the notebook first.") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not complete JSON ({error}): run the notebook again.") from error
        if not isinstance(document, dict) or not isinstance(document.get("notebook"), str):
            raise ValueError(f"{path} is not a run record: it has no 'notebook' name.")
        names = {item.name for item in fields(cls)}
        if unknown := sorted(document.keys() - names):
            raise ValueError(f"{path} is not a run record of this version: unknown field {unknown[0]!r}.")
        record = cls(**document)
        for name in ("parameters", "metrics", "timings", "models", "versions"):
            if not isinstance(getattr(record, name), dict):
                raise ValueError(f"{path}: {name!r} must be an object, it is {getattr(record, name)!r}.")
        if record.status not in STATUSES:
            raise ValueError(f"{path}: status must be one of {', '.join(STATUSES)}, it is {record.status!r}.")
        return record


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, minimum, maximum and count of repeated measurements. Raises ValueError when there are none."""
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("A spread needs at least one measurement, and there are none.")
    return {
        "median": statistics.median(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "n": len(numbers),
    }


def write_atomic(path: str | Path, text: str) -> Path:
    """Write text so that `path` holds all of it or what it held before. Makes missing folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def plain(value: Any, where: str) -> Any:
    """The value as JSON holds it: tensors and arrays as lists, paths and dtypes as text.

    Raises ValueError naming the place (`where`) of what cannot be held.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: record a finite number, or None where there is no value.")
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), where)
    if isinstance(value, Path) or type(value).__module__ == "torch":
        return str(value)
    raise ValueError(f"{where} is a {type(value).__name__}: record numbers, text, lists and dicts of them.")


def environment(notebook: str) -> dict[str, Any]:
    """The fields of a record that the process knows by itself."""
    root = repository_root()
    source = Path(os.environ.get(NOTEBOOK_VARIABLE) or root / "notebooks" / f"{notebook}.ipynb")
    status = _git(root, "status", "--porcelain")
    return {
        "threads": _threads(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
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


def _timing(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return plain(value, f"timings.{name}")
    return plain(spread(value if isinstance(value, Iterable) else [value]), f"timings.{name}")


def _models(pair: Any) -> dict[str, Any]:
    target = getattr(pair, "target", None)
    if target is None:
        return {}
    described = {role: _model(getattr(pair, role)) for role in ("target", "draft") if getattr(pair, role, None)}
    dtype = getattr(target, "dtype", None)
    return {
        "models": {"pair": str(getattr(pair, "name", "")), **described},
        "device": str(target.device) if hasattr(target, "device") else None,
        "dtype": str(dtype).removeprefix("torch.") if dtype is not None else None,
    }


def _model(model: Any) -> dict[str, Any]:
    config = getattr(model, "config", None)
    described = {
        "class": type(model).__name__,
        "name": getattr(config, "_name_or_path", None) or None,
        "revision": getattr(config, "_commit_hash", None),
        "dtype": str(model.dtype).removeprefix("torch.") if hasattr(model, "dtype") else None,
    }
    return {name: value for name, value in described.items() if value is not None}


def _threads() -> int | None:
    import torch  # here, because reading a record should not cost a second

    return torch.get_num_threads()


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
