"""Text that was written to a terminal, as JupyterLab shows it: carriage returns and backspaces have taken effect.

nbconvert's own rule drops whatever stood before a carriage return; JupyterLab overwrites it, character by character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from nbconvert.filters.ansi import ansi2html

COLOUR = r"\x1b\[[0-9;:]*m"
ERASE = r"\x1b\[[0-2]?K"
# Other sequences of a terminal: titles, links, character sets, cursors.
UNSEEN = re.compile(
    rf"(?!{COLOUR}|{ERASE})(?:\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]|\x1b)"
)
TOKEN = re.compile(rf"(?P<colour>{COLOUR})|(?P<erase>{ERASE})|(?P<move>[\b\r])|(?P<text>[^\x1b\b\r]+|\x1b)")


def shown(text: str) -> str:
    """The text after its carriage returns, backspaces and erasures; colours stay as escape sequences."""
    text = UNSEEN.sub("", text)
    if not re.search(rf"[\b\r]|{ERASE}", text):
        return text
    lines = re.sub(r"\r+\n", "\n", text).split("\n")
    return "\n".join(_line(line) if re.search(rf"[\b\r]|{ERASE}", line) else line for line in lines)


def coloured(text: str) -> str:
    """The text as HTML that follows <pre>, with classes for its colours."""
    return "\n" + str(ansi2html(UNSEEN.sub("", text)))  # a parser drops the first line feed


def joined_streams(outputs: Iterable[Any]) -> list[Any]:
    """The outputs, successive texts of one stream as one, as they are `shown`: JupyterLab joins them as well."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else output
        if last is not output and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = shown(output.text)
    return joined


def _line(line: str) -> str:
    """One line. A cell holds a character, and before it the colours that were set since the last one."""
    cells: list[str] = []
    place, colours = 0, ""
    for found in TOKEN.finditer(line):
        token = found[0]
        if found["colour"]:
            colours += token
        elif found["text"]:
            written = [colours + token[0], *token[1:]]
            cells[place : place + len(written)] = written
            place, colours = place + len(written), ""
        elif token == "\r":
            place = 0
        elif token == "\b":
            if place:
                place -= 1
                del cells[place]
        elif token.endswith("2K"):
            cells = [" "] * place
        elif token.endswith("1K"):
            cells[:place] = [" "] * place
        else:
            del cells[place:]
    return "".join(cells) + colours
