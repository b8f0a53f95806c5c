"""What stands beside the token ids: passed on as transformers passes it on, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import fake_pair, hash_lm
from tiny_models import tiny_llama
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MambaForCausalLM,
)

import specbeam as sb
from specbeam.evaluation.tiny_families import tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 3, 4, 6, 5]])
SEEN = torch.ones_like(IDS)


def gpt2(positions: int = 64) -> Any:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=positions, initializer_range=0.5, **_ends()
    )
    return GPT2LMHeadModel(config).double().eval()


def llava() -> Any:
    """A language model with an eye: four image tokens (90) stand for each picture of 28 pixels."""
    torch.manual_seed(0)
    size: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    text = LlamaConfig(vocab_size=96, hidden_size=32, initializer_range=0.3, **size, **_ends())
    eye = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=16,
    )
    config = LlavaConfig(vision_config=eye, text_config=text, image_token_index=90, vision_feature_layer=-1)
    return LlavaForConditionalGeneration(config).double().eval()


def _ends() -> dict[str, Any]:
    return {"bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0}


def same_everywhere(model: Any, inputs: dict[str, Any], **options: Any) -> None:
    """Greedy and beam search, by every entrance, give what the model's own `generate` gives."""
    draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    asked = {"do_sample": False, "max_new_tokens": 8, **options}
    for beams in (1, 3):
        wanted = model.generate(**inputs, **asked, num_beams=beams)
        assert torch.equal(sb.SpeculativeLM(model, draft).generate(**inputs, **asked, num_beams=beams), wanted)
        for method in ("greedy", "speculative") if beams == 1 else ("beam", "speculative_beam"):
            decoded = sb.METHODS[method](fake_pair(model, draft), inputs, **asked, num_beams=beams)
            for found, row in zip(decoded.sequences, wanted[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                assert found == row[: len(found)], method
                assert len(set(row[len(found) :])) <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_type_ids", torch.tensor([[50, 50, 51, 51, 51], [52, 52, 52, 53, 54]])),
        ("position_ids", torch.tensor([[0, 1, 2, 10, 11], [4, 5, 6, 7, 8]])),
    ],
)
def test_token_types_and_positions_count_as_in_transformers(name: str, value: torch.Tensor) -> None:
    same_everywhere(gpt2(), {"input_ids": IDS, "attention_mask": SEEN, name: value})


@pytest.mark.parametrize("name", ["llama", "qwen2 (window)", "falcon", "gemma3_text", "opt"])
def test_positions_of_ones_own_are_those_of_the_tokens_that_follow(name: str) -> None:
    model = tiny_model(name)
    forward = torch.tensor([[0, 1, 2, 10, 11], [4, 5, 6, 7, 8]])
    same_everywhere(model, {"input_ids": IDS, "attention_mask": SEEN, "position_ids": forward})


def test_an_image_in_the_prompt_is_seen_and_padding_beside_it_is_not() -> None:
    model = llava()
    ids = torch.tensor([[0, 1, 5, 90, 90, 90, 90, 6, 7], [1, 4, 5, 8, 90, 90, 90, 90, 7]])
    pictures = 3 * torch.randn(2, 3, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": pictures}
    assert not torch.equal(
        model.generate(**inputs, max_new_tokens=8),
        model.generate(**{**inputs, "pixel_values": -pictures}, max_new_tokens=8),
    )
    same_everywhere(model, inputs)


def test_an_input_may_stand_among_the_options_but_not_twice() -> None:
    model, types = gpt2(), torch.full_like(IDS, 51)
    inputs = {"input_ids": IDS, "attention_mask": SEEN}
    wanted = model.generate(**inputs, token_type_ids=types, do_sample=False, max_new_tokens=5)[:, 5:].tolist()
    found = sb.greedy(fake_pair(model), inputs, token_type_ids=types, max_new_tokens=5).sequences
    assert [one == row[: len(one)] for one, row in zip(found, wanted, strict=True)] == [True, True]
    with pytest.raises(ValueError, match=r"token_type_ids .* once"):
        sb.greedy(fake_pair(model), {**inputs, "token_type_ids": types}, token_type_ids=types)


def test_an_input_that_the_model_does_not_know_is_refused_by_name() -> None:
    model = gpt2()
    with pytest.raises(ValueError, match="pixel_values"):
        sb.greedy(fake_pair(model), {"input_ids": IDS, "pixel_values": torch.zeros(1, 3, 4, 4)})
    with pytest.raises(ValueError, match="pixel_values"):
        sb.SpeculativeLM(model, sb.NoDraft()).generate(IDS, pixel_values=torch.zeros(1, 3, 4, 4))


def test_an_input_that_every_later_token_would_need_is_refused_by_name() -> None:
    class Tinted(type(tiny_llama())):  # type: ignore[misc]
        def forward(self, *args: Any, tint: Any = None, **options: Any) -> Any:
            return super().forward(*args, **options)

    model = tiny_llama()
    model.__class__ = Tinted
    with pytest.raises(ValueError, match=r"tint cannot be served.*own generate"):
        sb.greedy(fake_pair(model), {"input_ids": IDS, "tint": torch.zeros(2, 5)}, max_new_tokens=2)


MASKS: dict[str, torch.Tensor] = {
    "left": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
    "right": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]),
    "both": torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
    "holes": torch.tensor([[1, 0, 1, 0, 1], [1, 1, 0, 1, 1]]),
}


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "gemma3_text", "qwen2 (window)", "falcon (ALiBi)", "opt"])
def test_padding_anywhere_gives_what_transformers_gives(name: str, padding: str) -> None:
    if name == "bloom" and padding in ("left", "both"):
        pytest.skip("transformers itself gives NaN: Bloom has eager attention alone, whose mask overflows")
    model = tiny_model(name)
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    same_everywhere(model, {"input_ids": IDS, "attention_mask": MASKS[padding]})


