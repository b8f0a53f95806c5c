"""Reading the shards that `prompts_and_answers.py` and `beam_texts.py` wrote, and choosing what a draft can propose."""

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
    """The texts in a folder, including shards that are added meanwhile."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self._draw = folder, random.Random(seed)
        self._files: dict[Path, Any] = {}

    def paths(self) -> list[Path]:
        """The files of the texts' shards. Raises ValueError if there are none."""
        if not (paths := sorted(self.folder.glob("[0-9]*.safetensors"))):
            raise ValueError(f"{self.folder} holds no shards; write some with `specbeam distill`, or give its folder")
        return paths

    def batch(self, positions: int) -> dict[str, Tensor]:
        """About `positions` positions of one shard: tokens (rows, length), ends (rows,), features.

        Of a shard of beam searches also begins (rows,): positions before it are another row's.
        """
        file = self._file(self._draw.choice([*self.paths(), *sorted(self.folder.glob("beams-*.safetensors"))]))
        ends = file.get_tensor("ends")
        rows = max(1, round(positions * len(ends) / int(ends.sum())))
        first = self._draw.randrange(max(len(ends) - rows, 0) + 1)
        chosen = slice(first, first + rows)
        batch = {"tokens": file.get_slice("tokens")[chosen].long(), "ends": ends[chosen]}
        if "nodes" not in file.keys():  # noqa: SIM118
            return {**batch, "features": file.get_slice("features")[chosen]}
        nodes = file.get_slice("nodes")[chosen].long()
        first, last = int(nodes.min()), int(nodes.max())  # those of a search lie together
        states = file.get_slice("states")[first : last + 1]
        return {**batch, "begins": file.get_tensor("begins")[chosen], "features": states[nodes - first]}

    def shuffle(self, seed: int) -> None:
        """Draw the next batches with another seed."""
        self._draw.seed(seed)

    def positions(self) -> int:
        """How many positions all shards hold."""
        return sum(int(self._file(path).get_tensor("ends").sum()) for path in self.paths())

    def counts(self, limit: int = 64) -> Counter[int]:
        """How often each token occurs in the first `limit` shards."""
        counts: Counter[int] = Counter()
        for path in self.paths()[:limit]:
            columns = (self._file(path).get_tensor(name).tolist() for name in ("tokens", "ends"))
            for row, end in zip(*columns, strict=True):
                counts.update(row[:end])
        return counts

    def _file(self, path: Path) -> Any:
        """The opened file, which is read lazily."""
        if path not in self._files:
            self._files[path] = safe_open(path, framework="pt")
        return self._files[path]


def frequent(counts: Counter[int], size: int, vocabulary: int, always: Sequence[int] = ()) -> Tensor:
    """The `size` most frequent tokens in ascending order, `always` among them; ties go to the smaller id."""
    ranked = sorted(range(vocabulary), key=lambda token: (token not in always, -counts[token], token))
    return torch.tensor(sorted(ranked[:size]))
