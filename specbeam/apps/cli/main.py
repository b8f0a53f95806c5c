"""The command `specbeam`: its subcommands, and how bad input ends."""

import contextlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from . import output
from .bench import bench
from .decode import compare, generate
from .demo import demo
from .distill import distill
from .generate_options import options
from .gpu_check import gpu_check
from .publish import publish
from .records import records
from .runs import reports, run
from .sweep import sweep


class OneLineErrors(TyperGroup):
    """Bad input ends as one line on stderr and exit code 2; so do a full disk and a missing permission."""

    def invoke(self, ctx: Any) -> Any:
        output.lose_nothing()
        try:
            found = super().invoke(ctx)
            output.flush()
        except (ValueError, OSError) as error:
            with contextlib.suppress(OSError):
                output.flush()
            if isinstance(error, BrokenPipeError):  # `| head` has read enough
                return None
            print("specbeam: " + " ".join(str(error).split()), file=sys.stderr)
            raise typer.Exit(2) from None
        else:
            return found


app = typer.Typer(
    name="specbeam",
    cls=OneLineErrors,
    help="Speculative beam decoding: exact beam search with fewer passes of the target model.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (generate, compare, run, sweep, reports, publish, records, bench, gpu_check, distill, demo, options):
    app.command()(command)
