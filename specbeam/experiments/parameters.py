"""Parameters of a notebook: one tagged cell, whose values YAML files and overrides replace.

The cell holds one literal a line with a `# help` comment, and the type of the literal is the type of the parameter.
A name that the cell lacks, or a value of another type, is a ValueError that names what exists.
"""

import ast
import contextlib
import io
import json
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbeam.text import read_utf8

from .parameter_paths import settled_value
from .yaml_values import check_value, parse_yaml

ParamsFiles = str | Path | Sequence[str | Path]  # one parameters file, or a base file and its overlays in order


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell."""

    name: str
    default: Any
    help: str

    def check(self, value: Any) -> Any:
        """The value, as the default's type. Raises ValueError for another type, and for what no record can hold."""
        kind = type(self.default)
        kinds = {type(item) for item in self.default} if kind is list else set()
        if kind is float:
            value = _as_float(value)
        elif kinds == {float} and type(value) is list:
            value = [_as_float(item) for item in value]
        check_value(value, f"parameter {self.name}")
        if self.default is None:
            return value
        if type(value) is not kind:
            raise ValueError(
                f"parameter {self.name} = {value!r} is of type {_kind(value)}, "
                f"and the notebook expects {_kind(self.default)}, as in {self.default!r}"
                + ("; write it in quotes" if kind is str and not isinstance(value, (list, dict)) else "")
            )
        wrong = [item for item in value if type(item) not in kinds] if len(kinds) == 1 else []
        if wrong:
            raise ValueError(
                f"parameter {self.name} holds {wrong[0]!r} of type {_kind(wrong[0])}, "
                f"and the notebook expects a list of {kinds.pop().__name__}"
            )
        return value


def read_parameters(path: str | Path) -> dict[str, Parameter]:
    """Name -> parameter of a notebook, in the order of its parameters cell.

    Raises ValueError when the notebook cannot be read, has no or several such cells, or a line is no literal.
    """
    path = Path(path)
    sources = _parameters_cells(path)
    if len(sources) != 1:
        raise ValueError(f"{path} needs exactly one cell tagged 'parameters', and it has {len(sources)}.")
    source = sources[0]
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"{path}: the parameters cell is not Python: {error}.") from error
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    parameters: dict[str, Parameter] = {}
    for statement in statements:
        text = ast.get_source_segment(source, statement)
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value, lineno=first, end_lineno=last):
                lines = range(first, (last or first) + 1)
            case _:
                raise ValueError(f"{path}: the parameters cell may hold only lines like name = literal, not {text!r}.")
        try:
            default = ast.literal_eval(value)
        except ValueError:
            raise ValueError(f"{path}: parameter {name} must be a literal, not {text!r}.") from None
        check_value(default, f"{path}: parameter {name}")
        parameters[name] = Parameter(name, default, " ".join(comments[n] for n in lines if n in comments))
    return parameters


def load_params(source: str | Path, folder: str | Path = "notebooks") -> dict[str, dict[str, Any]]:
    """Sections of a parameters file: `all`, and one for each notebook name.

    `source` is a path, or the name of a file in `folder`/params such as "smoke". Every section is checked against the
    notebooks in `folder`. Raises ValueError for a missing or malformed file, an unknown notebook, name or type.
    """
    known = Path(folder) / "params"
    path = Path(source) if Path(source).suffix else known / f"{source}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(item.stem for item in known.glob("*.yaml"))) or "none"
        raise ValueError(f"There is no parameters file {path}; in {known} there are: {names}.")
    sections = parse_yaml(read_utf8(path), str(path)) or {}
    if not isinstance(sections, dict) or not all(isinstance(item or {}, dict) for item in sections.values()):
        raise ValueError(f"{path} must hold 'all:' and notebook names, each with lines of name: value below it.")
    sections = {str(name): values or {} for name, values in sections.items()}
    parameters = {item.stem: read_parameters(item) for item in sorted(Path(folder).glob("*.ipynb"))}
    for section, values in sections.items():
        if section != "all" and section not in parameters:
            raise ValueError(f"{path} has a section {section!r}, and the notebooks are: {', '.join(parameters)}.")
        scope = parameters if section == "all" else {section: parameters[section]}
        check_values(values, scope, f"{path}, section {section!r}")
    return sections


