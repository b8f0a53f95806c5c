"""Rotary positions whose frequencies depend on how long the text is, and what a pass has to heed of them.

transformers looks at the longest text of a forward call, `position_ids.max() + 1`, and gives all its tokens the
frequencies of that length (`modeling_rope_utils.py`). A tree pass holds tokens of several depths, which transformers
forwards one depth after the other. So depths with different frequencies never share a pass here.

* *longrope* (Phi-3, Ding et al. 2024) has two sets: short factors up to a length, long ones beyond.
* *dynamic* (NTK-aware) has new frequencies for every length beyond the maximum. Its module remembers the longest text
  so far, so what transformers gives depends on what was decoded before, here as there.

Keys that are in the cache stay as they are. Only Phi-3 and its relatives read the whole text anew at the switch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.core.scorer import Engine, Output, Request, TreePass

# families whose `prepare_inputs_for_generation` drops the cache where a text outgrows its short factors
REREADING = {"phi3", "phimoe", "phi4_multimodal"}


@dataclass(frozen=True)
class LengthRope:
    """Frequencies that change with the length of the text.

    Attributes:
        switch: the longest text, in tokens, that has the frequencies of a short one.
        each_length: whether every length beyond has its own.
        rereads: whether the model reads the whole text anew where it crosses the switch.
    """

    switch: int
    each_length: bool
    rereads: bool

    @classmethod
    def of(cls, model: PreTrainedModel) -> LengthRope | None:
        """That of a model, None if its frequencies are always the same."""
        config = model.config.get_text_config()
        parameters: Any = getattr(config, "rope_parameters", None) or {}
        nested = [value for value in parameters.values() if isinstance(value, Mapping)]
        for rope in nested or [parameters]:
            kind = rope.get("rope_type")
            if kind == "longrope":
                length = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
                return cls(length, False, config.model_type in REREADING)
            if kind == "dynamic":
                return cls(config.max_position_embeddings, True, False)
        return None

    def reach(self, longest: int, depth: int) -> int:
        """The deepest nodes that may share a pass with those at `depth`, after a prompt of `longest` tokens."""
        if longest + depth <= self.switch:
            return self.switch - longest
        return depth if self.each_length else sys.maxsize

    def filler_position(self, length: int) -> int | None:
        """The position of a token that makes a call as long as `length`, which its own rows may not be any more."""
        return length - 1 if length > self.switch else None


def longest_text(attention_mask: Tensor, position_ids: Tensor | None) -> int:
    """How long the longest prompt is for the tokens that follow it, which count on from its last position."""
    # transformers has a prompt that is padded on its right end at position 0
    return int(attention_mask.sum(1).max() if position_ids is None else position_ids[..., -1].max() + 1)


def with_filler(tree_pass: TreePass) -> TreePass:
    """The pass with one more token a row, at the end, that nothing sees but itself."""
    visible = np.pad(tree_pass.visible, ((0, 0), (0, 1), (0, 1)))
    visible[:, -1, -1] = True
    tokens, positions, slots = (
        np.pad(each, ((0, 0), (0, 1)), mode="edge")
        for each in (tree_pass.tokens, tree_pass.positions, tree_pass.slot_positions)
    )
    return TreePass(tokens, positions, visible, slots, tree_pass.counts)


class RereadingEngine:
    """Forwards with one engine a text that stays on its side of the switch, and with another one that crosses it.

    Args:
        cached: keeps keys and values, for texts that do not cross.
        whole: reads every sequence from its beginning.
    """

    def __init__(self, rope: LengthRope, cached: Engine, whole: Engine):
        self._rope, self._cached, self._whole = rope, cached, whole
        self._used: Engine = cached
        self.name, self.runtime = cached.name, cached.runtime

    @property
    def tokens(self) -> int:
        return self._used.tokens

    def prefill(self, request: Request) -> Output:
        """Read the prompts, and choose by how long they may become.

        transformers counts slots for that. Where every prompt is padded it reads anew so many tokens too early, when
        all factors are short yet.
        """
        longest, last = longest_text(request.attention_mask, request.position_ids), request.max_new_tokens - 1
        slots = request.input_ids.shape[1]
        crosses = longest >= slots and slots <= self._rope.switch < slots + last
        self._used = self._whole if crosses else self._cached
        return self._used.prefill(request)

    def forward(self, tree_pass: TreePass) -> Output:
        return self._used.forward(tree_pass)

    def keep(self, begin: int, slots: np.ndarray) -> None:
        self._used.keep(begin, slots)

    def select(self, rows: list[int]) -> None:
        self._used.select(rows)

    def rollback(self, slots: int) -> None:
        self._used.rollback(slots)

    def close(self) -> None:
        self._used.close()
