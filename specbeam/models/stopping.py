"""Where a model's answer ends."""

from collections.abc import Collection, Sequence
from typing import Any


def stop_tokens(model: Any) -> set[int]:
    """The end-of-sequence ids of the model's generation config."""
    ends = model.generation_config.eos_token_id
    return set(ends if isinstance(ends, list) else [] if ends is None else [ends])


def cut_after_stop(row: Sequence[int], stops: Collection[int]) -> list[int]:
    """The tokens up to the first stop token, included, without the padding after it."""
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return list(row[: end + 1])
