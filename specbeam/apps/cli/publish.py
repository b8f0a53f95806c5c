"""`specbeam publish`: the executed notebooks that the repository shows."""

from pathlib import Path
from typing import Annotated

import typer

from . import options


def publish(
    notebooks: Annotated[
        list[str] | None,
        typer.Argument(help="Whose new runs are taken; the others stay as they were published. [default: all]"),
    ] = None,
    params: options.Params = None,
    runs_dir: options.Runs = Path("build/runs"),
    out_dir: Annotated[Path, typer.Option(help="Where the executed notebooks go.")] = Path("notebooks/records"),
) -> None:
    """Copy the runs of all notebooks to where readers find them, pictures small and no path of this machine in them.

    Refuses runs that failed, had other parameters or code, or were made from a tree with uncommitted changes.
    """
    from specbeam.experiments.parameters import find_notebooks
    from specbeam.reports.publish import publish as write

    every = find_notebooks(["all"])
    chosen = find_notebooks(notebooks) if notebooks else every
    print(write(chosen, runs_dir, out_dir, params, [path for path in every if path not in chosen]))
