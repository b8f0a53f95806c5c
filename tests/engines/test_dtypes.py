"""Half precision: what decodes differently from transformers is explained by rounding, and no mask overflows.

float16 reaches to 65504 only. The lowest number stands for "not allowed" in a mask, and a score is added to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import fake_pair
from tiny_models import chat_tokenizer, tiny_llama
from torch import Tensor

import specbeam as sb
from specbeam.core.scorer import Request, TreeScorer
from specbeam.core.tree import TokenTree
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.trained import SHIPPED, load_draft, new_draft, save_draft
from specbeam.engines.torch_engine import TorchEngine
from specbeam.evaluation.agreement import agreement
from specbeam.evaluation.tiny_families import FAMILIES, tiny_model
from specbeam.models.embedded import carrier_file
from specbeam.models.load import load_pair

HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
KINDS = pytest.mark.parametrize(  # grouped heads, learned positions, a window, ALiBi, capped scores
    ("kind", "attention"),
    [
        ("llama", "sdpa"),
        ("llama", "eager"),
        ("gpt2", "eager"),
        ("mistral", "sdpa"),
        ("bloom", "eager"),
        ("gemma2", "eager"),
    ],
)
KEPT = torch.tensor([3, 19, 14, 7, 55])
BATCH = {
    "input_ids": torch.tensor([[9, 41, 33, 5, 17, 80], [0, 0, 0, 0, 27, 64], [0, 0, 50, 6, 71, 12]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]),
}


def halved(kind: str, attention: str, dtype: torch.dtype) -> Any:
    return tiny_model(next(one for one in FAMILIES if one.kind == kind), attention).to(dtype)


def prompts_of(number: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(3, 60, (1, 4 + 3 * i), generator=generator)} for i in range(number)]


@HALVES
@KINDS
def test_rounding_explains_what_differs_from_generate(kind: str, attention: str, dtype: torch.dtype) -> None:
    pair = fake_pair(halved(kind, attention, dtype), sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()]))
    for num_beams in (1, 4):
        found = agreement(pair, prompts_of(3), num_beams=num_beams, max_new_tokens=10)
        assert found.unexplained == []
        assert found.noise < 0.1


@HALVES
@KINDS
def test_prompts_of_different_lengths_score_as_each_alone(kind: str, attention: str, dtype: torch.dtype) -> None:
    pair = fake_pair(halved(kind, attention, dtype), sb.RecallDraft())
    found = sb.speculative_beam(pair, BATCH, num_beams=3, max_new_tokens=6)
    for b, (ids, mask) in enumerate(zip(*BATCH.values(), strict=True)):
        alone = sb.beam(pair, {"input_ids": ids[mask.bool()][None]}, num_beams=3, max_new_tokens=6)
        assert found.scores[b] == pytest.approx(alone.scores[0], abs=0.05)


@HALVES
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_scores_far_below_zero_under_a_mask_leave_no_row_without_sight(attention: str, dtype: torch.dtype) -> None:
    """-65504 - 70 is minus infinity in float16, and a softmax over nothing else would be NaN."""
    model = halved("gpt2", attention, dtype)
    for block in model.transformer.h:
        third = block.attn.c_attn.bias.shape[0] // 3
        block.attn.c_attn.bias.data[:third] += 5  # queries
        block.attn.c_attn.bias.data[third : 2 * third] -= 5  # keys: every score is lowered by 25 · √(head dim)
    trees = [TokenTree([9, 41, 33, 5, 17, 80]), TokenTree([27, 64]), TokenTree([50, 6, 71, 12])]
    scorer = TreeScorer(TorchEngine(model))
    assert scorer.start(trees, Request(BATCH["input_ids"], BATCH["attention_mask"])).logits.isfinite().all()
    nodes = [
        [tree.child(0, token) for token in range(3, 3 + width)] for tree, width in zip(trees, (4, 1, 2), strict=True)
    ]
    assert scorer.score(nodes).logits.isfinite().all()
    deeper = [[tree.child(asked[0], 30)] for tree, asked in zip(trees, nodes, strict=True)]
    logits = scorer.score(deeper).logits
    for tree, (node,), found in zip(trees, deeper, logits, strict=True):
        alone = model(torch.tensor([tree.prompt + tree.path(node)])).logits[0, -1]
        torch.testing.assert_close(found, alone, rtol=0, atol=0.05)


@HALVES
@pytest.mark.parametrize("packed", [True, False])
def test_a_trained_draft_proposes_for_a_target_in_half_precision(
    packed: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    target = tiny_llama(dtype)
    save_draft(new_draft(target, KEPT), tmp_path, "tiny")
    draft = load_draft(tmp_path, target, packed=packed)
    assert packed or draft.out.weight.dtype == dtype
    pair = fake_pair(target, EagleDraft(draft))
    assert sb.speculative(pair, prompts_of(1)[0], max_new_tokens=8, num_assistant_tokens=6).stats.drafted > 0
    for num_beams in (1, 3):
        assert agreement(pair, prompts_of(2), num_beams=num_beams, max_new_tokens=8).unexplained == []


@HALVES
def test_a_folder_loads_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny_llama(torch.float32, size=64).save_pretrained(tmp_path)
    chat_tokenizer().save_pretrained(tmp_path)
    pair = load_pair(tmp_path, device="cpu", dtype=str(dtype).removeprefix("torch."))
    assert pair.target.dtype == dtype
    assert agreement(pair, prompts_of(2), num_beams=3, max_new_tokens=8).unexplained == []


@pytest.mark.model
@pytest.mark.slow
def test_the_embedded_pair_in_float16_says_what_generate_says_up_to_rounding() -> None:
    try:
        carrier_file()
    except ValueError as error:
        pytest.skip(str(error))
    pair = load_pair(device="cpu", dtype="float16", draft="none")
    prompts = [sb.render_prompt(pair.tokenizer, "What is a beam search?")]
    draft = EagleDraft(load_draft(SHIPPED, pair.target, packed=False))  # in float16 too
    trained = fake_pair(pair.target, draft, pair.tokenizer)
    assert agreement(trained, prompts, max_new_tokens=6).unexplained == []
    found = sb.speculative(trained, prompts[0], max_new_tokens=8, num_assistant_tokens=6)
    assert found.stats.steps_per_pass > 1
