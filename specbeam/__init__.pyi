"""The public names and where they live; `__init__.py` imports each of them when it is first used."""

from .core.draft import Draft, NoDraft, Proposal
from .decoding.decoders import METHODS, Decoded, Pair, beam, greedy, speculative, speculative_beam
from .decoding.generate import SpeculativeLM
from .decoding.trie import Trie
from .drafts.model import ModelDraft
from .drafts.recall import NgramDraft, RecallDraft
from .drafts.text import TextDraft
from .drafts.token_mapping import Spelling, TokenMapping
from .drafts.union import UnionDraft
from .evaluation.data import load
from .experiments.records import RunRecord
from .models.load import load_pair
from .models.prompts import render_prompt

__version__: str

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
    "TokenMapping",
    "Trie",
    "UnionDraft",
    "beam",
    "greedy",
    "load",
    "load_pair",
    "render_prompt",
    "speculative",
    "speculative_beam",
]
