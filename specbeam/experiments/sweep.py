"""A grid of parameter values as runs of one notebook, each done once.

The records on disk alone say what is done: a sweep keeps no state of its own, so a killed one goes on where it
stopped. A point is done when its record says "ok" and was made with the same resolved parameters, the same notebook and
the same sources of this package. Notebook and sources are compared by hash, which is stricter than a commit with local
changes and does not mind a commit that touches neither. Anything else is run again.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbeam.files import exclusive

from .parameters import Parameter, ParamsFiles, json_text, read_parameters, resolve_parameters, split_assignment
from .provenance import SOURCES, notebook_sha256, sources_sha256
from .records import RunRecord, plain
from .runner import RunFailed, checked_name, refuse_foreign, run_notebook
from .yaml_values import parse_yaml

WAITING, RUNNING, DONE, SKIPPED, FAILED = STATES = ("waiting", "running", "done", "skipped", "failed")
VALUE_LENGTH, NAME_LENGTH = 40, 150  # characters; file systems allow 255 bytes, and suffixes come on top


@dataclass(frozen=True)
class Point:
    """One run of a sweep: its name, its grid values, and all of its parameters."""

    name: str
    values: Mapping[str, Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """The state that a point is in from now on. `remark` says why or where, `seconds` how long a finished run took."""

    point: Point
    state: str
    remark: str = ""
    seconds: float | None = None


Executor = Callable[[Sequence[Point]], Iterator[Change]]  # runs points and yields every change of their states


def plan_sweep(
    notebook: str | Path,
    grid: Iterable[str],
    params_file: ParamsFiles | None = None,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> list[Point]:
    """The points of a grid given as `parameter=value,value` texts; the first parameter varies slowest.

    Values are YAML, so a list-valued parameter takes `[2,4],[8]`. Names begin with `name` (default: the notebook's) and
    depend on nothing but the point's own grid values. Raises ValueError, before anything runs, for an empty grid,
    unknown parameters, values of a wrong type, and values or parameters given twice.
    """
    notebook, overrides = Path(notebook), overrides or {}
    parameters = read_parameters(notebook)
    axes = _axes(grid, parameters)
    for twice in axes.keys() & overrides.keys():
        raise ValueError(f"parameter {twice} is in the grid and set by -p: give it once.")
    head = checked_name(notebook.stem if name is None else name)
    points: list[Point] = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        resolved = resolve_parameters(notebook, params_file, {**overrides, **chosen})
        in_order = {key: chosen[key] for key in parameters if key in chosen}
        points.append(Point(_name(head, in_order), in_order, plain(resolved, "parameters")))
    names: dict[str, Point] = {}
    for point in points:  # folded, because some file systems do not tell a from A
        if (other := names.setdefault(point.name.casefold(), point)) is not point:
            raise ValueError(
                f"Two runs of the same name: {other.values} and {point.values} are both {point.name}. "
                "Put them into two sweeps, each with a --name of its own."
            )
    return points


def run_sweep(
    notebook: str | Path,
    points: Sequence[Point],
    out_dir: str | Path,
    executor: Executor,
    report: Callable[[Change], None],
    replace: bool = False,
) -> None:
    """Run the points that are not done, and `report` every change. A failed point does not stop the others.

    `replace` runs every point again, also where a run of its name has other parameters. Raises ValueError, before
    anything runs, when another sweep writes to `out_dir`, or when a name is taken: by another notebook, or by a run
    with other parameters.
    """
    notebook, out_dir = Path(notebook), Path(out_dir)
    busy = f"Another sweep writes to {out_dir}: wait for it, or give this one another --out-dir."
    with exclusive(out_dir / ".sweep.lock", busy):
        changes = [state_on_disk(notebook, point, out_dir, replace) for point in points]
        for change in changes:
            report(change)
        for change in executor([change.point for change in changes if change.state == WAITING]):
            report(change)


def state_on_disk(notebook: Path, point: Point, out_dir: Path, replace: bool = False) -> Change:
    """Skipped when the records on disk have the point as done, otherwise waiting; `remark` is the reason.

    Raises ValueError when a run of the same name exists that is a different experiment.
    """
    refuse_foreign(out_dir, point.name, notebook.stem)
    path = out_dir / f"{point.name}.json"
    if not path.is_file():
        return Change(point, WAITING)
    try:
        record = RunRecord.load(path)
    except ValueError:
        return Change(point, WAITING, "its record is broken")
    if record.status != "ok":
        return Change(point, WAITING, "failed before")
    if replace:
        return Change(point, WAITING, "run again as asked")
    shared = {name: json_text(value) for name, value in point.parameters.items() if name in record.parameters}
    then = {name: json_text(record.parameters[name]) for name in shared}
    if other := [name for name in shared if shared[name] != then[name]]:
        had = ", ".join(f"{name}={then[name]} instead of {shared[name]}" for name in other)
        raise ValueError(
            f"Two runs of the same name: {path} is a run with {had}. "
            "Give this sweep another --name to keep both, or --replace that one."
        )
    if not path.with_name(f"{point.name}.ipynb").is_file():
        return Change(point, WAITING, "its notebook is missing")
    if record.notebook_sha256 != notebook_sha256(notebook) or shared.keys() != point.parameters.keys():
        return Change(point, WAITING, "the notebook has changed")
    if record.versions.get(SOURCES) != sources_sha256():
        return Change(point, WAITING, "specbeam has changed")
    return Change(point, SKIPPED, "done before", record.seconds)


def run_here(notebook: str | Path, out_dir: str | Path, timeout: float | None = None) -> Executor:
    """An executor that runs one point after the other on this machine, so that their timings can be compared."""

    def run(points: Sequence[Point]) -> Iterator[Change]:
        for point in points:
            yield Change(point, RUNNING)
            options: dict[str, Any] = {"name": point.name, "timeout": timeout, "progress": False}
            try:
                record = run_notebook(notebook, None, point.parameters, out_dir, **options)
            except RunFailed as error:
                yield Change(point, FAILED, error.record.error or "", error.record.seconds)
            except (ValueError, OSError) as error:  # edited meanwhile, for one; the other points may still run
                yield Change(point, FAILED, " ".join(str(error).split()))
            else:
                yield Change(point, DONE, seconds=record.seconds)

    return run


def _axes(grid: Iterable[str], parameters: Mapping[str, Parameter]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    for text in grid:
        name, items = split_assignment(text, "A grid")
        if name not in parameters:
            raise ValueError(f"grid {text!r}: unknown parameter {name!r}; there are: {', '.join(sorted(parameters))}")
        if name in axes:
            raise ValueError(f"parameter {name} is in the grid twice: give all of its values at once.")
        values = parse_yaml(f"[{items}]", f"grid {text!r}")
        if not values:
            raise ValueError(f"grid {text!r} has no values: give at least one, as in --grid {name}=1,2.")
        try:
            axes[name] = [plain(parameters[name].check(value), name) for value in values]
        except ValueError as error:
            hint = "; values are YAML, and lists stand in brackets" if type(parameters[name].default) is list else ""
            raise ValueError(f"grid {text!r}: {error}{hint}") from None
        texts = [json_text(value) for value in axes[name]]
        if twice := next((item for item in texts if texts.count(item) > 1), None):
            raise ValueError(f"grid {text!r} has the value {twice} twice.")
    if not axes:
        raise ValueError("A sweep needs a grid, as in --grid num_beams=2,4,8.")
    return axes


def _name(head: str, values: Mapping[str, Any]) -> str:
    name = "__".join([head, *(f"{key}={_slug(value)}" for key, value in values.items())])
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH].rstrip('-_.=')}-{_hash([head, dict(values)])}"


def _slug(value: Any) -> str:
    """The value in characters that file names may have, with a hash where another value would look the same."""
    if not isinstance(value, str | list | dict):
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value)
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", text)[:VALUE_LENGTH].strip("-.")
    means_itself = slug == value and isinstance(parse_yaml(slug, "value"), str)  # and no number or truth value
    return slug if means_itself else f"{slug}-{_hash(value)}".lstrip("-")


def _hash(value: Any) -> str:
    return hashlib.sha256(json_text(value).encode()).hexdigest()[:6]
