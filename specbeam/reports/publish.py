"""Executed notebooks that can be read where the repository is, and the page that says what they come from.

GitHub and the like show a notebook's outputs without its styles and scripts. So pictures are SVG or small PNG, widgets
go (each has a static twin beside it), and nothing names a path of the machine.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from specbeam.experiments.parameters import ParamsFiles, read_notebook, resolve_parameters
from specbeam.experiments.provenance import SOURCES, repository_root, sources_sha256
from specbeam.experiments.records import RunRecord, plain
from specbeam.files import cache_folder, here, write_atomic
from specbeam.pictures.drawing import duration

from .facts import pictures, title_of
from .notebook_page import TEMPLATES, shrink
from .outputs import without_scripts

RERUN = "Run it again: make run-notebooks, with the PARAMS that are published"
LIMIT = 6_000_000  # bytes of all files
PICTURE_SIZES = ((1000, 128), (800, 64), (640, 32))  # width in pixels, colours; tried until all fit


def publish(
    notebooks: Sequence[Path],
    runs_dir: str | Path = "build/runs",
    out_dir: str | Path = "notebooks/records",
    params_file: ParamsFiles | None = None,
    kept: Sequence[Path] = (),
) -> Path:
    """Write every notebook as its run left it, its record beside it, and a README.md; return the page's path.

    Prose is that of the sources, which may have changed since. Raises ValueError, with the notebook and the reason,
    before anything is written: where a run is missing, has failed, was of a dirty tree, of other code or of parameters
    other than those of `params_file`, and where all is larger than `LIMIT`.

    Args:
        kept: other notebooks, which stay as they were published before, of whatever commit.
    """
    root, runs_dir, out_dir = repository_root(), Path(runs_dir), Path(out_dir)
    if not notebooks:
        raise ValueError("there is no notebook to publish.")
    sources = sources_sha256()
    records = {path: _checked(path, runs_dir, params_file, sources) for path in notebooks}
    executed = {path: _with_prose(path, runs_dir / path.name) for path in notebooks}
    records |= {path: _checked(path, out_dir, params_file) for path in kept}
    executed |= {path: _with_prose(path, out_dir / path.name) for path in kept}
    folders = dict.fromkeys(notebooks, runs_dir) | dict.fromkeys(kept, out_dir)
    records = {path: records[path] for path in sorted(records)}
    executed = {path: executed[path] for path in records}
    titles = {path: title_of(notebook.cells) for path, notebook in executed.items()}
    names = {str(root): ".", str(cache_folder()): "~/.cache/specbeam"}
    with contextlib.suppress(ValueError):  # there is no home
        names[str(here("~"))] = "~"
    for width, colours in PICTURE_SIZES:
        files = {}
        for path, notebook in executed.items():
            files[path.name] = nbformat.writes(_readable(notebook, width, colours))
            files[f"{path.stem}.json"] = (folders[path] / f"{path.stem}.json").read_text(encoding="utf-8")
        page = TEMPLATES.get_template("records.md.j2").render(
            records=records, titles=titles, duration=duration, params=_named(params_file)
        )
        files = {name: _without_paths(text, names) for name, text in {**files, "README.md": page}.items()}
        size = sum(len(text.encode()) for text in files.values())
        if size <= LIMIT:
            break
    else:
        raise ValueError(f"the executed notebooks would have {size / 1e6:.1f} MB, more than {LIMIT / 1e6:g}.")
    for name, text in files.items():
        write_atomic(out_dir / name, text.rstrip() + "\n")
    for old in {*out_dir.glob("*.ipynb"), *out_dir.glob("*.json")} - {out_dir / name for name in files}:
        old.unlink()
    return out_dir / "README.md"


def changed_cells(source: Path, executed: Path) -> list[str]:
    """What the source of an executed notebook says that it did not say then: the new cells, code and prose."""
    then = {(cell.cell_type, cell.source) for cell in read_notebook(executed).cells}
    return [cell.source for cell in read_notebook(source).cells if (cell.cell_type, cell.source) not in then]


def _checked(path: Path, runs_dir: Path, params_file: ParamsFiles | None, sources: str | None = None) -> RunRecord:
    record = RunRecord.load(runs_dir / f"{path.stem}.json")
    problem = None
    if record.status != "ok":
        problem = f"failed: {record.error}"
    elif record.dirty is not False or not record.commit:
        problem = "was of a tree with changes that are in no commit, or of no repository"
    elif sources is not None and record.versions.get(SOURCES) != sources:
        problem = "was of other code than there is now"
    else:
        wanted = plain(resolve_parameters(path, params_file), "parameters")
        differing = [name for name, value in wanted.items() if record.parameters.get(name) != value]
        if differing:
            problem = f"had other parameters ({', '.join(differing)})"
    if problem is not None:
        raise ValueError(f"the run of {path.stem} in {runs_dir} {problem}. {RERUN}")
    return record


def _added(cell: Any) -> bool:
    """Whether papermill put the cell between those of the source."""
    return "injected-parameters" in cell.metadata.get("tags", [])


def _with_prose(source: Path, executed: Path) -> Any:
    """The executed notebook with the prose of its source. Raises ValueError where its code is another."""
    notebook, cells = read_notebook(executed), read_notebook(source).cells
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    added, runs = [*filter(_added, ran)], [cell for cell in ran if not _added(cell)]
    if [cell.source for cell in runs] != [cell.source for cell in cells if cell.cell_type == "code"]:
        raise ValueError(f"the code of {source} has changed since its run. {RERUN}")
    left, shown = iter(runs), []
    for cell in cells:
        shown.append(next(left) if cell.cell_type == "code" else cell)
        if "parameters" in cell.metadata.get("tags", []):
            shown += added
    notebook.cells = shown
    return notebook


def _readable(notebook: Any, width: int, colours: int) -> Any:
    """A copy with what shows itself without styles and scripts, pictures of this width at most."""
    copy: Any = nbformat.from_dict(json.loads(json.dumps(notebook)))
    copy.metadata.pop("widgets", None)
    copy.metadata.pop("papermill", None)
    for cell in copy.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_static, cell.outputs) if output is not None]
    for data, picture in list(pictures(copy.cells)):
        shrink(data, picture, width, colours)
    return copy


def _static(output: Any) -> Any:
    output = without_scripts(output)
    if output is not None and "image/svg+xml" in output.get("data", {}):
        output.data.pop("text/html", None)  # the same picture, which needs its style
    return output


def _without_paths(text: str, names: dict[str, str]) -> str:
    """The text with folders of the machine called by the names that everybody knows them by."""
    for folder in sorted(names, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(
                rf"(?<![A-Za-z0-9+]){re.escape(folder)}(?=[/\\\"'\s.,:;)]|$)",
                lambda _, short=names[folder]: short,
                text,
            )
    return text


def _named(params_file: ParamsFiles | None) -> str:
    """What readers call these parameters."""
    files = [params_file] if isinstance(params_file, str | Path) else [*(params_file or [])]
    return " and ".join(f"`{Path(each).stem}`" for each in files) or "the notebooks themselves"
