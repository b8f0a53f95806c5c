"""The four decoders by name, and what each has to equal. Plain data: commands and pages need it before PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

METHOD_NAMES = ("greedy", "beam", "speculative", "speculative_beam")
BASELINES = {"speculative": "greedy", "speculative_beam": "beam"}  # what each has to equal, token for token


def in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal tokens two sequences begin."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
