"""One prompt through the four methods: what is asked of them, and a table of what came out. Knows no widgets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from specbeam.decoding.decoders import METHODS, Decoded
from specbeam.decoding.methods import BASELINES, in_common
from specbeam.pictures.drawing import text

NAMES = {
    "greedy": "greedy decoding",
    "beam": "beam search",
    "speculative": "speculative decoding",
    "speculative_beam": "speculative beam search",
}
PARTNERS = BASELINES | {plain: method for method, plain in BASELINES.items()}  # the same search, the other source
HEADER = ("method", "search steps", "target passes", "steps a pass", "tokens a second", "speed", "same tokens")


@dataclass(frozen=True)
class Trial:
    """A prompt and how it is to be decoded. `num_assistant_tokens` is the node budget of a pass; None chooses."""

    prompt: str
    system: str | None = None
    method: str = "speculative_beam"
    num_beams: int = 4
    num_assistant_tokens: int | None = None
    length_penalty: float = 1.0
    max_new_tokens: int = 32

    def options(self, method: str) -> dict[str, Any]:
        """What a method takes of these, its trace included."""
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "trace": True}
        if "beam" in method:
            options |= {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        if "speculative" in method:
            options["num_assistant_tokens"] = self.num_assistant_tokens
        return options

    def order(self, four: bool = True) -> list[str]:
        """The chosen method, then the one with the same search and the other source, then the other two if `four`.

        Raises ValueError for a method that is none.
        """
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is none of {', '.join(METHODS)}.")
        first = [self.method, PARTNERS[self.method]]
        return first + [name for name in METHODS if name not in first] if four else first

    def words(self) -> str:
        """The settings in a line."""
        budget = "automatic" if self.num_assistant_tokens is None else f"{self.num_assistant_tokens} nodes a pass"
        beams = f"{self.num_beams} beams, length penalty {self.length_penalty:g}, " if "beam" in self.method else ""
        draft = f"node budget {budget}, " if "speculative" in self.method else ""
        return f"{NAMES[self.method]}, {beams}{draft}at most {self.max_new_tokens} new tokens"


def sameness(method: str, results: Mapping[str, Decoded], stopped: Collection[str] = ()) -> str:
    """Whether a speculative method returned the tokens of its plain search, in words; "" where nothing can be said."""
    plain = BASELINES.get(method)
    if plain is None or method in stopped or plain in stopped or not {method, plain} <= results.keys():
        return ""
    ours, theirs = (results[name].sequences[0] for name in (method, plain))
    if ours == theirs:
        return f"yes, as {plain}"
    return f"no, {plain} differs from token {in_common(ours, theirs) + 1} on"


def rows(results: Mapping[str, Decoded], stopped: Collection[str] = (), running: str | None = None) -> list[list[str]]:
    """A row for each method, under `HEADER`. `stopped` are those that were ended early; `running` is under way."""
    return [_row(name, results, stopped, running) for name in METHODS]


def method_table(
    results: Mapping[str, Decoded], stopped: Collection[str] = (), running: str | None = None, chosen: str | None = None
) -> str:
    """`rows` as an HTML table; the row of `chosen` stands out."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in HEADER)
    body = []
    for name, (first, *others) in zip(METHODS, rows(results, stopped, running), strict=True):
        mark = ' class="chosen"' if name == chosen else ""
        cells = "".join(f"<td>{text(cell)}</td>" for cell in others)
        body.append(f'<tr{mark}><th scope="row">{text(first)}</th>{cells}</tr>')
    return f'<table class="methods"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _row(name: str, results: Mapping[str, Decoded], stopped: Collection[str], running: str | None) -> list[str]:
    if name not in results:
        return [name, "running …" if name == running else "–", *["–"] * (len(HEADER) - 2)]
    stats = results[name].stats
    plain = BASELINES.get(name)
    speed = "1" if plain is None else ""
    if plain is not None and plain in results and not {name, plain} & set(stopped):
        speed = f"× {_seconds(results[plain]) / max(_seconds(results[name]), 1e-9):.2f}"
    return [
        *(name, f"{stats.steps}{', stopped' if name in stopped else ''}", str(stats.target_passes)),
        *(f"{stats.steps_per_pass:.2f}", f"{stats.tokens_per_second:.1f}", speed or "–"),
        sameness(name, results, stopped) or "–",
    ]


def _seconds(decoded: Decoded) -> float:
    return decoded.stats.prefill_s + decoded.stats.decode_s
