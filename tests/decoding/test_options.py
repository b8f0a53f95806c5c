"""Every option of `generate` is honoured or refused by name, wherever it stands: the right values are transformers'."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from equivalence import LETTERS, letters
from fakes import fake_pair, hash_lm
from tiny_models import chat_tokenizer, tiny_llama
from transformers import GenerationConfig, GenerationMixin

import specbeam as sb
from specbeam.decoding.options import HONOURED, NO_EFFECT, OPTIONS, REFUSED, TABLE, check_options

PROMPT = torch.tensor([[6, 17, 18, 19, 8]])
PADDED = torch.tensor([[0, 0, 14, 25, 7], [6, 17, 18, 19, 8]])
INPUTS = {"input_ids": PADDED, "attention_mask": (PADDED != 0).long()}
# a value that asks for something, for options that are refused or have no effect
ASKING: dict[str, Any] = {
    **{"assistant_model": tiny_llama(layers=1), "assistant_tokenizer": chat_tokenizer(), "prompt_lookup_num_tokens": 3},
    **{"assistant_early_exit": 1, "use_mtp": True, "num_beam_groups": 2, "diversity_penalty": 0.5},
    **{"penalty_alpha": 0.6, "dola_layers": "low", "constraints": ["a"], "force_words_ids": [[7]]},
    **{"custom_generate": "somebody/something", "low_memory": True, "synced_gpus": True, "past_key_values": object()},
    **{"cache_params": object(), "inputs_embeds": torch.zeros(1, 5, 32), "mm_encoder_outputs": object()},
    **{"encoder_outputs": object(), "decoder_input_ids": PROMPT, "cache_implementation": "quantized"},
    **{"output_scores": True, "output_logits": True, "return_dict_in_generate": True},
    **{"output_attentions": True, "output_hidden_states": True},
    **{"num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": 0.2, "is_assistant": True},
    **{"max_matching_ngram_size": 2, "assistant_lookbehind": 3, "target_lookbehind": 3},
    **{"assistant_ensemble_weight": 0.5, "speculation_type": "dflash", "trust_remote_code": True, "use_cache": True},
    **{"max_cache_len": 64, "cache_config": {}, "prefill_chunk_size": 2, "compile_config": None},
    **{"disable_compile": True, "continuous_batching_config": None, "decoder_start_token_id": 1},
    **{"transformers_version": "5.0.0"},
}
FIELDS = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
ARGUMENTS = set(inspect.signature(vars(GenerationMixin)["generate"]).parameters) - {"self", "kwargs"}


def new(model: Any, inputs: dict[str, Any], **options: Any) -> list[list[int]]:
    """What `generate` writes after prompts of five tokens, without the padding behind an end."""
    rows = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :].tolist()
    eos = model.generation_config.eos_token_id
    return [row[: row.index(eos) + 1] if eos in row else row for row in rows]


def test_the_table_has_every_option_that_the_installed_transformers_knows_once() -> None:
    assert OPTIONS.keys() >= FIELDS | ARGUMENTS, f"in no column: {sorted((FIELDS | ARGUMENTS) - OPTIONS.keys())}"
    assert len(TABLE) == len(OPTIONS)
    for option in TABLE:
        assert {option.decoders, option.drop_in} <= {HONOURED, REFUSED, NO_EFFECT}
        assert option.note or option.drop_in == HONOURED, f"{option.name} does not say why"


@pytest.mark.parametrize("name", [option.name for option in TABLE if option.drop_in == REFUSED])
def test_the_drop_in_refuses_by_name_what_it_cannot_serve(name: str) -> None:
    model = tiny_llama()
    with pytest.raises(ValueError, match=rf"{name}.*from the call"):
        sb.SpeculativeLM(model, sb.NoDraft()).generate(PROMPT, max_new_tokens=2, **{name: ASKING[name]})
    if name not in FIELDS:
        return
    config = GenerationConfig()
    setattr(config, name, ASKING[name])
    with pytest.raises(ValueError, match=rf"{name}.*from generation_config"):
        sb.SpeculativeLM(model, sb.NoDraft()).generate(PROMPT, config)
    setattr(model.generation_config, name, ASKING[name])
    with pytest.raises(ValueError, match=rf"{name}.*from the checkpoint"):
        sb.SpeculativeLM(model, sb.NoDraft()).generate(PROMPT, max_new_tokens=2)


@pytest.mark.parametrize("name", [option.name for option in TABLE if option.decoders == REFUSED])
@pytest.mark.parametrize("method", ["greedy", "speculative_beam"])
def test_the_decoders_refuse_by_name_what_they_cannot_serve(method: str, name: str) -> None:
    pair = fake_pair(tiny_llama())
    with pytest.raises(ValueError, match=name):
        sb.METHODS[method](pair, {"input_ids": PROMPT}, max_new_tokens=2, **{name: ASKING[name]})


@pytest.mark.parametrize("name", [option.name for option in TABLE if option.drop_in == NO_EFFECT])
def test_options_without_effect_change_no_token(name: str) -> None:
    model = tiny_llama()
    wanted = model.generate(**INPUTS, do_sample=False, max_new_tokens=5)
    given = {name: ASKING[name]}
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    assert torch.equal(lm.generate(**INPUTS, do_sample=False, max_new_tokens=5, **given), wanted)
    decoded = sb.speculative(fake_pair(model), INPUTS, max_new_tokens=5, do_sample=False, **given)
    assert decoded.sequences == new(model, INPUTS, do_sample=False, max_new_tokens=5)


OFF = [option for option in TABLE if REFUSED in (option.decoders, option.drop_in) and option.name in FIELDS]


@pytest.mark.parametrize("option", OFF, ids=lambda option: option.name)
def test_a_refused_option_that_asks_for_nothing_is_no_reason_to_refuse(option: Any) -> None:
    model = tiny_llama()
    off = [None, *option.off, *([False] if isinstance(ASKING[option.name], bool) else [])]
    for value in off:
        options = {"num_beams": 2, "max_new_tokens": 2, option.name: value}
        decoded = sb.beam(fake_pair(model), {"input_ids": PROMPT}, **options)
        assert len(decoded.sequences[0]) == 2


# where an option stands, and what it then is in transformers
CHOSEN: list[dict[str, Any]] = [
    {"max_new_tokens": 5, "num_beams": 3, "num_return_sequences": 2},
    {"max_length": 9, "num_beams": 2, "length_penalty": 2.0},
    {"max_new_tokens": 6, "num_beams": 4, "early_stopping": True, "repetition_penalty": 1.3},
    {"max_new_tokens": 6, "num_beams": 2, "suppress_tokens": [31, 49], "min_new_tokens": 4},
    {"max_new_tokens": 6, "num_beams": 2, "no_repeat_ngram_size": 2, "forced_eos_token_id": 2},
    {"max_new_tokens": 6, "num_beams": 1, "bad_words_ids": [[31], [49, 34]], "renormalize_logits": True},
    {"max_new_tokens": 6, "num_beams": 2, "begin_suppress_tokens": [31], "exponential_decay_length_penalty": (2, 1.5)},
    {"max_new_tokens": 6, "num_beams": 1, "sequence_bias": [[[49], 3.0]], "remove_invalid_values": True},
    {"max_new_tokens": 6, "num_beams": 1, "eos_token_id": [49, 62], "pad_token_id": 3},
]


@pytest.mark.parametrize("options", CHOSEN, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("where", ["call", "config", "saved", "mixed"])
def test_an_option_counts_wherever_it_stands_as_it_does_in_transformers(where: str, options: dict[str, Any]) -> None:
    def asked(model: Any) -> dict[str, Any]:
        if where == "call":
            return {**INPUTS, **options}
        if where == "config":
            return {**INPUTS, "generation_config": GenerationConfig(**options)}
        first, *others = options
        for name in options if where == "saved" else others:
            setattr(model.generation_config, name, options[name])
        call = {} if where == "saved" else {first: options[first]}
        return {**INPUTS, **call}

    model = tiny_llama()
    given = asked(model)
    wanted = model.generate(**given)
    assert torch.equal(sb.SpeculativeLM(model, sb.RecallDraft()).generate(**given), wanted)
    method = sb.speculative if options["num_beams"] == 1 else sb.speculative_beam
    options = {name: value for name, value in given.items() if name not in INPUTS}
    decoded = method(fake_pair(model, sb.RecallDraft()), INPUTS, **options)
    for found, row in zip(decoded.sequences, wanted[:, 5:].tolist(), strict=True):
        assert found == row[: len(found)]
        assert set(row[len(found) :]) <= {0, 3, 2, 49, 62}  # nothing but padding, or the end that stands for it


def test_the_call_wins_over_the_config_and_the_config_over_the_checkpoint() -> None:
    model = tiny_llama()
    model.generation_config.max_new_tokens, model.generation_config.num_beams = 9, 2
    config = GenerationConfig(max_new_tokens=7)
    pair, inputs = fake_pair(model), {"input_ids": PROMPT}
    assert len(sb.beam(pair, inputs, max_new_tokens=3, generation_config=config).sequences[0]) == 3
    assert len(sb.beam(pair, inputs, generation_config=config).sequences[0]) == 7
    decoded = sb.beam(pair, inputs, num_return_sequences=2)  # two beams: the checkpoint's, not the four of `beam`
    assert [len(sequence) for sequence in decoded.sequences] == [9, 9]


def test_without_any_word_on_length_and_beams_the_decoders_own_defaults_are_used() -> None:
    model: Any = hash_lm(24, 1)
    decoded = sb.beam(fake_pair(model), {"input_ids": PROMPT % 24})
    wanted = model.generate(PROMPT % 24, num_beams=4, max_new_tokens=64)
    assert decoded.sequences == wanted[:, 5:].tolist()


def test_a_config_may_come_second_as_in_transformers() -> None:
    model, config = tiny_llama(), GenerationConfig(max_new_tokens=4, num_beams=2)
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    assert torch.equal(lm.generate(PROMPT, config), model.generate(PROMPT, config))
    with pytest.raises(ValueError, match="must be a GenerationConfig"):
        lm.generate(PROMPT, {"max_new_tokens": 4})


@pytest.mark.parametrize(("name", "value"), [("do_sample", True), ("num_beams", 4)])
def test_saved_defaults_allow_as_many_returned_sequences_as_in_transformers(name: str, value: Any) -> None:
    model = tiny_llama()
    setattr(model.generation_config, name, value)
    asked = {**INPUTS, "num_return_sequences": 3, "max_new_tokens": 4}
    torch.manual_seed(3)
    wanted = model.generate(**asked)
    torch.manual_seed(3)
    assert torch.equal(sb.SpeculativeLM(model, sb.RecallDraft()).generate(**asked), wanted)


def test_a_checkpoint_that_samples_says_so_and_draws_what_transformers_draws() -> None:
    model = tiny_llama()
    model.generation_config.do_sample = True
    torch.manual_seed(5)
    wanted = model.generate(**INPUTS, max_new_tokens=4)[:, 5:]
    torch.manual_seed(5)
    with pytest.warns(UserWarning, match=r"do_sample=True stands in the checkpoint.*do_sample=False"):
        decoded = sb.greedy(fake_pair(model), INPUTS, max_new_tokens=4)
    for found, row in zip(decoded.sequences, wanted.tolist(), strict=True):
        assert found == row[: len(found)]


@pytest.mark.parametrize("where", ["the call", "generation_config", "the checkpoint"])
def test_a_method_with_one_beam_says_where_more_were_asked_for(where: str) -> None:
    model = tiny_llama()
    options: dict[str, Any] = {}
    if where == "the call":
        options = {"num_beams": 3}
    elif where == "generation_config":
        options = {"generation_config": GenerationConfig(num_beams=3)}
    else:
        model.generation_config.num_beams = 3
    with pytest.raises(ValueError, match=rf"num_beams=3, from {where}.*use beam"):
        sb.greedy(fake_pair(model), {"input_ids": PROMPT}, **options)


@pytest.mark.parametrize("count", [np.int64(3), np.int32(3), torch.tensor(3)])
def test_counts_may_be_whole_numbers_of_any_library(count: Any) -> None:
    model = tiny_llama()
    decoded = sb.beam(fake_pair(model), {"input_ids": PROMPT}, num_beams=count, max_new_tokens=count)
    assert decoded.sequences == model.generate(PROMPT, num_beams=3, max_new_tokens=3)[:, 5:].tolist()


@pytest.mark.parametrize("beams", [1, 3])
def test_several_returned_samples_are_those_of_transformers(beams: int) -> None:
    model = tiny_llama()
    asked = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 4, "num_beams": beams}
    torch.manual_seed(2)
    wanted = model.generate(**INPUTS, **asked)
    torch.manual_seed(2)
    assert torch.equal(sb.SpeculativeLM(model, sb.RecallDraft()).generate(**INPUTS, **asked), wanted)
    if beams > 1:
        with pytest.raises(ValueError, match=r"do_sample=True, from the call, with num_beams=3.*SpeculativeLM"):
            sb.beam(fake_pair(model), INPUTS, **asked)
        return
    torch.manual_seed(2)
    decoded = sb.greedy(fake_pair(model), INPUTS, **asked)
    assert [found == row[: len(found)] for found, row in zip(decoded.sequences, wanted[:, 5:].tolist(), strict=True)]
    assert len(decoded.sequences) == 6


@pytest.mark.parametrize("method", ["beam", "speculative_beam", "greedy", "speculative"])
def test_one_beam_is_greedy_search_in_every_decoder(method: str) -> None:
    for salt in range(12):
        model: Any = hash_lm(24, salt, [1, 2], 0)
        inputs = {"input_ids": PROMPT}
        wanted = model.generate(PROMPT, num_beams=1, max_new_tokens=12)[0, 5:].tolist()
        found = sb.METHODS[method](fake_pair(model, sb.RecallDraft()), inputs, num_beams=1, max_new_tokens=12)
        assert found.sequences == [wanted]
        assert found.beam_indices is None


def test_stop_strings_and_output_flags_of_a_config_are_heard() -> None:
    model: Any = hash_lm(24, 3, [1], 0)
    outputs = {"output_scores": True, "return_dict_in_generate": True}
    config = GenerationConfig(max_new_tokens=12, stop_strings=["b", "xa"], **outputs)
    asked = {"input_ids": PROMPT % 24, "generation_config": config, "tokenizer": LETTERS}
    wanted, found = model.generate(**asked), sb.SpeculativeLM(model, sb.RecallDraft()).generate(**asked)
    assert torch.equal(found.sequences, wanted.sequences)
    assert 6 < wanted.sequences.shape[1] < 17, "the stop string ends it, and not the length"
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found.scores, wanted.scores, strict=True))
    plain = GenerationConfig(max_new_tokens=12, stop_strings=config.stop_strings)
    decoded = sb.greedy(fake_pair(model, tokenizer=LETTERS), {"input_ids": PROMPT % 24}, generation_config=plain)
    assert decoded.sequences == wanted.sequences[:, 5:].tolist()


@pytest.mark.parametrize(
    ("name", "value"), [("penalty_alpha", 0.0), ("diversity_penalty", 0.0), ("num_beam_groups", 1)]
)
def test_nothing_asked_for_as_a_fraction_is_nothing_asked_for(name: str, value: Any) -> None:
    model = tiny_llama()
    asked = {"max_new_tokens": 3, "num_beams": 2, name: value}
    assert torch.equal(sb.SpeculativeLM(model, sb.NoDraft()).generate(PROMPT, **asked), model.generate(PROMPT, **asked))


@pytest.mark.parametrize("where", ["call", "config", "saved"])
@pytest.mark.parametrize(("name", "value"), [("num_return_sequences", 0), ("eos_token_id", 1.5), ("max_new_tokens", 0)])
def test_values_that_make_no_sense_are_refused_wherever_they_stand(where: str, name: str, value: Any) -> None:
    model = tiny_llama()
    asked: dict[str, Any] = {"num_beams": 2}
    if where == "call":
        asked[name] = value
    elif where == "config":
        setattr(config := GenerationConfig(), name, value)
        asked["generation_config"] = config
    else:
        setattr(model.generation_config, name, value)
    for decode in (sb.SpeculativeLM(model, sb.NoDraft()).generate, partial(sb.beam, fake_pair(model))):
        with pytest.raises(ValueError, match=rf"{name} must be .*got {value}, from"):
            decode({"input_ids": PROMPT}, **asked) if isinstance(decode, partial) else decode(PROMPT, **asked)


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_a_draft_size_is_a_whole_number(count: Any) -> None:
    with pytest.raises(ValueError, match="num_assistant_tokens must be a whole number"):
        sb.speculative(fake_pair(tiny_llama()), {"input_ids": PROMPT}, num_assistant_tokens=count)


@pytest.mark.parametrize("beams", [1, 3])
def test_healed_prompts_are_those_of_transformers_in_every_entrance(beams: int) -> None:
    model: Any = hash_lm(40, 4, [1, 2], 0)
    tokenizer = letters()
    tokenizer.bos_token, tokenizer.pad_token = "b", "a"
    ids = torch.tensor([[16, 7, 12], [6, 17, 2]])  # q, h, m and g, r, c: some letters may grow an a
    asked = {"token_healing": True, "tokenizer": tokenizer, "max_new_tokens": 3, "num_beams": beams}
    wanted = model.generate(ids, **asked)
    assert not torch.equal(wanted[:, :3], ids)
    assert torch.equal(sb.SpeculativeLM(model, sb.RecallDraft()).generate(ids, **asked), wanted)
    for decode in (sb.beam, sb.speculative_beam):
        found = decode(fake_pair(model, sb.RecallDraft()), {"input_ids": ids}, **asked).sequences
        assert [one == row[: len(one)] for one, row in zip(found, wanted[:, 3:].tolist(), strict=True)] == [True, True]


def test_token_healing_uses_the_pairs_tokenizer() -> None:
    model, tokenizer = tiny_llama(), chat_tokenizer()
    tokenizer.pad_token = "<unk>"
    pair, options = fake_pair(model, tokenizer=tokenizer), {"token_healing": True, "max_new_tokens": 3}
    wanted = model.generate(PROMPT, tokenizer=tokenizer, **options)
    assert sb.greedy(pair, {"input_ids": PROMPT}, **options).sequences == wanted[:, -3:].tolist()


def test_beams_refuse_an_empty_list_of_end_tokens_as_transformers_fails_there() -> None:
    model: Any = hash_lm(40, 4, [1, 2], 0)
    with pytest.raises(IndexError):
        model.generate(PROMPT, num_beams=3, max_new_tokens=2, eos_token_id=[])
    with pytest.raises(ValueError, match=r"eos_token_id is an empty list.*leave it out"):
        sb.beam(fake_pair(model), {"input_ids": PROMPT}, num_beams=3, max_new_tokens=2, eos_token_id=[])


@pytest.mark.parametrize("name", ["length_penalty", "repetition_penalty", "temperature", "max_time"])
@pytest.mark.parametrize("drop_in", [False, True])
def test_what_is_no_number_is_refused_wherever_it_stands(name: str, drop_in: bool) -> None:
    nan, config = float("nan"), GenerationConfig()
    with pytest.raises(ValueError, match=f"{name} is NaN, from the call; give a number, or leave it out"):
        check_options({name: nan}, None, None, drop_in)
    setattr(config, name, nan)
    with pytest.raises(ValueError, match=f"{name} is NaN, from generation_config"):
        check_options({}, config, None, drop_in)
