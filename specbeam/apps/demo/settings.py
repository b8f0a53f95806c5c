"""What a visitor of the web page asks for: checked against the page's limits, and written as the query of a link.

Nothing here trusts the browser: every value is checked again on the server. Knows no model and no Gradio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlencode

from specbeam.decoding import methods

METHODS = {
    "greedy": "greedy",
    "beam": "beam search",
    "speculative": "speculative",
    "speculative_beam": "speculative beam search",
}
AUTOMATIC = "auto"


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for, and how many may wait at a time."""

    prompt_characters: int = 4000
    prompt_tokens: int = 1024
    max_new_tokens: int = 256
    num_beams: int = 16
    num_assistant_tokens: int = 128
    length_penalty: float = 5.0  # either side of 0
    waiting: int = 20

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) <= 0:
                raise ValueError(f"the limit {one.name}={getattr(self, one.name)} must be more than 0.")


class Settings(methods.Settings):
    """One decode, as the controls of the page say it; an empty `system` is none."""

    def query(self) -> str:
        """The query of a link that fills the controls with these values and runs them."""
        budget = AUTOMATIC if self.num_assistant_tokens is None else self.num_assistant_tokens
        return "?" + urlencode({**vars(self), "num_assistant_tokens": budget, "run": 1})


def settings(given: Mapping[str, Any], limits: Limits) -> Settings:
    """The settings in `given`, texts as a query has them or values as controls have them; what is missing is default.

    Lone surrogates, which no text file holds, become U+FFFD. Raises ValueError in words for the visitor.
    """
    given = {name: value for name, value in given.items() if value is not None}
    prompt, system = (_text(given.get(name, ""), name) for name in ("prompt", "system"))
    if not prompt.strip():
        raise ValueError("The prompt is empty. Write at least one word.")
    if len(prompt) + len(system) > limits.prompt_characters:
        both = "The prompt and the system prompt have" if system else "The prompt has"
        raise ValueError(
            f"{both} {len(prompt) + len(system)} characters, and this page takes "
            f"{limits.prompt_characters}. Shorten it."
        )
    method = given.get("method", Settings.method)
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"There is no method {str(method)[:40]!r}. Choose one of {', '.join(METHODS)}.")
    assistant = given.get("num_assistant_tokens", AUTOMATIC)
    if isinstance(assistant, str):
        assistant = assistant.strip().lower()
    most = limits.num_assistant_tokens
    penalty = _number(given.get("length_penalty", Settings.length_penalty), "Length penalty")
    if abs(penalty) > limits.length_penalty:
        raise ValueError(f"Length penalty must be between {-limits.length_penalty:g} and {limits.length_penalty:g}.")
    new = min(Settings.max_new_tokens, limits.max_new_tokens)
    return Settings(
        prompt,
        system,
        method,
        _whole(given.get("num_beams", min(Settings.num_beams, limits.num_beams)), "Beams", 1, limits.num_beams),
        _whole(given.get("max_new_tokens", new), "New tokens", 1, limits.max_new_tokens),
        penalty,
        None if assistant in (AUTOMATIC, "automatic", "") else _whole(assistant, "Drafted tokens a pass", 0, most),
    )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"The {name} is no text.")
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, and {str(value)[:40]!r} is none.")
    return number


def _whole(value: Any, name: str, least: int, most: int) -> int:
    number = _number(value, name)
    if number != int(number) or not least <= number <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, and {str(value)[:40]} is none.")
    return int(number)
