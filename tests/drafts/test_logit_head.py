"""What is made of a target's hidden states are the target's own logits: with its bias, its scaling and its cap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from specbeam.drafts.logit_head import AfterHead, LogitHead
from specbeam.drafts.trained import load_draft, new_draft, save_draft
from specbeam.evaluation.tiny_families import FAMILIES, Family, tiny_model
from specbeam.training.standalone import StandaloneStudent, layers_of
from specbeam.training.training import FeatureStudent, target_probs

TOKENS = torch.tensor([[5, 9, 17, 33, 65, 12, 7, 80], [6, 10, 18, 34, 66, 13, 8, 81]])
KEPT = torch.tensor([3, 90, 14, 7, 55])
PARTICULAR = ["phi", "gptj", "granite", "cohere", "gemma2", "hyperclovax"]  # bias, bias, scaled, scaled, capped, scaled


def family(name: str) -> Family:
    return next(each for each in FAMILIES if each.name == name)


def biased(model: Any) -> Any:
    """The model with a bias that shows: new models have zeros."""
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        head.bias.data = torch.linspace(-2, 2, len(head.bias)).to(head.bias)
    return model


def said(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Its last hidden states and its logits of TOKENS."""
    with torch.no_grad():
        output = model(TOKENS, output_hidden_states=True, use_cache=False)
    return output.hidden_states[-1], output.logits


@pytest.mark.parametrize("each", FAMILIES, ids=lambda each: each.name.replace(" ", ""))
def test_the_last_hidden_states_give_the_logits(each: Family) -> None:
    model = biased(tiny_model(each))
    states, logits = said(model)
    logits = logits.double()  # some families end in float32 whatever their dtype
    torch.testing.assert_close(LogitHead.of(model)(states), logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(LogitHead.of(model, KEPT)(states), logits[..., KEPT], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PARTICULAR)
def test_the_plain_product_would_be_another_distribution(name: str) -> None:
    model = biased(tiny_model(family(name)))
    states, logits = said(model)
    plain = F.linear(states, model.get_output_embeddings().weight)
    assert (plain.softmax(-1) - logits.softmax(-1)).abs().max() > 0.01


@pytest.mark.parametrize("name", ["llama", *PARTICULAR])
def test_a_student_learns_the_targets_own_distribution(name: str) -> None:
    model = biased(tiny_model(family(name)))
    states, logits = said(model)
    draft = new_draft(model, KEPT)
    truth = target_probs(states, draft.target_logits)
    torch.testing.assert_close(truth, logits[..., KEPT].float().softmax(-1), rtol=1e-3, atol=1e-4)
    assert "head.bias" not in draft.trained() and "head.weight" not in draft.trained()

    features = torch.stack([torch.zeros_like(states)] * (len(draft.config.layers) - 1) + [states], 2).float()
    batch = {"tokens": TOKENS, "features": features, "ends": torch.tensor([8, 8])}
    outputs = torch.zeros(1, 2, 7, 32)
    student = FeatureStudent(draft, depths=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specbeam.training.training.unroll", lambda *_: outputs)  # what the draft says is then known
        (loss,) = student.losses(batch, 1.0, torch.Generator())
    own = draft.logits(outputs[0]).log_softmax(-1)
    wanted = -(logits[:, 1:, KEPT].float().softmax(-1) * own).sum(-1).mean()
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "phi", "granite", "cohere", "gemma2"])
def test_a_small_model_of_all_layers_is_the_target_and_its_loss_the_entropy(name: str) -> None:
    model = biased(tiny_model(family(name), dtype=torch.float32))
    states, logits = said(model)
    batch = {"tokens": TOKENS, "features": states[:, :, None], "ends": torch.tensor([8, 8])}
    (loss,) = StandaloneStudent(layers_of(model, [0, 1]), KEPT).losses(batch, 1.0, torch.Generator())
    truth = logits[:, 1:, KEPT].softmax(-1)
    torch.testing.assert_close(loss, -(truth * truth.log()).sum(-1).mean(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["phi", "gemma2"])
def test_a_draft_from_disk_ends_as_its_target_does(name: str, tmp_path: Any) -> None:
    model = biased(tiny_model(family(name), dtype=torch.float32))
    states, logits = said(model)
    save_draft(new_draft(model, KEPT), tmp_path, name)
    for packed, noise in ((False, 1e-4), (True, 0.1)):
        draft = load_draft(tmp_path, model, packed=packed)
        torch.testing.assert_close(draft.target_logits(states).float(), logits[..., KEPT], rtol=noise, atol=noise)


def test_a_cap_comes_after_the_scale() -> None:
    config = SimpleNamespace(model_type="other", logits_scaling=4.0, final_logit_softcapping=2.0)
    model: Any = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config))
    assert AfterHead.of(model) == AfterHead(0.25, 2.0)
    torch.testing.assert_close(AfterHead(0.25, 2.0)(torch.tensor([8.0])), 2 * torch.tanh(torch.tensor([1.0])))
