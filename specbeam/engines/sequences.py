"""SequenceEngine: for models that cannot take a token tree. Exact, and slower.

Every path to a new leaf becomes a sequence of its own, with the whole prompt before it, and nothing is cached:
recurrent states, windows counted in slots and biases by slot are all as in a plain forward pass. Sequences are filled
up on the *right*, where a causal model cannot look, so no mask is needed and positions begin at 0. A draft saves passes
here as well, but a pass costs what a prompt of that length costs.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from specbeam.compat import input_device
from specbeam.core.scorer import Output, Request, TreePass

from .families import Traits, check_positions


class SequenceEngine:
    """Forwards what a token sees as a sequence, a batch of them without a cache.

    Args:
        model: any causal LM of transformers.
        state_layers: hidden states to return of every pass; 0 is the embedding.
    """

    runtime = "torch"

    def __init__(self, model: PreTrainedModel, state_layers: tuple[int, ...] = (), traits: Traits | None = None):
        self.model, self.state_layers, self._traits = model, state_layers, traits or Traits.of(model)
        self.name, self.tokens = type(model).__name__, 0
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def prefill(self, request: Request) -> Output:
        """Read the left-padded prompts.

        Raises:
            ValueError: for further inputs, positions of the user's or padding elsewhere: a sequence has no room for it.
        """
        others, mask = [*request.model_inputs], request.attention_mask
        if request.position_ids is not None and others == []:
            counted = (mask.cumsum(-1) - 1).clamp(min=0)
            shown = request.position_ids.to(mask.device)
            others += ["position_ids"] if ((shown != counted) & mask.bool()).any() else []
        if others:
            raise ValueError(
                f"{self.name} is read by sequences and takes no further inputs; leave out {', '.join(others)}, or use "
                "its own generate."
            )
        if (mask.diff(dim=1) < 0).any():
            raise ValueError(f"{self.name} is read by sequences: pad the prompts on the left (padding_side='left').")
        self.tokens, self._top_tokens = 0, request.top_tokens
        self._slots = request.input_ids.cpu().numpy()  # the token in every slot, as there is no other cache
        texts = [row[seen] for row, seen in zip(self._slots, request.attention_mask.bool().cpu().numpy(), strict=True)]
        lengths = [len(text) for text in texts]
        self._shortest, self._lengths, self._longest = min(lengths), lengths, max(lengths)
        logits, states = self._read(texts)
        rows = torch.stack([logits[b, len(text) - self._shortest] for b, text in enumerate(texts)])
        if states is None:
            return Output.of(rows, self._top_tokens)
        padded = states.new_zeros(*self._slots.shape, *states.shape[2:])
        for b, text in enumerate(texts):
            padded[b, -len(text) :] = states[b, : len(text)]
        return Output.of(rows, self._top_tokens, padded)

    def forward(self, tree_pass: TreePass) -> Output:
        """Read the sequences that the new tokens end; one that continues another serves for both."""
        self._slots = np.concatenate([self._slots, tree_pass.tokens], axis=1)
        width = tree_pass.tokens.shape[1]
        texts: list[np.ndarray] = []
        length = self._longest  # as long as this would the longest prompt be by now, finished or not
        places: list[tuple[int, int]] = []  # of each token: its sequence, and where in it
        for b, count in enumerate(tree_pass.counts):
            visible = tree_pass.visible[b, :count]
            among = visible[:, visible.shape[1] - width :][:, :count]  # which of the new tokens each sees
            leaf_of = {}
            for leaf in range(count - 1, -1, -1):
                if leaf not in leaf_of:
                    leaf_of |= {seen: len(texts) for seen in np.flatnonzero(among[leaf]) if seen not in leaf_of}
                    texts.append(self._slots[b, visible[leaf]])
                    length = max(length, self._longest + len(texts[-1]) - self._lengths[b])
            places += [(leaf_of[i], int(visible[i].sum()) - 1) for i in range(count)]
        logits, states = self._read(texts, length if self._traits.rope else 0)
        rows = torch.stack([logits[text, place - self._shortest + 1] for text, place in places])
        at_places = None if states is None else torch.stack([states[place] for place in places])
        return Output.of(rows, self._top_tokens, at_places)

    def keep(self, begin: int, slots: np.ndarray) -> None:
        """Move the tokens in the slots `begin + slots` to `begin`."""
        self._slots = np.concatenate([self._slots[:, :begin], np.take_along_axis(self._slots, begin + slots, 1)], 1)

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""
        self._slots, self._lengths = self._slots[rows], [self._lengths[row] for row in rows]

    def rollback(self, slots: int) -> None:
        """End after this many slots."""
        self._slots = self._slots[:, :slots]

    def close(self) -> None:
        """There is nothing to free: no slot outlives its pass."""

    def _read(self, texts: list[np.ndarray], length: int = 0) -> tuple[Tensor, Tensor | None]:
        """Logits from the end of the shortest prompt on, (texts, places, vocabulary), and all hidden states.

        Texts are filled up to `length` tokens at least. The states have shape (texts, longest text, layers, hidden
        size). No logits before that are asked for, and a vocabulary is wide.
        """
        check_positions(self.name, max(map(len, texts)), self._traits.positions)
        input_ids = pad_sequence([torch.from_numpy(text) for text in texts], batch_first=True)
        input_ids = F.pad(input_ids, (0, max(0, length - input_ids.shape[1]))).to(input_device(self.model))
        options: dict[str, Any] = {}
        if self._keeps_logits:
            options["logits_to_keep"] = input_ids.shape[1] - self._shortest + 1
        if self.state_layers:
            options["output_hidden_states"] = True
        output = self.model(input_ids=input_ids, use_cache=False, return_dict=True, **options)
        self.tokens += input_ids.numel()
        logits = output.logits if self._keeps_logits else output.logits[:, self._shortest - 1 :]
        if not self.state_layers:
            return logits, None
        return logits, torch.stack([output.hidden_states[layer] for layer in self.state_layers], 2)
