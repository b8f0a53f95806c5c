"""The command `specbeam`: its subcommands, and how bad input ends."""

import contextlib
import errno
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from specbeam.files import settled

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
    """Bad input ends as one line on stderr and exit code 2; so do a full disk and a missing permission.

    Folders in variables mean what they mean where the command is typed, for the processes that it starts too.
    """

    def invoke(self, ctx: Any) -> Any:
        output.lose_nothing()
        try:
            with settled():
                found = super().invoke(ctx)
            output.flush()
        except (ValueError, OSError) as error:
            with contextlib.suppress(OSError):
                output.flush()
            if isinstance(error, BrokenPipeError):  # `| head` has read enough
                return None
            print("specbeam: " + " ".join(f"{error}{_remedy(error)}".split()), file=sys.stderr)
            raise typer.Exit(2) from None
        else:
            return found


REMEDIES = {
    errno.ENOSPC: "free some space there, or write to another disk",
    errno.EDQUOT: "delete something of yours there, or write to another disk",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "name a folder that you may write to, or ask for the permission",
    errno.EPERM: "name a folder that you may write to, or ask for the permission",
    errno.EEXIST: "a file of that name is in the way; name another folder",
    errno.ENOTDIR: "a file is where a folder is meant; name another folder",
    errno.EISDIR: "a folder is where a file is meant; name a file",
    errno.ENOENT: "check the path",
}


def _remedy(error: Exception) -> str:
    remedy = REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    return f": {remedy}" if remedy else ""


app = typer.Typer(
    name="specbeam",
    cls=OneLineErrors,
    help="Speculative beam decoding: exact beam search with fewer passes of the target model.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (generate, compare, run, sweep, reports, publish, records, bench, gpu_check, distill, demo, options):
    app.command()(command)
