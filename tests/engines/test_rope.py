"""Rotary frequencies that depend on the length of the text: the same tokens as `generate` on both sides of the switch.

A rope module may remember the longest text so far, so `generate` runs on a copy of the model that has the same past.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from fakes import fake_pair
from sparse import mostly_slow
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhimoeConfig,
    Qwen2Config,
)

import specbeam as sb
from specbeam.engines import torch_engine
from specbeam.engines.rope import LengthRope

KINDS: dict[str, Any] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "phi3": Phi3Config,
    "phimoe": PhimoeConfig,
}
SWITCH = 16


def tiny(kind: str, rope_type: str, switch: int = SWITCH, **options: Any) -> Any:
    torch.manual_seed(0)
    rope: dict[str, Any] = {"rope_type": rope_type, "rope_theta": 1e4, "factor": 4.0}
    longest = switch
    if rope_type == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0]}
        rope |= {"short_mscale": 1.0, "long_mscale": 1.0} if kind == "phimoe" else {}
        rope["original_max_position_embeddings"], longest = switch, 4 * switch
    elif rope_type == "yarn":
        rope["original_max_position_embeddings"] = switch
    config = KINDS[kind]
    if kind in ("phi3", "phimoe"):
        options["original_max_position_embeddings"] = switch
    if kind == "phimoe":
        options |= {"num_local_experts": 2, "num_experts_per_tok": 1}
    size = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": None}
    made = config(
        **size, **heads, **options, initializer_range=0.3, max_position_embeddings=longest, rope_parameters=rope
    )
    return AutoModelForCausalLM.from_config(made, experts_implementation="eager").double().eval()


def prompts(*lengths: int) -> dict[str, torch.Tensor]:
    randomness, width = torch.Generator().manual_seed(sum(lengths)), max(lengths)
    ids = torch.randint(4, 96, (len(lengths), width), generator=randomness)
    mask = torch.tensor([[0] * (width - length) + [1] * length for length in lengths])
    return {"input_ids": ids * mask, "attention_mask": mask}


class Twin(sb.Draft):
    """Proposes what a copy of the target finds likeliest: drafts that are often right, far ahead."""

    def __init__(self, model: Any):
        self.model = copy.deepcopy(model)

    def propose(self, tree: Any, node: int) -> list[sb.Proposal]:
        with torch.no_grad():
            logits = self.model(torch.tensor([tree.prompt + tree.path(node)])).logits[0, -1]
        top = logits.log_softmax(-1).topk(4)
        return [sb.Proposal(*pair) for pair in zip(top.indices.tolist(), top.values.tolist(), strict=True)]


def check(model: Any, calls: list[tuple[dict[str, torch.Tensor], dict[str, Any]]]) -> None:
    """Every entrance gives the tokens of `generate` for a row of calls, each entrance on a copy with the same past."""
    plain = copy.deepcopy(model)
    wanted = [plain.generate(**inputs, do_sample=False, **options) for inputs, options in calls]
    for name in ("plain", "speculative", "drop-in"):
        target = copy.deepcopy(model)
        draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft(), Twin(model)])
        for (inputs, options), rows in zip(calls, wanted, strict=True):
            if name == "drop-in":
                found = sb.SpeculativeLM(target, draft).generate(**inputs, do_sample=False, **options)
                assert torch.equal(found, rows), name
                continue
            several = options.get("num_beams", 1) > 1
            method = {"plain": ("greedy", "beam"), "speculative": ("speculative", "speculative_beam")}[name][several]
            decoded = (
                sb.METHODS[method](fake_pair(target, draft), inputs, num_assistant_tokens=12, **options)
                if (name == "speculative")
                else sb.METHODS[method](fake_pair(target), inputs, **options)
            )
            for one, row in zip(decoded.sequences, rows[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                assert one == row[: len(one)], method


OFTEN = mostly_slow(KINDS, lambda kind: kind == "phi3")
LENGTHS = {"before": (5,), "crossing": (10,), "at": (16,), "one beyond": (17,), "beyond": (20,), "batch": (12, 7, 15)}


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", OFTEN)
def test_longrope_is_exact_before_across_and_beyond_the_switch(kind: str, lengths: tuple[int, ...], beams: int) -> None:
    check(tiny(kind, "longrope"), [(prompts(*lengths), {"max_new_tokens": 10, "num_beams": beams})])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", mostly_slow(["llama", "qwen2"], lambda kind: kind == "llama"))
def test_dynamic_frequencies_are_exact_at_every_length(kind: str, lengths: tuple[int, ...], beams: int) -> None:
    check(tiny(kind, "dynamic"), [(prompts(*lengths), {"max_new_tokens": 10, "num_beams": beams})])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", OFTEN)
def test_padding_before_every_prompt_moves_where_the_text_is_read_anew(kind: str, beams: int) -> None:
    inputs = {name: torch.nn.functional.pad(value, (3, 0)) for name, value in prompts(11, 9).items()}
    check(tiny(kind, "longrope"), [(inputs, {"max_new_tokens": 10, "num_beams": beams})])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", OFTEN)
def test_a_text_after_padding_on_the_right_counts_on_from_the_start(kind: str, beams: int) -> None:
    inputs = {name: torch.nn.functional.pad(value, (0, 2)) for name, value in prompts(12, 9).items()}
    check(tiny(kind, "longrope"), [(inputs, {"max_new_tokens": 12, "num_beams": beams})])


@pytest.mark.parametrize("kind", ["mistral", "phi3"])
def test_no_cache_is_refused_where_a_cache_makes_another_text(kind: str) -> None:
    model = tiny(kind, "longrope")
    with pytest.raises(ValueError, match=r"use_cache=False.*beyond 16 tokens.*leave use_cache out"):
        sb.greedy(fake_pair(model), prompts(12), max_new_tokens=8, use_cache=False)
    check(model, [(prompts(12), {"max_new_tokens": 4, "use_cache": False})])


@pytest.mark.parametrize("rope_type", ["longrope", "dynamic"])
def test_decodes_in_a_row_find_what_the_one_before_left(rope_type: str) -> None:
    long = {"max_new_tokens": 12}
    check(tiny("llama", rope_type), [(prompts(10), long), (prompts(4), long), (prompts(18), long), (prompts(12), long)])


@pytest.mark.parametrize("kind", ["mistral", "phi3"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_prompt_that_is_finished_still_counts_for_the_length_of_the_batch(kind: str, beams: int) -> None:
    model, inputs = tiny(kind, "longrope"), prompts(15, 4)
    first = copy.deepcopy(model).generate(**inputs, do_sample=False, max_new_tokens=3)[0, 16]
    options = {"max_new_tokens": 12, "num_beams": beams, "eos_token_id": int(first), "pad_token_id": 0}
    check(model, [(inputs, options)])


@pytest.mark.parametrize("kind", ["mistral", "phi3"])
def test_a_long_prompt_is_read_as_one_text(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "CHUNK", 8)
    check(tiny(kind, "longrope"), [(prompts(20), {"max_new_tokens": 4}), (prompts(14), {"max_new_tokens": 6})])


@pytest.mark.parametrize("kind", ["phi3", "mistral"])
def test_speculative_sampling_crosses_the_switch_with_the_targets_distribution_in_sight(kind: str) -> None:
    model = tiny(kind, "longrope")
    pair = fake_pair(model, Twin(model))
    options = {"do_sample": True, "max_new_tokens": 10, "top_k": 1}  # one choice a step, so the draws are known
    wanted = copy.deepcopy(model).generate(**prompts(12, 9), do_sample=False, max_new_tokens=10)
    decoded = sb.speculative(pair, prompts(12, 9), **options)
    assert decoded.sequences == wanted[:, 12:].tolist()


@pytest.mark.parametrize("rope_type", ["yarn", "linear"])
@pytest.mark.parametrize("beams", [1, 3])
def test_fixed_scalings_are_served_as_far_as_transformers_serves_them(rope_type: str, beams: int) -> None:
    model = tiny("qwen2", rope_type)
    assert LengthRope.of(model) is None
    check(model, [(prompts(20, 13), {"max_new_tokens": 10, "num_beams": beams})])


def test_drafts_do_not_reach_across_the_switch() -> None:
    rope = LengthRope(16, each_length=False, rereads=False)
    assert (rope.reach(10, 0), rope.reach(10, 6)) == (6, 6)
    assert rope.reach(10, 7) > 1000
    every = LengthRope(16, each_length=True, rereads=False)
    assert (every.reach(10, 6), every.reach(10, 7), every.reach(20, 0)) == (6, 7, 0)
