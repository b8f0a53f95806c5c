"""TreeScorer: any set of tree nodes in one pass of a model. It keeps cache slots and visibility, and knows no model.

A pass puts the new nodes of every prompt side by side and lets each attend to the prompt, to its own ancestors and to
itself: tree attention (Miao et al. 2023, SpecInfer, section 4.2). Each node has one slot in the cache, whatever the
number of sequences that run through it, and the prompt is there once.

    prompt     | slots of the tree
    . . . . .  | a  b  c  d          b and c follow a, d follows c
    x x x x x  | x  -  x  x   <- what d sees

`Engine` is the seam to the model: it forwards tokens at positions that see certain slots, and knows no tree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .tree import ROOT, TokenTree

TOP_TOKENS = 16  # likeliest next tokens that are kept of every scored node, for drafts to recall
_ROOM = 256  # slots that the visibility matrix grows by: a growth copies it
_FEW = 32  # slots too few to be worth tidying
# inputs of a model that mark every token; what is generated is marked as the last token of the prompt, or 0 for text
TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")


@dataclass(frozen=True)
class Request:
    """One decode: the prompts, how far to go, and how wide.

    Attributes:
        input_ids, attention_mask: shape (batch, prompt length); a mask entry of 0 is padding, usually on the left.
        max_new_tokens: the deepest node that the search can reach.
        num_beams: running sequences a prompt.
        stop_tokens: end-of-sequence ids, in the order of the generation config.
        pad_token: fills up sequences that are finished.
        position_ids: of the prompts, (…, batch, prompt length); later tokens count on. None counts by the mask.
        model_inputs: further arguments of the model's forward pass over the prompts.
        reach: from the depth of running nodes to the deepest that may share their pass; None has no limit.
        allowed: what may follow a sequence of new tokens, where that is known ahead; drafts keep to it. That the search
            does, too, is for a logits processor to see to.
    """

    input_ids: Tensor
    attention_mask: Tensor
    max_new_tokens: int = sys.maxsize
    num_beams: int = 1
    stop_tokens: tuple[int, ...] = ()
    pad_token: int = 0
    position_ids: Tensor | None = None
    model_inputs: Mapping[str, Any] = field(default_factory=dict)
    reach: Callable[[int], int] | None = None
    allowed: Callable[[Sequence[int]], Sequence[int]] | None = None

    @property
    def candidates(self) -> int:
        """How many continuations a prompt's beam search keeps of a step, some of which may have ended."""
        return max(2, 1 + len(self.stop_tokens)) * self.num_beams

    @property
    def top_tokens(self) -> int:
        """How many likeliest tokens of a row to give, as far as the vocabulary goes.

        One more than a step keeps shows what is tied, and a shortest length forbids the stop tokens.
        """
        return max(TOP_TOKENS, self.candidates + 1 + len(self.stop_tokens))


@dataclass(frozen=True)
class TreePass:
    """New tokens to forward, a row a prompt, filled up on the right. The tokens go into the next free cache slots.

    Attributes:
        tokens, positions: shape (batch, width); positions count what the mask shows.
        visible: which slots each token sees, its own included; boolean, shape (batch, width, slots).
        slot_positions: the position in the text of every slot, shape (batch, slots).
        counts: how many tokens of each row are meant; the others fill it up.
    """

    tokens: np.ndarray
    positions: np.ndarray
    visible: np.ndarray
    slot_positions: np.ndarray
    counts: list[int]

    def pick(self, values: Tensor) -> Tensor:
        """(batch, width or more, …) -> (tokens that are meant, …), prompt after prompt."""
        if len(self.counts) == 1:
            return values[0, : self.counts[0]]
        return torch.cat([row[:count] for row, count in zip(values, self.counts, strict=True)])


class Output(NamedTuple):
    """What a model gives at some tokens: their logits, what a search reads off them, and hidden states if asked for.

    After a prompt the states are of all its tokens, (batch, prompt length, layers, hidden size); after a pass over
    nodes (tokens, layers, hidden size).
    """

    logits: Tensor  # (tokens, vocabulary); nobody looks at them where the likeliest tokens suffice
    log_normalizers: list[float]  # logsumexp of each row
    top_tokens: np.ndarray  # the likeliest of each row, best first; (tokens, as many as the request wants)
    top_log_probs: np.ndarray  # in nats, by log_softmax in float32
    states: Tensor | None = None

    @classmethod
    def of(cls, logits: Tensor, count: int, states: Tensor | None = None) -> Output:
        """What `logits` of shape (tokens, vocabulary) say, with the `count` likeliest tokens."""
        full = logits.float()
        top = full.log_softmax(-1).topk(min(count, full.shape[-1]))
        log_probs = top.values.cpu()
        best = full.gather(-1, top.indices[:, :1]).cpu()
        log_normalizers = best[:, 0].double() - log_probs[:, 0].double()  # logsumexp, without going over the rows again
        return cls(logits, log_normalizers.tolist(), top.indices.cpu().numpy(), log_probs.numpy(), states)


class Engine(Protocol):
    """How a model is forwarded over a cache of slots, for one decode at a time.

    The slots of a prompt come first, left padding included; a pass appends its tokens behind the slots in use.
    """

    name: str  # of the model, for messages
    runtime: str  # what its passes run in, for statistics

    @property
    def tokens(self) -> int:
        """Forwarded since the decode began, padding included."""
        ...

    def prefill(self, request: Request) -> Output:
        """Begin a decode: read the prompts into an empty cache; logits at their ends, shape (batch, vocabulary)."""
        ...

    def forward(self, tree_pass: TreePass) -> Output:
        """Append the tokens to the cache; rows of the output as `TreePass.pick` orders them."""
        ...

    def keep(self, begin: int, slots: np.ndarray) -> None:
        """Move the slots `begin + slots`, rising, shape (batch, kept), to `begin`; the cache ends after them."""
        ...

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""
        ...

    def rollback(self, slots: int) -> None:
        """The cache ends after this many slots, however far a pass that failed had come."""
        ...

    def close(self) -> None:
        """The decode is over, or was abandoned."""
        ...