def resolve_parameters(
    path: str | Path,
    params_file: ParamsFiles | None = None,
    overrides: Mapping[str, Any] | None = None,
    settle: bool = True,
) -> dict[str, Any]:
    """All parameters of a notebook: its defaults, then each file's `all` and its own section, then the overrides.

    Of several files a later one takes precedence, its `all` too. Relative paths in files and overrides are seen from
    the working directory, and with `settle` absolute in what is returned (`parameter_paths`). Raises ValueError for an
    unknown name or a wrong type, wherever it comes from.
    """
    path = Path(path)
    parameters = read_parameters(path)
    values: dict[str, Any] = {}
    for file in [params_file] if isinstance(params_file, (str, Path)) else params_file or []:
        sections = load_params(file, path.parent)
        values |= {name: value for name, value in sections.get("all", {}).items() if name in parameters}
        values |= sections.get(path.stem, {})
    check_values(overrides or {}, {path.stem: parameters}, "overrides")
    values |= overrides or {}
    resolved = {name: item.default for name, item in parameters.items()}
    for name, value in values.items():
        checked = parameters[name].check(value)
        resolved[name] = settled_value(checked, parameters[name].help) if settle else checked
    return resolved


def changed_parameters(path: str | Path, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved parameters that differ from the notebook's defaults."""
    defaults = {name: item.default for name, item in read_parameters(path).items()}
    return {name: resolved[name] for name, value in defaults.items() if json_text(resolved[name]) != json_text(value)}


def json_text(value: Any) -> str:
    """JSON, which tells 1 from 1.0 and from true, where Python's == does not."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """`name=value` texts, the value read as YAML. Raises ValueError for another form, and a name given twice."""
    overrides: dict[str, Any] = {}
    for text in assignments:
        name, value = split_assignment(text, "An override")
        if name in overrides:
            raise ValueError(f"the override {text!r} is the second one of {name}; give it once.")
        overrides[name] = parse_yaml(value, f"override {text!r}")
    return overrides


def split_assignment(text: str, what: str) -> tuple[str, str]:
    """Name and value of `name=value`. Raises ValueError, saying `what` has that form, for another text."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip().isidentifier():
        raise ValueError(f"{what} has the form name=value, and {text!r} has not.")
    return name.strip(), value


def read_notebook(path: Path) -> Any:
    """The notebook as nbformat's version 4. Raises ValueError when it is missing or no notebook."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ValueError(f"There is no notebook {path}.") from None
    except Exception as error:  # nbformat raises its own and json's errors for the same thing
        raise ValueError(f"{path} is not a notebook: {error}") from error


def _parameters_cells(path: Path) -> list[str]:
    # Every notebook asks for its own: importing nbformat, whose validation takes seconds to import, is left to those
    # whose form is another one.
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        cells = [(cell["metadata"], "".join(cell["source"])) for cell in document["cells"]]
    except (OSError, ValueError, LookupError, TypeError):
        cells = [(cell.metadata, cell.source) for cell in read_notebook(path).cells]
    return [source for metadata, source in cells if "parameters" in metadata.get("tags", [])]


def find_notebooks(names: Iterable[str], folder: str | Path = "notebooks") -> list[Path]:
    """Paths of notebooks given by name or path; `all` stands for the numbered ones in `folder`.

    Raises ValueError, with the names that exist, for one that does not.
    """
    numbered = {path.stem: path for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))}
    paths: list[Path] = []
    for name in names:
        if name == "all" and numbered:
            paths += numbered.values()
        elif name in numbered:
            paths.append(numbered[name])
        elif Path(name).is_file():
            paths.append(Path(name))
        else:
            raise ValueError(f"There is no notebook {name!r}; in {folder} there are: {', '.join(numbered) or 'none'}.")
    return list(dict.fromkeys(paths))


def check_values(values: Mapping[str, Any], scope: Mapping[Any, Mapping[str, Parameter]], where: str) -> None:
    """Raises ValueError for a name that no notebook in `scope` (name -> parameters) has, or a value of another type."""
    for name, value in values.items():
        holders = [parameters[name] for parameters in scope.values() if name in parameters]
        if not holders:
            known = ", ".join(sorted({item for parameters in scope.values() for item in parameters}))
            raise ValueError(f"{where}: unknown parameter {name!r} (value {value!r}); there are: {known}")
        for parameter in holders:
            try:
                parameter.check(value)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None


def _as_float(value: Any) -> Any:
    """A whole number, or text such as 1e-3, as a float; anything else as it is."""
    with contextlib.suppress(ValueError, OverflowError):
        return float(value) if type(value) in (int, str) else value
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
