"""The texts that a draft learns from, as `answers.py` wrote them, and which tokens are worth keeping."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor


class Shards:
    """The texts in a folder; new shards are found while they are being written."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self._draw = folder, random.Random(seed)
        self._files: dict[Path, Any] = {}

    def paths(self) -> list[Path]:
        found = sorted(self.folder.glob("[0-9]*.safetensors"))
        if not found:
            raise ValueError(f"{self.folder} holds no shards; write some with `specbeam distill`, or give its folder")
        return found

    def batch(self, positions: int) -> dict[str, Tensor]:
        """About `positions` positions of one shard: tokens (rows, length), ends (rows,), features."""
        path = self._draw.choice(self.paths())
        if path not in self._files:
            self._files[path] = safe_open(path, framework="pt")
        file = self._files[path]
        ends = file.get_tensor("ends")
        rows = max(1, round(positions * len(ends) / int(ends.sum())))
        first = self._draw.randrange(max(len(ends) - rows, 0) + 1)
        chosen = slice(first, first + rows)
        return {
            "tokens": file.get_slice("tokens")[chosen].long(),
            "ends": ends[chosen],
            "features": file.get_slice("features")[chosen],
        }

    def shuffle(self, seed: int) -> None:
        """Draw other batches from now on."""
        self._draw.seed(seed)

    def positions(self) -> int:
        """How many positions all shards hold."""
        total = 0
        for path in self.paths():
            with safe_open(path, framework="pt") as file:
                total += int(file.get_tensor("ends").sum())
        return total

    def counts(self, limit: int = 64) -> Counter[int]:
        """How often each token occurs in the first `limit` shards."""
        found: Counter[int] = Counter()
        for path in self.paths()[:limit]:
            with safe_open(path, framework="pt") as file:
                tokens, ends = file.get_tensor("tokens"), file.get_tensor("ends")
            for row, end in zip(tokens.tolist(), ends.tolist(), strict=True):
                found.update(row[:end])
        return found


def frequent(counts: Counter[int], size: int, vocabulary: int, always: Sequence[int] = ()) -> Tensor:
    """The `size` most frequent tokens in ascending order, `always` among them; ties go to the smaller id."""
    ranked = sorted(range(vocabulary), key=lambda token: (token not in always, -counts[token], token))
    return torch.tensor(sorted(ranked[:size]))
