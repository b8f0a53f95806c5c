"""Beam searches of the target with its hidden states: what a draft meets under beams, dead branches included.

A draft that learns from one text a prompt meets all other beams untrained. DistillBeam (openreview.net, Kf5I0OrZrr) and
AtSpeed (Lin et al. 2024) train drafts on what beams keep, too.

A shard is one safetensors file. `states` (nodes, layers, hidden size) are the target's hidden states at every node of
the searches' trees, prompts included. A row is a branch: `tokens` (rows, length), `nodes` (rows, length), where their
states are, `begins` (rows,), where its own part begins, since what comes before is judged in another row, and `ends`
(rows,).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from specbeam.core.draft import Draft, Proposal
from specbeam.core.tree import ROOT, TokenTree
from specbeam.decoding.decoders import Pair, speculative_beam
from specbeam.decoding.trace import Trace
from specbeam.files import write_atomic

from .prompts_and_answers import template_parts

TOGETHER = 8  # prompts searched side by side
_OPENING = 16  # tokens of a text that are its prompt, for a target without a chat template


class StateRecorder(Draft):
    """Proposes nothing, and keeps the target's hidden states at every node that a search asked for.

    Args:
        layers: whose states to keep; 0 is the embedding.
    """

    def __init__(self, layers: tuple[int, ...]):
        self.state_layers = layers

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._masks = attention_mask.bool()
        self.prompts: list[Tensor] = []  # states at the prompts' tokens, (prompt length, layers, hidden size) each
        self.nodes: list[dict[int, Tensor]] = [{} for _ in trees]  # and at each node, (layers, hidden size)

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        states = states.to("cpu", torch.bfloat16, copy=True)
        if nodes is None:
            self.prompts = [row[mask] for row, mask in zip(states, self._masks.cpu(), strict=True)]
            return
        rows = iter(states)
        for known, scored in zip(self.nodes, nodes, strict=True):
            known.update((node, next(rows)) for node in scored)

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        return []


def branches(trace: Trace) -> list[tuple[list[int], int]]:
    """The branches of a search: the nodes from the root on to an end, root included, and how many are not its own.

    Every node is some branch's own; the longest branches come first.
    """
    visited = {node for step in trace.steps for node in step}
    ends = visited - {trace.nodes[node].parent for node in visited}
    paths = sorted(([ROOT, *trace.path(end)] for end in ends), key=lambda path: (-len(path), path))
    found, owned = [], set[int]()
    for path in paths:
        shared = next(at for at, node in enumerate(path) if node not in owned)
        owned.update(path)
        found.append((path, shared))
    return found


def write_beam_shard(
    pair: Pair,
    texts: Path,
    shard: int,
    layers: tuple[int, ...],
    *,
    prompts: int = 16,
    num_beams: Sequence[int] = (4, 8),
    max_new_tokens: int = 48,
    seed: int = 0,
) -> int:
    """Search from prompts of the text shard with this number, unless it is there; returns how many nodes it holds.

    Where no text of that shard came to an answer there is nothing to search from: no file is written, and it is 0.

    Args:
        pair: the target and its tokenizer; the draft is not used.
        texts: the folder of the shards, which gets `beams-00000.safetensors` and so on.
        layers: whose hidden states to keep (`EagleConfig.layers`).
        prompts: how many of the shard's prompts.
        num_beams: widths of the searches, in turns.
    """
    path = texts / f"beams-{shard:05d}.safetensors"
    if path.exists():
        with safe_open(path, framework="pt") as file:
            return file.get_slice("states").get_shape()[0]
    draw = random.Random(f"{seed}-{shard}")
    known = questions_of(texts / f"{shard:05d}.safetensors", template_parts(pair.tokenizer)[1])
    chosen = sorted(draw.sample(known, min(prompts, len(known))), key=len)
    if not chosen:
        return 0
    recorder = StateRecorder(layers)
    recording = Pair(pair.target, recorder, pair.tokenizer, pair.name, pair.revisions)
    states: list[Tensor] = []
    rows: list[tuple[list[int], list[int], int]] = []  # tokens, nodes, where its own part begins
    count = 0
    for turn, first in enumerate(range(0, len(chosen), TOGETHER)):
        some = chosen[first : first + TOGETHER]
        decoded = speculative_beam(
            recording,
            _padded(some),
            num_beams=num_beams[turn % len(num_beams)],
            num_assistant_tokens=1,
            max_new_tokens=max_new_tokens,
            trace=True,
        )
        assert decoded.trace is not None
        for prompt, trace, own, after in zip(some, decoded.trace, recorder.prompts, recorder.nodes, strict=True):
            places = {node: count + len(prompt) + at for at, node in enumerate(after)}
            trunk = list(range(count, count + len(prompt)))
            for branch, shared in branches(trace):
                tokens = [trace.nodes[node].token for node in branch[1:]]
                begins = len(prompt) - 1 + shared
                rows.append((prompt + tokens, trunk + [places[node] for node in branch[1:]], begins))
            states += [own, *([torch.stack([*after.values()])] if after else [])]
            count += len(prompt) + len(after)
    write_atomic(path, save(_columns(rows, torch.cat(states))))
    return count


def questions_of(shard: Path, suffix: list[int]) -> list[list[int]]:
    """The prompts of the texts in a shard: all up to the template's `suffix` of a user's message, that included.

    Without a template a text's first tokens are its prompt. Texts that end within it are left out.
    """
    with safe_open(shard, framework="pt") as file:
        columns = (file.get_tensor(name).tolist() for name in ("tokens", "ends"))
        found = []
        for row, end in zip(*columns, strict=True):
            places = range(1, end - len(suffix))
            at = next((at for at in places if row[at : at + len(suffix)] == suffix), None) if suffix else _OPENING
            if at is not None and at + len(suffix) < end:
                found.append(row[: at + len(suffix)])
    return found


def _padded(prompts: Sequence[list[int]]) -> dict[str, Tensor]:
    width = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[0] * (width - len(one)) + one for one in prompts]),
        "attention_mask": torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts]),
    }


def _columns(rows: Sequence[tuple[list[int], list[int], int]], states: Tensor) -> dict[str, Tensor]:
    length = max(len(tokens) for tokens, _, _ in rows)

    def filled(values: list[int]) -> list[int]:
        return values + [values[0]] * (length - len(values))

    return {
        "tokens": torch.tensor([filled(tokens) for tokens, _, _ in rows], dtype=torch.int32),
        "nodes": torch.tensor([filled(nodes) for _, nodes, _ in rows], dtype=torch.int32),
        "begins": torch.tensor([begins for _, _, begins in rows], dtype=torch.int32),
        "ends": torch.tensor([len(tokens) for tokens, _, _ in rows], dtype=torch.int32),
        "states": states,
    }
