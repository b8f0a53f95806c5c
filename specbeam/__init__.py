"""specbeam: greedy, beam, speculative and speculative beam decoding, exact to transformers' `generate`."""

from .data import load
from .decoders import METHODS, Decoded, beam, greedy, speculative, speculative_beam
from .drafts import Draft, ModelDraft, NgramDraft, NoDraft, Proposal, RecallDraft, UnionDraft
from .generate import SpeculativeLM
from .models import Pair, load_pair
from .prompts import render_prompt
from .records import RunRecord

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
