"""A prompt with the method and the options to decode it with. Plain data, without widgets."""

from __future__ import annotations

from dataclasses import dataclass

from specbeam.decoding.methods import BASELINES, METHOD_NAMES, Settings

NAMES = {
    "greedy": "greedy decoding",
    "beam": "beam search",
    "speculative": "speculative decoding",
    "speculative_beam": "speculative beam search",
}
PARTNERS = BASELINES | {plain: method for method, plain in BASELINES.items()}  # same search, other source


@dataclass(frozen=True)
class DecodeSettings(Settings):
    """A prompt and how to decode it. Raises ValueError for an unknown method."""

    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        if self.method not in METHOD_NAMES:
            raise ValueError(f"method={self.method!r} is unknown: take one of {', '.join(METHOD_NAMES)}.")

    def order(self, all_four: bool = True) -> list[str]:
        """The chosen method, then the one with the same search and the other source, then the other two."""
        first = [self.method, PARTNERS[self.method]]
        return first + [name for name in METHOD_NAMES if name not in first] if all_four else first

    def __str__(self) -> str:
        budget = "automatic" if self.num_assistant_tokens is None else f"{self.num_assistant_tokens} nodes a pass"
        beams = f"{self.num_beams} beams, length penalty {self.length_penalty:g}, " if "beam" in self.method else ""
        draft = f"node budget {budget}, " if "speculative" in self.method else ""
        return f"{NAMES[self.method]}, {beams}{draft}at most {self.max_new_tokens} new tokens"
