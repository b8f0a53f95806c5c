"""The options of a decode, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def refuse_beams(method: str, instead: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError for several beams where `method` has one, naming the method to use `instead`."""
    if options.get("num_beams", 1) != 1:
        raise ValueError(f"{method} has one beam, got num_beams={options['num_beams']}; use {instead} for more.")


def check_request(target: Any, input_ids: Tensor, options: Mapping[str, Any]) -> None:
    """Raise a ValueError naming value and remedy for what `generate` would trip over later, or accept in silence."""
    if input_ids.dim() != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"input_ids has shape {tuple(input_ids.shape)}: the prompt is empty; give at least one token.")
    new, beams, returned = (options.get(n) for n in ("max_new_tokens", "num_beams", "num_return_sequences"))
    for name, value in (("max_new_tokens", new), ("num_beams", beams), ("num_return_sequences", returned)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
    if returned is not None and returned > (beams or 1) and not options.get("do_sample"):
        raise ValueError(f"num_return_sequences={returned} is more than num_beams={beams or 1}; raise num_beams.")
    positions = getattr(target.config.get_text_config(), "max_position_embeddings", None)
    longest = input_ids.shape[1] + new if new else max(options.get("max_length") or 0, input_ids.shape[1] + 1)
    if positions is not None and longest > positions:
        raise ValueError(
            f"the prompt has {input_ids.shape[1]} tokens and may grow to {longest}, but {type(target).__name__} has "
            f"{positions} positions; shorten the prompt or lower max_new_tokens."
        )
