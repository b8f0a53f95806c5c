"""Small notebooks for tests."""

from pathlib import Path

import nbformat

PARAMETERS = "num_beams = 4  # beams\nlength_penalty = 1.0  # exponent\nprompts = ['a']  # texts\nseed = None  # or int"
RECORD = """
import specbeam.records as r
r.RunRecord.collect("{name}", {{"num_beams": num_beams}}, {{"answer": num_beams * 2}}).save()
"""


def write_notebook(
    folder: Path,
    name: str = "01_toy",
    code: tuple[str, ...] = (),
    parameters: str | None = PARAMETERS,
    record: bool = True,
    heading: str = "# What is *twice* the beam?",
) -> Path:
    """A notebook with a heading, a parameters cell, the given code cells and a record cell."""
    cells = [nbformat.v4.new_markdown_cell(heading)]
    if parameters is not None:
        cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    sources = [*code, *([RECORD.format(name=name)] if record else [])]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path
