"""specbeam: greedy, beam, speculative and speculative beam decoding, exact to transformers' `generate`.

The names below are imported when they are first used: most of them need PyTorch, which takes seconds to import, and
commands such as `specbeam records` do without.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import load
    from .decoders import METHODS, Decoded, beam, greedy, speculative, speculative_beam
    from .drafts import Draft, NoDraft, Proposal, UnionDraft
    from .generate import SpeculativeLM
    from .model_draft import ModelDraft
    from .models import Pair, load_pair
    from .prompts import render_prompt
    from .recall import NgramDraft, RecallDraft
    from .records import RunRecord
    from .spelling import Spelling
    from .text_draft import TextDraft

__all__ = [
    "METHODS",
    "Decoded",
    "Draft",
    "ModelDraft",
    "NgramDraft",
    "NoDraft",
    "Pair",
    "Proposal",
    "RecallDraft",
    "RunRecord",
    "SpeculativeLM",
    "Spelling",
    "TextDraft",
    "UnionDraft",
    "beam",
    "greedy",
    "load",
    "load_pair",
    "render_prompt",
    "speculative",
    "speculative_beam",
]

__version__ = "0.1.0"

_NAMES = {
    "data": "load",
    "decoders": "METHODS Decoded beam greedy speculative speculative_beam",
    "drafts": "Draft NoDraft Proposal UnionDraft",
    "generate": "SpeculativeLM",
    "model_draft": "ModelDraft",
    "models": "Pair load_pair",
    "prompts": "render_prompt",
    "recall": "NgramDraft RecallDraft",
    "records": "RunRecord",
    "spelling": "Spelling",
    "text_draft": "TextDraft",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'specbeam' has no attribute {name!r}")
    value = getattr(import_module(f"specbeam.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `specbeam.beam` and `specbeam.greedy` functions, whoever imports the modules of these names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
