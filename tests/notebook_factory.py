"""Small notebooks for tests."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import nbformat

PARAMETERS = "num_beams = 4  # beams\nlength_penalty = 1.0  # exponent\nprompts = ['a']  # texts\nseed = None  # or int"
# What RunRecord.collect(…).save() writes, without the import of PyTorch, which takes longer than the rest of the run.
RECORD = """
import json, os
with open(os.environ["SPECBEAM_RECORD"], "w") as file:
    json.dump({{"notebook": "{name}", "status": "ok", "metrics": {{"answer": {answer}}}}}, file)
"""
JOURNAL = """
import os, pathlib, time
def write(word):
    with open(journal, "a") as file:
        file.write(f"{word} {point} {os.getpid()} {os.getppid()}\\n")
write("begin")
while point in stops and not pathlib.Path(gate).exists():
    time.sleep(0.05)
"""


def write_notebook(
    folder: Path,
    name: str = "01_toy",
    code: tuple[str, ...] = (),
    parameters: str | None = PARAMETERS,
    record: bool = True,
    heading: str = "# What is *twice* the beam?",
    answer: str = "num_beams * 2",
) -> Path:
    """A notebook with a heading, a parameters cell, the given code cells and a record cell."""
    cells = [nbformat.v4.new_markdown_cell(heading)]
    if parameters is not None:
        cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    sources = [*code, *([RECORD.format(name=name, answer=answer)] if record else [])]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


class Journal:
    """A notebook that notes each of its executions in a file that is only appended to.

    It has a parameter `point`, and at the points in `stops` it waits until the gate opens.
    """

    def __init__(self, folder: Path, stops: tuple[int, ...] = (), crash: str = ""):
        self.path, self.gate = folder / "journal.txt", folder / "gate"
        parameters = [
            "point = 0  # number of the point",
            f"stops = {list(stops) or [0]!r}  # points that wait",
            f"journal = {str(self.path)!r}  # file",
            f"gate = {str(self.gate)!r}  # file",
        ]
        code = (JOURNAL + crash, "write('end')")
        self.notebook = write_notebook(folder, "01_toy", code, "\n".join(parameters), answer="point * 2")

    def entries(self, word: str) -> list[int]:
        """The points of all lines that begin with the word, in order."""
        return [int(line.split()[1]) for line in self._lines() if line.split()[0] == word]

    def processes(self, point: int) -> tuple[int, int]:
        """Process ids of the kernel that last began a point, and of its parent."""
        last = [line.split() for line in self._lines() if line.startswith(f"begin {point} ")][-1]
        return int(last[2]), int(last[3])

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def wait_until(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait for a condition; fails, saying what did not come, after a time that no machine should need."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits only for its parent to take note."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:  # gone since, or a system without /proc
        return False
