"""`specbeam publish`: the executed notebooks that the repository shows."""

from pathlib import Path
from typing import Annotated

import typer

from . import options


def publish(
    params: options.Params = None,
    runs_dir: options.Runs = Path("build/runs"),
    out_dir: Annotated[Path, typer.Option(help="Where the executed notebooks go.")] = Path("notebooks/records"),
) -> None:
    """Copy the runs of all notebooks to where readers find them, pictures small and no path of this machine in them.

    Refuses runs that failed, had other parameters or code, or were made from a tree with uncommitted changes.
    """
    from specbeam.experiments.parameters import find_notebooks
    from specbeam.reports.publish import publish as write

    print(write(find_notebooks(["all"]), runs_dir, out_dir, params))