class TreeScorer:
    """Scores nodes of one or several token trees, one tree a prompt, with an engine.

    `rows` are the prompts that are still in the batch, in the order of the cache's rows; `passes` counts those over
    the prompts too, and `peak_slots` are the most cache slots that were in use.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self.passes = self.peak_slots = 0

    @torch.inference_mode()
    def start(self, trees: list[TokenTree], request: Request) -> Output:
        """Read the prompts; the output has a row for each root."""
        seen = request.attention_mask.bool().cpu().numpy()
        self.trees, self.rows = trees, list(range(len(trees)))
        self._prompt_seen, self._prompt = seen, seen.shape[1]
        self._lengths = seen.sum(1)
        self._slot_positions = np.maximum(seen.cumsum(1) - 1, 0)  # those of the tree follow
        self._slots: list[dict[int, int]] = [{} for _ in trees]
        self._visible = np.zeros((len(trees), 0, 0), dtype=bool)  # among the slots of the tree
        self._used = 0
        self.peak_slots = seen.size
        output = self.engine.prefill(request)
        self.passes = 1
        return output

    @torch.inference_mode()
    def score(self, nodes: list[list[int]]) -> Output:
        """Forward `nodes` (a list a prompt) in one pass; rows in the order of the nodes, prompt after prompt.

        Every parent is a root, has been scored before or comes earlier in the same list. Where this raises, it is as
        if it had not been called.
        """
        nodes = [nodes[b] for b in self.rows]
        batch, width, used = len(nodes), max(map(len, nodes)), self._used
        if used + width > self._visible.shape[1]:
            roomy = np.zeros((batch, used + width + _ROOM, used + width + _ROOM), dtype=bool)
            roomy[:, :used, :used] = self._visible[:, :used, :used]
            self._visible = roomy
        tokens = np.zeros((batch, width), dtype=np.int64)
        positions = np.repeat(self._lengths[:, None], width, axis=1)
        for row, b in enumerate(self.rows):
            tree, slots, visible = self.trees[b], self._slots[b], self._visible[row]
            for i, node in enumerate(nodes[row]):
                slot = slots[node] = used + i
                if (parent := tree.parents[node]) != ROOT:
                    visible[slot] = visible[slots[parent]]
                visible[slot, slot] = True
                tokens[row, i] = tree.tokens[node]
                positions[row, i] += tree.depths[node] - 1
        in_prompt = np.broadcast_to(self._prompt_seen[:, None], (batch, width, self._prompt))
        in_tree = self._visible[:, used : used + width, : used + width]
        slot_positions = np.concatenate([self._slot_positions, positions], axis=1)
        tree_pass = TreePass(
            tokens, positions, np.concatenate([in_prompt, in_tree], axis=2), slot_positions, [*map(len, nodes)]
        )
        try:
            output = self.engine.forward(tree_pass)
        except BaseException:  # slots that are half written must never be seen
            self._visible[:, used:] = False
            for b, asked in zip(self.rows, nodes, strict=True):
                for node in asked:
                    self._slots[b].pop(node)
            self.engine.rollback(self._prompt + used)
            raise
        self._used, self._slot_positions = used + width, slot_positions
        self.passes += 1
        self.peak_slots = max(self.peak_slots, batch * (self._prompt + self._used))
        return output

    def scored(self, b: int, node: int) -> bool:
        """Whether `node` of prompt `b` has a slot in the cache (the root always has)."""
        return node == ROOT or node in self._slots[b]

    @torch.inference_mode()
    def compact(self, running: list[list[int]]) -> None:
        """Free the slots of nodes that searches with these running sequences cannot use, once they are a third of all.

        A prompt without running sequences is finished: it leaves the batch, and costs nothing from then on.
        """
        unfinished = [row for row, b in enumerate(self.rows) if running[b]]
        if unfinished and len(unfinished) < len(self.rows):
            self.rows = [self.rows[row] for row in unfinished]
            self._prompt_seen, self._lengths = self._prompt_seen[unfinished], self._lengths[unfinished]
            self._visible, self._slot_positions = self._visible[unfinished], self._slot_positions[unfinished]
            self.engine.select(unfinished)
        if self._used < _FEW:
            return
        kept = []
        for b in self.rows:
            reachable = self.trees[b].reachable(running[b])
            kept.append([node for node in self._slots[b] if node in reachable])
        width = max(map(len, kept))
        if 3 * width > 2 * self._used:
            return
        order = np.zeros((len(kept), width), dtype=np.int64)  # a shorter list is filled up with its first slot
        visible = np.zeros_like(self._visible)
        for row, (b, nodes) in enumerate(zip(self.rows, kept, strict=True)):
            index = order[row, : len(nodes)] = [self._slots[b][node] for node in nodes]
            visible[row, : len(nodes), : len(nodes)] = self._visible[row][np.ix_(index, index)]
            self._slots[b] = {node: slot for slot, node in enumerate(nodes)}
        in_tree = np.take_along_axis(self._slot_positions[:, self._prompt :], order, axis=1)
        self._slot_positions = np.concatenate([self._slot_positions[:, : self._prompt], in_tree], axis=1)
        self._visible, self._used = visible, width
        self.engine.keep(self._prompt, order)
