"""Run one library as a worker: `python serve.py script.py`, asked by lines of JSON on stdin, answering on stdout.

    {"folder": …, "threads": 2, "end_token": 3}          → {"ready": {"versions": {…}, "facts": {…}}}
    {"ids": […], "num_beams": 4, "new_tokens": 48}       → {"sequence": […], "seconds": 1.2}

or {"unsupported": "no beam search"}, or {"error": …}. The first question is the model; an error there ends the worker.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import time
from typing import Any


def script_module(path: str) -> Any:
    """The script as a module. Its folder is not on the path, so that no file there hides a library."""
    spec = importlib.util.spec_from_file_location("script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def die_with_parent() -> None:
    """A worker that is stopped could not notice that nobody will ask it any more, and would keep its memory."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def versions(names: tuple[str, ...]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names}


def main(path: str) -> None:
    # libraries print to stdout, from C++ too; answers get a copy of it, and the prints go where stderr goes
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**given: Any) -> None:
        print(json.dumps(given), file=answers, flush=True)

    try:
        script = script_module(path)
        asked = json.loads(sys.stdin.readline())
        decode = script.load(asked["folder"], asked["threads"], asked["end_token"])
        facts = script.facts(asked["folder"]) if hasattr(script, "facts") else {}
        answer(ready={"versions": versions(script.PACKAGES), "facts": facts})
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        return
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            began = time.perf_counter()
            sequence = decode(asked["ids"], asked["num_beams"], asked["new_tokens"])
            taken = time.perf_counter() - began
            answer(sequence=[int(token) for token in sequence], seconds=taken)
        except NotImplementedError as error:
            answer(unsupported=str(error))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    folder = os.path.realpath(os.path.dirname(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != folder]
    die_with_parent()
    main(sys.argv[1])
