"""`Stats`: what a decode reports of itself, how much work it took. An `Observer` is told what happens meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # traces are drawn without PyTorch
    from .source import Source


@dataclass
class Stats:
    """Counts and seconds of one decode. A batch of prompts counts as one: a pass serves all of them.

    `accepted` is the histogram of speculation (gpt-fast's single statistic): how many passes committed 1, 2, 3, …
    search steps.
    """

    steps: int = 0  # committed search steps
    new_tokens: int = 0  # tokens returned, all sequences together
    target_passes: int = 0
    target_tokens: int = 0  # tokens forwarded through the target, prompt and padding included
    draft_passes: int = 0
    drafted: int = 0  # nodes proposed and verified
    accepted: Counter[int] = field(default_factory=Counter)
    prefill_s: float = 0.0
    decode_s: float = 0.0  # everything after the prompt, search and drafting included
    draft_s: float = 0.0
    target_s: float = 0.0
    relaxed_steps: int = 0  # steps that an inexact option took otherwise than the exact search would, or may have
    peak_kv_tokens: int = 0  # slots of the target's cache in use at the worst moment
    engine: str = ""  # what the target's passes ran in

    @property
    def tokens_per_second(self) -> float:
        """Returned tokens a second, the prompt's pass included."""
        return self.new_tokens / max(self.prefill_s + self.decode_s, 1e-9)

    @property
    def steps_per_pass(self) -> float:
        """Committed search steps a target pass: 1 without speculation."""
        return self.steps / max(self.target_passes, 1)


class Observer:
    """Is told what a source does; `missing` and `drafted` are lists of nodes, one a prompt."""

    def started(self, source: Source) -> None:
        """The prompts have been read; the source's trees hold their roots."""

    def passed(
        self, source: Source, missing: list[list[int]], drafted: list[list[int]], draft_s: float, target_s: float
    ) -> None:
        """A pass verified the `drafted` nodes of every prompt along with the `missing` ones."""

    def stepped(self, source: Source, running: Mapping[int, list[int]]) -> None:
        """A step was taken from these nodes, best first, by prompt; a finished prompt has none."""
