"""What an experiment leaves behind: one JSON file beside the executed notebook.

A record says what was run (parameters, notebook, commit, models), on what (versions, device, threads), and what
came out (metrics, timings with their spread). It holds JSON values only, so it can be read without this package:
`record_schema` describes the file.
"""

import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from specbeam.files import write_atomic
from specbeam.text import is_whole

from . import record_schema
from .provenance import environment, repository_root
from .record_models import describe

RECORD_VARIABLE = "SPECBEAM_RECORD"  # where the runner wants the record


@dataclass
class RunRecord:
    """One run. `metrics` keeps its order: reports show its first plain numbers as the key numbers."""

    notebook: str
    status: str = "ok"
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)  # name -> spread, in the unit that the name ends in
    warmups: int | None = None
    repeats: int | None = None
    seeds: list[int] = field(default_factory=list)
    models: dict[str, Any] = field(default_factory=dict)  # as `record_models.describe` returns it
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
    schema: int = record_schema.VERSION

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
            **describe(pair),
            **environment(notebook),
        )

    def save(self, path: str | Path | None = None) -> Path:
        """Write the record atomically and return its path.

        Without a path it goes where the runner wants it, or else to build/runs/<notebook>.json of the repository.
        Raises ValueError for what JSON cannot hold.
        """
        default = repository_root() / "build" / "runs" / f"{self.notebook}.json"
        document = plain({"schema": self.schema, **asdict(self)}, "record")
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if not is_whole(text):  # JSON has an escape for what no UTF-8 has
            text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        return write_atomic(path or os.environ.get(RECORD_VARIABLE) or default, text)

    @classmethod
    def load(cls, path: str | Path) -> "RunRecord":
        """Read a record, of an older format too (`record_schema` lists them).

        Raises ValueError, with the path and the field, when the file is missing, cut short, or no record.
        """
        path = Path(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        except FileNotFoundError:
            raise ValueError(f"There is no record at {path}: run the notebook first.") from None
        except OSError as error:
            raise ValueError(f"The record {path} cannot be read: {error.strerror or error}.") from error
        except (ValueError, RecursionError) as error:  # json's own errors are ValueErrors
            raise ValueError(f"{path} is not complete JSON ({error}): run the notebook again.") from error
        if not isinstance(document, dict) or "notebook" not in document:
            raise ValueError(f"{path} is not a run record: it has no 'notebook' name.")
        try:
            document = record_schema.upgrade(document)
            record_schema.check(document)
        except ValueError as error:
            raise ValueError(f"{path} is not a run record that can be read: {error}") from None
        return cls(**document)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, minimum, maximum and count of repeated measurements. Raises ValueError when there are none."""
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("A spread needs at least one measurement, and there are none.")
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers), "n": len(numbers)}


def plain(value: Any, where: str, *, nan_as_null: bool = False) -> Any:
    """The value as JSON holds it: tensors and arrays as lists, paths and dtypes as text.

    Raises ValueError naming the place (`where`) of what cannot be held. NaN and infinity, which JSON cannot hold
    either, become null with `nan_as_null`.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        if nan_as_null:
            return None
        raise ValueError(f"{where} is {value}: record a finite number, or None where there is no value.")
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}", nan_as_null=nan_as_null) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, f"{where}[{index}]", nan_as_null=nan_as_null) for index, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), where, nan_as_null=nan_as_null)
    if isinstance(value, Path) or type(value).__module__ == "torch":
        return str(value)
    raise ValueError(f"{where} is a {type(value).__name__}: record numbers, text, lists and dicts of them.")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _timing(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        value = spread(value if isinstance(value, Iterable) else [value])
    return plain(value, f"timings.{name}")
