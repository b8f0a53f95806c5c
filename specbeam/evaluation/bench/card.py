"""A check of one GPU within minutes: transformers and specbeam in turns, from greedy to 32 beams, one prompt and eight.

The model has the shape of a small Qwen2 and random weights, so nothing has to be downloaded. Random weights say nothing
of what a draft foresees; they do say what a pass costs, launched kernel by kernel or replayed as a CUDA graph, and
what a tree saves against a cache for each beam.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from specbeam.decoding.decoders import Pair
from specbeam.drafts.recall import NgramDraft, RecallDraft
from specbeam.drafts.union import UnionDraft
from specbeam.engines.cuda_graphs import Recordings
from specbeam.engines.target import Target
from specbeam.experiments.records import RunRecord

from .cases import NO_DRAFT, PLAIN, UNTRAINED, Case, Run, Runner
from .measure import measure
from .report import record, rows
from .runners import Contenders, make_runners

NAME = "gpu_check"  # of the record
BEAMS, BATCHES = (1, 4, 8, 32), (1, 8)
PROMPT_TOKENS, VOCABULARY = 64, 151936
RECORDED = ", CUDA graphs"


def random_model(dtype: torch.dtype, device: torch.device | str, layers: int = 24, seed: int = 0) -> PreTrainedModel:
    """A Qwen2 of half a billion parameters with random weights; fewer `layers` make it smaller."""
    config = Qwen2Config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)


def plan(
    beams: Sequence[int],
    batches: Sequence[int],
    device: torch.device | str,
    vocabulary: int = VOCABULARY,
    seed: int = 0,
) -> list[Case]:
    """A case for each number of prompts and beams; prompts are random and of one length."""
    generator, cases = torch.Generator().manual_seed(seed), []
    for batch in batches:
        ids = torch.randint(1, vocabulary, (batch, PROMPT_TOKENS), generator=generator).to(device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        cases += [Case(f"batch_{batch}", num_beams, 1, True, [inputs]) for num_beams in beams]
    return cases


def runners(pair: Pair, max_new_tokens: int) -> dict[str, Runner]:
    """transformers, the tree alone, and the drafts that need no training; on CUDA ours also with recorded passes."""
    drafted = replace(pair, draft=UnionDraft([RecallDraft(), NgramDraft()]))
    made = make_runners(Contenders(pair, pair, {UNTRAINED: drafted}), max_new_tokens)
    target = Target.of(pair.target)
    wanted: dict[str, Runner] = {PLAIN: made[PLAIN]}
    for name in (NO_DRAFT, UNTRAINED):
        wanted[name] = _with(target, None, made[name])
        if pair.target.device.type == "cuda":
            wanted[name + RECORDED] = _with(target, Recordings(pair.target), made[name])
    return wanted


def _with(target: Target, recordings: Recordings | None, runner: Runner) -> Runner:
    def run(inputs: Mapping[str, Any], num_beams: int) -> Run:
        target.recordings = recordings
        return runner(inputs, num_beams)

    return run


def check(
    pair: Pair,
    cases: Sequence[Case],
    parameters: Mapping[str, Any],
    done: Callable[[int, Case], None] | None = None,
) -> RunRecord:
    """Warm up, measure, and make the record. `parameters` hold "repeats" and "max_new_tokens"."""
    began = time.perf_counter()
    measure(cases, runners(pair, min(parameters["max_new_tokens"], 8)), 1)
    runs = measure(cases, runners(pair, parameters["max_new_tokens"]), parameters["repeats"], done)
    made = record(rows(cases, runs), parameters, pair, runs, default=UNTRAINED)
    made.notebook, made.seconds = NAME, time.perf_counter() - began
    return made
