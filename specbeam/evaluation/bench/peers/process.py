"""A library in a process of its own, asked by lines of JSON, and stopped while it is not its turn.

Stopped, because the thread pools of several libraries spin for a while after their work, on cores that the next one
needs.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .models import last_line

SERVE = Path(__file__).with_name("workers") / "serve.py"
LIMIT_S = 900  # for one answer


class PeerError(Exception):
    """A worker died, hangs, or answers with an error: it takes part no more."""


class Unsupported(Exception):
    """The library cannot do this; it goes on with other cases."""


class Worker:
    """A started worker; leave it with `close`, or as a context."""

    def __init__(self, python: Path | str, script: Path, log: Path, threads: int, limit_s: float = LIMIT_S):
        self.log, self.threads, self.limit_s = log, threads, limit_s
        # thread pools that are not told otherwise would take every core; Python's own variables are for this Python
        own = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [str(python), str(SERVE), str(script)],
                **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stream},
                **{"text": True, "encoding": "utf-8", "env": inherited | own},
            )
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def load(self, folder: Path, end_token: int) -> dict[str, Any]:
        """Load the model: the library's `versions` and `facts`. Raises PeerError."""
        return self._ask({"folder": str(folder), "threads": self.threads, "end_token": end_token})["ready"]

    def decode(self, ids: Sequence[int], num_beams: int, new_tokens: int) -> tuple[list[int], float]:
        """The best sequence, prompt excluded, and the seconds that the library took. Raises PeerError, Unsupported."""
        answer = self._ask({"ids": list(ids), "num_beams": num_beams, "new_tokens": new_tokens})
        return answer["sequence"], answer["seconds"]

    def close(self) -> None:
        self._signal("SIGCONT")
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self._signal("SIGCONT")
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.answers.get(timeout=self.limit_s)
        except OSError:
            line = ""
        except queue.Empty:
            self.process.kill()
            raise PeerError(f"no answer within {self.limit_s:.0f} s") from None
        if not line:
            code = self.process.wait()
            raise PeerError(f"its process ended with code {code}: {last_line(self.log)}")
        self._signal("SIGSTOP")
        answer = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            raise PeerError(" ".join(answer["error"].split())[:300])
        return answer

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self.process.poll() is None:  # Windows has neither
            self.process.send_signal(getattr(signal, name))
