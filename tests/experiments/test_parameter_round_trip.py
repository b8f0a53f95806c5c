"""Any value that JSON holds is the same one behind YAML, `-p`, a grid, the kernel, the record and a resumed sweep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from specbeam.experiments.parameters import changed_parameters, parse_overrides, resolve_parameters
from specbeam.experiments.provenance import SOURCES, notebook_sha256, sources_sha256
from specbeam.experiments.records import RunRecord
from specbeam.experiments.sweep import SKIPPED, plan_sweep, state_on_disk
from specbeam.experiments.yaml_values import parse_yaml, yaml_text

KEYS = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("notebooks"), "x = None  # anything")


def write(folder: Path, parameters: str) -> Path:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "01_toy.ipynb")
    return folder / "01_toy.ipynb"


def in_kernel(values: dict[str, Any]) -> dict[str, Any]:
    """What the cell that papermill puts in gives the notebook."""
    seen: dict[str, Any] = {}
    exec(PythonTranslator.codify(values), {}, seen)
    return seen


def exactly(value: Any) -> str:
    """As JSON says it, which tells 1 from 1.0 and from true."""
    return json.dumps(value, sort_keys=True)


@given(VALUES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_value_is_the_same_behind_every_door(notebook: Path, value: Any) -> None:
    (point,) = plan_sweep(notebook, [f"x={yaml_text(value)}"])
    file = notebook.with_name("over.yaml")
    file.write_text(yaml.safe_dump({"all": {"x": value}}, default_style='"', allow_unicode=False), encoding="utf-8")
    by_hand = resolve_parameters(notebook, None, parse_overrides([f"x={yaml_text(value)}"]))
    by_file = resolve_parameters(notebook, file)
    seen = {"x": None, **in_kernel(changed_parameters(notebook, by_hand))}
    for found in (point.parameters, by_hand, by_file, seen):
        assert exactly(found["x"]) == exactly(value)

    out = notebook.with_name("runs")
    out.mkdir(exist_ok=True)
    record = RunRecord("01_toy", parameters=by_hand, metrics={"x": value}, notebook_sha256=notebook_sha256(notebook))
    record.versions[SOURCES] = sources_sha256()
    record.save(out / f"{point.name}.json")
    (out / f"{point.name}.ipynb").touch()
    loaded = RunRecord.load(out / f"{point.name}.json")
    assert exactly(loaded.parameters["x"]) == exactly(loaded.metrics["x"]) == exactly(value)
    assert state_on_disk(notebook, point, out).state == SKIPPED


@pytest.mark.parametrize(
    ("default", "given"),
    [({"a": 1}, {"a": True}), ({"a": 1}, {"a": 1.0}), ([[1]], [[True]]), ({"a": 0.0}, {"a": -0.0}), (0.0, -0.0)],
)
def test_a_value_that_python_takes_for_the_default_reaches_the_kernel(tmp_path: Path, default: Any, given: Any) -> None:
    notebook = write(tmp_path, f"x = {default!r}  # anything")
    resolved = resolve_parameters(notebook, None, {"x": given})
    seen = {"x": default, **in_kernel(changed_parameters(notebook, resolved))}
    assert exactly(seen["x"]) == exactly(resolved["x"]) == exactly(given)


@given(VALUES)
def test_what_a_page_tells_to_type_gives_the_value_again(value: Any) -> None:
    (word,) = shlex.split(shlex.join([f"x={yaml_text(value)}"]))
    assert exactly(parse_overrides([word])["x"]) == exactly(value)


@pytest.mark.parametrize("text", [*"\x7f\x80\x85\u2028\ufeff\0", "a\ufffe\uffff", "\U0001f600", "\t\r\n"])
def test_a_character_that_yaml_reads_otherwise_is_written_as_its_escape(text: str) -> None:
    assert parse_yaml(yaml_text({text: [text]}), "it") == {text: [text]}
