"""`specbeam options`: what becomes of every option of transformers' `generate`."""

from typing import Annotated

import typer
from rich import print
from rich.table import Table


def options(word: Annotated[str, typer.Argument(help="Show the options whose line has this word.")] = "") -> None:
    """Say which options of transformers' generate are honoured, which are refused, and why."""
    from specbeam.decoding.options import rows

    found = rows(word)
    if not found:
        raise ValueError(f"no option of generate has {word!r} in its name or in what is said of it; try a shorter word")
    table = Table("option", "decoders", "SpeculativeLM", "remark", show_lines=False)
    for row in found:
        table.add_row(*row)
    print(table)
