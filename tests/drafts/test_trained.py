"""A trained draft on disk: what is loaded proposes what was saved, and what does not fit is refused by name."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from eagle_target import IDS, KEPT, MASK, tiny_target
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

import specbeam as sb
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.fingerprint import fingerprint
from specbeam.drafts.trained import SHIPPED, WEIGHTS, card, load_draft, new_draft, save_draft

TRAINING: dict[str, Any] = {
    **{"target": "tiny", "licence": "Apache-2.0", "data": "its own texts", "positions_written": 1234},
    **{"positions_seen": 98765, "train_minutes": 12.3, "machine": "two threads", "depths": 2, "parameters": 777},
    **{"kept_tokens": 48, "agreement": {"chat": {"tokens": 55, "top_1": [0.61, 0.52], "top_4": [0.83, 0.74]}}},
}


def test_a_loaded_draft_has_the_weights_that_were_saved(tmp_path: Path) -> None:
    target = tiny_target()
    model = new_draft(target, KEPT)
    save_draft(model, tmp_path, "tiny")
    loaded = load_draft(tmp_path, target, packed=False)
    assert loaded.kept.tolist() == KEPT.tolist() and loaded.config == model.config
    for name, weight in model.trained().items():
        torch.testing.assert_close(dict(loaded.named_parameters())[name].float(), weight.detach().bfloat16().float())
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_packed_for_drafting_it_still_says_the_same(tmp_path: Path) -> None:
    target = tiny_target().float()
    save_draft(new_draft(target, KEPT), tmp_path, "tiny")
    plain, packed = load_draft(tmp_path, target, packed=False), load_draft(tmp_path, target)
    state = torch.randn(3, 32)
    with torch.no_grad():
        wanted = plain.logits(state)
        got = packed.logits(state.to(packed.embedding_norm.dtype)).float()
    torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.05 * float(wanted.abs().max()))


def test_load_pair_takes_its_folder_and_tokens_stay_those_of_generate(tmp_path: Path) -> None:
    target = tiny_target()
    save_draft(new_draft(target, KEPT), tmp_path, "tiny")
    lm = sb.SpeculativeLM(target, EagleDraft(load_draft(tmp_path, target)))
    options = {"attention_mask": MASK, "max_new_tokens": 16, "num_beams": 3, "do_sample": False}
    assert lm.generate(IDS, **options).tolist() == target.generate(IDS, **options).tolist()


def test_a_target_of_another_shape_is_refused(tmp_path: Path) -> None:
    save_draft(new_draft(tiny_target(), KEPT), tmp_path, "tiny")
    config = AutoConfig.for_model(
        "llama", vocab_size=96, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16
    )
    with pytest.raises(ValueError, match=r"trained for tiny with 3 layers of 32.*has 3 of 16.*specbeam distill"):
        load_draft(tmp_path, AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_folder_without_a_whole_draft_is_refused(tmp_path: Path, damage: str) -> None:
    if damage == "cut":
        save_draft(new_draft(tiny_target(), KEPT), tmp_path, "tiny")
        (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:200])
    with pytest.raises(ValueError, match=r"holds no trained draft.*specbeam distill"):
        load_draft(tmp_path, tiny_target())


def test_a_draft_with_other_weights_than_its_shape_says_is_refused(tmp_path: Path) -> None:
    target = tiny_target()
    model = new_draft(target, KEPT)
    weights = {name: weight.detach() for name, weight in model.trained().items()} | {"kept": KEPT.int()}
    metadata = {"config": json.dumps(asdict(model.config)), "target": "tiny"}
    for name, weight in (("join.weight", None), ("join.weight", torch.zeros(3, 3)), ("kept", None)):
        damaged = {n: w for n, w in weights.items() if n != name} | ({} if weight is None else {name: weight})
        save_file(damaged, tmp_path / WEIGHTS, metadata)
        with pytest.raises(ValueError, match=r"holds no trained draft.*specbeam distill"):
            load_draft(tmp_path, target)
    save_file(weights, tmp_path / WEIGHTS, metadata)
    load_draft(tmp_path, target)


def test_a_draft_without_a_fingerprint_is_taken_at_its_word(tmp_path: Path) -> None:
    target, other = tiny_target(), tiny_target()
    other.get_input_embeddings().weight.data.mul_(1.5)
    save_draft(new_draft(target, KEPT), tmp_path, "tiny")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_draft(tmp_path, other)
    save_draft(new_draft(target, KEPT), tmp_path, "tiny", fingerprint(target))
    with pytest.warns(UserWarning, match="other weights"):
        load_draft(tmp_path, other)


def test_the_shipped_draft_is_refused_for_another_model() -> None:
    with pytest.raises(ValueError, match="SmolLM2-135M-Instruct"):
        load_draft(SHIPPED, tiny_target())


def test_the_shipped_weights_are_small_and_come_with_a_card() -> None:
    assert (SHIPPED / WEIGHTS).stat().st_size <= 16_000_000
    assert "Licence" in (SHIPPED / "README.md").read_text(encoding="utf-8")


def test_the_card_holds_what_the_training_recorded() -> None:
    text = card(TRAINING)
    for part in ("tiny", "Apache-2.0", "1,234", "98,765", "12 minutes", "777", "| chat | 55 | 0.61 (top 4: 0.83) |"):
        assert part in text
