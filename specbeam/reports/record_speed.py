"""Speed-ups in records, whichever notebook wrote them, and a metric against the parameter that a sweep changed.

Notebooks record speed-ups in rows (`num_beams` beside `speedup`), under `speed` by method, or as plain numbers. What is
read here is what `pictures.plot_records` draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specbeam.experiments.record_table import Row, differing_parameters, is_number, text
from specbeam.pictures.plot_records import SpeedPoint, Sweep, medians

SPEEDS = ("speedup_same_target", "speedup")  # the first that a row has
NAMES = ("source", "method")  # what decoded


def speed_points(rows: Sequence[Row]) -> list[SpeedPoint]:
    """Every speed-up in the accepted runs of `rows`."""
    return [
        SpeedPoint(row.name, row.record.notebook, *values)
        for row in rows
        if row.record.status == "ok"
        for values in _in_rows(row) or _by_method(row) or _plain_numbers(row)
    ]


def sweeps(rows: Sequence[Row], parameter: str | None = None, metric: str | None = None) -> list[Sweep]:
    """A sweep for each notebook whose accepted runs differ in a number.

    `parameter` is the one with most values where it is not given, and `metric` the first key number.
    """
    accepted = [row for row in rows if row.record.status == "ok"]
    found = []
    for notebook, names in differing_parameters(row.record for row in accepted).items():
        runs = [row for row in accepted if row.record.notebook == notebook]
        numeric = {name: values for name in names if len(values := _numbers(runs, name)) > 1}
        chosen = parameter or max(numeric, key=lambda name: len(numeric[name]), default=None)
        wanted = metric or key_number(runs[0])
        if chosen not in numeric or wanted is None:
            continue
        others = [name for name in names if name != chosen]
        settings: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        for row in runs:
            place, value = row.record.parameters.get(chosen), row.values.get(f"metrics.{wanted}")
            if is_number(place) and is_number(value):
                setting = tuple(text(row.record.parameters.get(name)) for name in others)
                settings.setdefault(setting, []).append((place, value))
        lines = _labelled(others, {key: sorted(line) for key, line in settings.items() if len(medians(line)) > 1})
        if lines:
            found.append(Sweep(notebook, chosen, wanted, lines))
    return found


def _labelled(names: Sequence[str], settings: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """The lines under those names and values in which they differ."""
    columns = [len(set(column)) > 1 for column in zip(*settings, strict=True)]
    return {
        ", ".join(f"{name}={value}" for name, value, shown in zip(names, key, columns, strict=False) if shown): line
        for key, line in settings.items()
    }


def key_number(row: Row) -> str | None:
    """Name of the first plain number among the metrics."""
    return next((name for name, value in row.record.metrics.items() if is_number(value)), None)


def walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every dict inside a record's value that says `num_beams`, with the names that lead to it."""
    if isinstance(value, Mapping):
        if type(value.get("num_beams")) is int:
            yield path, value
        for name, item in value.items():
            yield from walk(item, (*path, str(name)))
    elif isinstance(value, list):
        for item in value:
            yield from walk(item, path)


def promises(item: Mapping[str, Any]) -> bool:
    """Whether the method of a comparison's row promises its baseline's tokens, as all do that have no label."""
    return item.get("label", "exact") == "exact"


def _in_rows(row: Row) -> list[tuple[Any, ...]]:
    found = []
    for _, item in walk(row.record.metrics):
        if item.get("ours") is False or ("plain" in item and item.get("method") == item["plain"]):
            continue  # a baseline
        values = next((item[name] for name in SPEEDS if name in item), None)
        if isinstance(values, Mapping) and item.get("plain") in values:
            values = values[item["plain"]]
        if values is None and is_number(item.get("tree_s")) and item["tree_s"] and is_number(item.get("copies_s")):
            values = item["copies_s"] / item["tree_s"]
        if (speed := _middle(values)) is not None:
            found.append((_series(item), item["num_beams"], speed, promises(item)))
    return found


def _by_method(row: Row) -> list[tuple[Any, ...]]:
    methods = row.record.metrics.get("speed")
    found = []
    for method, many in methods.items() if isinstance(methods, Mapping) else ():
        beams = _beams(row) if "beam" in method else 1
        values = many.values() if isinstance(many, Mapping) else [many]
        found += [(method, beams, speed) for value in values if (speed := _middle(value)) is not None]
    return found


def _plain_numbers(row: Row) -> list[tuple[Any, ...]]:
    return [
        (name.partition("_")[2] or name, _beams(row), speed)
        for name, value in row.record.metrics.items()
        if name.startswith(("speed_", "speedup")) and (speed := _middle(value)) is not None
    ]


def _beams(row: Row) -> int:
    beams = row.record.parameters.get("num_beams")
    return beams if type(beams) is int else 1


def _series(item: Mapping[str, Any]) -> str:
    name = next((str(item[name]) for name in NAMES if item.get(name)), "")
    if not name and "num_assistant_tokens" in item:
        return f"{text(item['num_assistant_tokens'])} nodes"
    return (name or "the tree") if promises(item) else f"{name} ({item['label']})"


def _middle(value: Any) -> float | None:
    """A number, or the middle of a spread of repeats or of an interval."""
    if isinstance(value, Mapping):
        value = value.get("median", value.get("value"))
    return value if is_number(value) else None


def _numbers(rows: Sequence[Row], parameter: str) -> set[float]:
    return {value for row in rows if is_number(value := row.record.parameters.get(parameter))}
