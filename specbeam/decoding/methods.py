"""The four decoders by name, and what each has to equal. Plain data: commands and pages need it before PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

METHOD_NAMES = ("greedy", "beam", "speculative", "speculative_beam")
BASELINES = {"speculative": "greedy", "speculative_beam": "beam"}  # what each has to equal, token for token


def in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal tokens two sequences begin."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


@dataclass(frozen=True)
class Settings:
    """A prompt and how to decode it, as a person sets it. Names are those of the decoders' options.

    `num_assistant_tokens` is the node budget of a pass; None lets the package choose.
    """

    prompt: str
    system: str | None = None
    method: str = "speculative_beam"
    num_beams: int = 4
    max_new_tokens: int = 64
    length_penalty: float = 1.0
    num_assistant_tokens: int | None = None

    def options(self, method: str) -> dict[str, Any]:
        """What a method takes of these, its trace included."""
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "do_sample": False, "trace": True}
        if "beam" in method:
            options |= {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        if "speculative" in method:
            options["num_assistant_tokens"] = self.num_assistant_tokens
        return options
