"""EagleDraft: guesses from the target's own hidden states, with a trained `EagleModel`.

Where the target has scored a node's parent, the model sees the target's states there. Further down it continues from
its own outputs, level by level. Those guesses are forgotten with the next round, and the running sequences are read
again with the target's states, so an error lasts one round at most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from specbeam.core.draft import Draft, Proposal
from specbeam.core.scorer import Output, Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree

from .eagle_engine import EagleEngine
from .eagle_model import EagleModel
from .trained import pack_draft

Reading = tuple[Tensor, list[Proposal]]  # the model's output at a node, and the likeliest tokens after it


class EagleDraft(Draft):
    """Proposes what a trained model finds likely.

    Args:
        model: the model, trained for the target that it is used with.
        width: proposals a node.
    """

    def __init__(self, model: EagleModel, width: int = 8):
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}.")
        self.model, self.width = model, width
        self.state_layers = model.config.layers
        self._set(EagleEngine(model, width))

    def prepare(self, onnx: bool) -> None:
        """Make drafting fast on a CPU: in ONNX Runtime, with rounded weights, or in PyTorch with packed ones."""
        if onnx:
            from .eagle_onnx import OnnxEagleEngine  # half a second, for those who use it

            self._set(OnnxEagleEngine(self.model, self.width))
        else:
            pack_draft(self.model)

    def _set(self, engine: EagleEngine) -> None:
        self._engine, self._scorer = engine, TreeScorer(engine)

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._trees, self._prompts = trees, Request(input_ids, attention_mask)
        self._known: list[dict[int, Tensor]] = [{} for _ in trees]  # the fused state where the target has scored
        self._final: list[set[int]] = [set() for _ in trees]  # read with the target's state before them
        # the output at a node and what it proposes, of this round; the root's stays
        self._guessed: list[dict[int, Reading]] = [{} for _ in trees]
        self._roots: dict[int, Reading] = {}
        self._prompt_states: Tensor | None = None  # of the target, as long as they are not fused
        self._scored: list[tuple[list[list[int]], Tensor]] = []  # nodes and their states, the same

    @torch.inference_mode()
    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        """Keep them: where nothing is drafted, nothing is read, prompts included."""
        if nodes is None:
            self._prompt_states = states
        else:
            self._scored.append((nodes, states))

    def _fuse(self) -> None:
        if self._prompt_states is not None:
            fused, self._prompt_states = self._engine.fused(self._prompt_states), None
            # at the first token of a prompt there is no state before it: `EagleEngine` hides its slot
            self._engine.before = torch.cat([fused[:, :1], fused[:, :-1]], 1)
            output = self._scorer.start(self._trees, self._prompts)
            self.passes += 1
            for b, reading in enumerate(self._readings(output)):
                self._known[b][ROOT] = fused[b, -1]
                self._roots[b] = self._guessed[b][ROOT] = reading
        if self._scored:
            rows = iter(self._engine.fused(torch.cat([states for _, states in self._scored])))
            for nodes, _ in self._scored:
                for known, scored in zip(self._known, nodes, strict=True):
                    known.update((node, next(rows)) for node in scored)
            self._scored = []

    def follow(self, b: int, running: list[int]) -> None:
        self._guessed[b] = {ROOT: self._roots[b]} if b in self._roots else {}

    @torch.inference_mode()
    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        self._fuse()
        unread = [self._unread(b, tree, asked) for b, (tree, asked) in enumerate(zip(trees, nodes, strict=True))]
        while any(unread):
            # a node whose parent is a guess waits for its parent's output
            wave = [
                [n for n in left if tree.parents[n] in self._known[b] or tree.parents[n] in self._guessed[b]]
                for b, (tree, left) in enumerate(zip(trees, unread, strict=True))
            ]
            self._read(trees, wave)
            unread = [[n for n in left if n not in self._guessed[b]] for b, left in enumerate(unread)]
        return [[self._guessed[b][node][1] for node in asked] for b, asked in enumerate(nodes)]

    def compact(self, running: list[list[int]]) -> None:
        if self._roots:
            self._scorer.compact(running)

    def finish(self) -> None:
        self._engine.close()
        self._known, self._guessed, self._roots, self._scored = [], [], {}, []
        self._prompt_states = None

    def _unread(self, b: int, tree: TokenTree, nodes: list[int]) -> list[int]:
        """The nodes and their ancestors, as far as they have not been read as well as they can be."""
        unread: set[int] = set()
        for node in nodes:
            while node not in unread and node not in self._guessed[b]:
                if node in self._final[b] and node not in nodes:
                    break
                unread.add(node)
                node = tree.parents[node]
        return sorted(unread)

    def _read(self, trees: list[TokenTree], wave: list[list[int]]) -> None:
        width = max(map(len, wave))
        before, final = [], [set(some) for some in wave]
        for b in self._scorer.rows:
            rows = []
            for node in wave[b]:
                parent = trees[b].parents[node]
                if parent not in self._known[b]:
                    final[b].discard(node)
                rows.append(self._known[b][parent] if parent in self._known[b] else self._guessed[b][parent][0])
            before.append(F.pad(torch.stack(rows), (0, 0, 0, width - len(rows))) if rows else None)
        blank = next(rows for rows in before if rows is not None).new_zeros
        self._engine.before = torch.stack(
            [blank(width, self.model.config.hidden_size) if rows is None else rows for rows in before]
        )
        readings = iter(self._readings(self._scorer.score(wave)))
        self.passes += 1
        for b, asked in enumerate(wave):
            self._final[b] |= final[b]
            self._guessed[b].update((node, next(readings)) for node in asked)

    def _readings(self, output: Output) -> list[Reading]:
        assert output.states is not None
        tokens = self.model.kept[torch.from_numpy(output.top_tokens)].tolist()
        rows = zip(output.states, tokens, output.top_log_probs.tolist(), strict=True)
        return [(state, list(map(Proposal, tokens, values))) for state, tokens, values in rows]
