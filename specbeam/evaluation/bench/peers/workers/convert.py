"""Convert a checkpoint with one library's script, and compare the weights: `python convert.py script.py … (see main)`.

Exits with 1 and a last line on stderr that says why.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def rows_of(arrays: Iterable[Any]) -> set[bytes]:
    """Every row of every matrix as its bytes; a vector is one row."""
    return {row.tobytes() for array in arrays for row in np.atleast_2d(np.asarray(array))}


def missing_rows(checkpoint: Iterable[Any], converted: Iterable[Any]) -> tuple[int, int]:
    """How many different rows the checkpoint's weights have, and how many of them the converted ones lack, bit for bit.

    Libraries transpose matrices, put several into one and reorder rows for their rotary embedding. Rows survive all of
    that, if columns are looked at too.
    """
    wanted = rows_of(checkpoint)
    lacking = set(wanted)
    for array in converted:
        lacking -= rows_of([array])
        if array.ndim == 2:
            lacking -= rows_of([np.ascontiguousarray(array.T)])
    return len(wanted), len(lacking)


def main(script: str, source: str, folder: str, end_token: str, packages: str) -> None:
    sys.path.append(packages)  # behind specbeam's own, which they must not replace
    from safetensors.numpy import load_file

    module = runpy.run_path(script)
    module["convert"](Path(source), Path(folder), int(end_token))
    checkpoint = load_file(Path(source) / "model.safetensors")
    rows, lacking = missing_rows(checkpoint.values(), module["weights"](Path(folder)))
    if lacking:
        sys.exit(f"{lacking} of the {rows} rows of the checkpoint's weights are not in the converted model")
    (Path(folder) / "verified.json").write_text(json.dumps({"tensors": len(checkpoint), "rows": rows}))


if __name__ == "__main__":
    sys.path.pop(0)
    main(*sys.argv[1:])
