"""What tells that a model has changed since something about it was remembered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

_PLAIN = {bool, int, float, str, type(None), torch.dtype, torch.device}


def signs(model: nn.Module) -> int:
    """A number that changes with whatever a pass of `model` may depend on: a replay would not notice.

    That is where its weights lie, and every plain attribute of its modules and configuration (the switches of adapters,
    say).
    """
    found: list[Any] = []
    _collect(model, set(), found)
    return hash(tuple(found))


def _collect(thing: Any, seen: set[int], found: list[Any]) -> None:
    if type(thing) in _PLAIN:
        found.append(thing)
    elif isinstance(thing, Tensor):
        found.append(thing.data_ptr())
    elif isinstance(thing, dict):
        found.extend(thing)
        for value in thing.values():
            _collect(value, seen, found)
    elif isinstance(thing, list | tuple):
        for value in thing:
            _collect(value, seen, found)
    elif isinstance(thing, nn.Module | PretrainedConfig):
        if id(thing) not in seen:
            seen.add(id(thing))
            found.append(type(thing))
            for name, value in vars(thing).items():
                if not isinstance(value, dict) or value:  # most dictionaries of a module are empty
                    found.append(name)
                    _collect(value, seen, found)
    else:
        found.append(id(thing))