@pytest.mark.parametrize("mask", [{}, {"attention_mask": None}])
def test_a_missing_mask_is_inferred_from_the_padding(mask: dict[str, Any]) -> None:
    ids = torch.tensor([[0, 0, 14, 25, 7], [6, 17, 18, 19, 8]])
    same_everywhere(tiny_llama(), {"input_ids": ids, **mask})


def test_a_prompt_that_is_all_padding_is_refused_with_a_remedy() -> None:
    model, ids = tiny_llama(), torch.tensor([[0, 0], [5, 6]])
    for decode in (
        lambda: sb.greedy(fake_pair(model), {"input_ids": ids}),
        lambda: sb.SpeculativeLM(model, sb.NoDraft()).generate(ids),
    ):
        with pytest.raises(ValueError, match=r"hides all of prompt 1.*give .*a mask"):
            decode()
    same_everywhere(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


@pytest.mark.parametrize("family", ["qwen2 (window)", "gemma3_text", "phi3"])
def test_padding_on_the_right_as_wide_as_a_window_is_refused_with_a_remedy(family: str) -> None:
    model = tiny_model(family)
    window = model.config.sliding_window
    ids = torch.arange(10, 20)[None]
    mask = (torch.arange(10) < 10 - window)[None].long()
    with pytest.raises(ValueError, match=rf"prompt 1 has {window} pad tokens on its right.*padding_side='left'"):
        sb.greedy(fake_pair(model), {"input_ids": ids, "attention_mask": mask}, max_new_tokens=2)
    same_everywhere(model, {"input_ids": ids[:, :-1], "attention_mask": mask[:, :-1]})


def test_a_model_that_is_read_by_sequences_refuses_what_sequences_have_no_room_for() -> None:
    torch.manual_seed(0)
    mamba = MambaForCausalLM(MambaConfig(vocab_size=96, hidden_size=8, num_hidden_layers=1, state_size=4)).eval()
    with pytest.raises(ValueError, match="padding_side='left'"):
        sb.greedy(fake_pair(mamba), {"input_ids": IDS, "attention_mask": MASKS["right"]}, max_new_tokens=2)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"input_ids": torch.tensor([5, 6])}, r"\(2,\) and needs \(batch, length\).*input_ids\[None\]"),
    ({"input_ids": [[5, 6]]}, "tensor of whole numbers, got list"),
    ({"input_ids": torch.tensor([[5.0, 6.0]])}, "whole numbers, got torch.float32"),
    ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, "the prompt is empty"),
    ({"input_ids": torch.tensor([[5, 96]])}, "holds 96.*tokens 0 to 95"),
    ({"input_ids": torch.tensor([[5, -1]])}, "holds -1"),
    ({"input_ids": IDS, "attention_mask": torch.ones(2, 4)}, r"\(2, 4\) and must have the shape of input_ids"),
    ({"input_ids": IDS, "attention_mask": torch.tensor([[1] * 5, [0] * 5])}, "hides all of prompt 2"),
]


@pytest.mark.parametrize(("inputs", "message"), BAD)
def test_prompts_that_make_no_sense_are_refused_with_a_remedy(inputs: dict[str, Any], message: str) -> None:
    model = gpt2()
    with pytest.raises(ValueError, match=message):
        sb.greedy(fake_pair(model), inputs, max_new_tokens=2)
    with pytest.raises(ValueError, match=message):
        sb.SpeculativeLM(model, sb.NoDraft()).generate(**inputs, max_new_tokens=2)


@pytest.mark.parametrize(("length", "count"), [(64, 1), (50, 15)])
def test_a_model_is_filled_to_its_last_position_and_one_token_more(length: int, count: int) -> None:
    ids = torch.randint(4, 96, (1, length), generator=torch.Generator().manual_seed(1))
    model = gpt2()
    model.generation_config.eos_token_id = None
    same_everywhere(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, max_new_tokens=count)


def test_a_text_that_outgrows_the_models_table_of_positions_is_an_error_as_in_transformers() -> None:
    model, ids = gpt2(), torch.full((1, 60), 5)
    model.generation_config.eos_token_id = None
    with pytest.raises(IndexError):
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6)
    with pytest.raises(ValueError, match=r"65 tokens.*64 positions.*shorten"):
        sb.greedy(fake_pair(model), {"input_ids": ids}, max_new_tokens=6)


def test_inputs_on_the_cpu_and_numbers_of_a_fake_model_need_no_embeddings() -> None:
    assert sb.greedy(fake_pair(hash_lm()), {"input_ids": torch.tensor([[1, 2]])}, max_new_tokens=2).sequences
