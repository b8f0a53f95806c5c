"""Processors, criteria and streamers are shown what transformers shows them, in every entrance."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import torch
from equivalence import LETTERS
from fakes import fake_pair, hash_lm
from tiny_models import tiny_llama
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

import specbeam as sb

IDS = torch.tensor([[9, 12, 14, 25, 7], [6, 17, 18, 19, 8]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


class Remember:
    """A processor, criterion and streamer that keeps the rows that it is shown."""

    def __init__(self) -> None:
        self.shown: list[list[list[int]]] = []
        self.ended = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any) -> Any:
        assert scores is None or (scores.dtype == torch.float32 and len(scores) == len(input_ids))
        self.shown.append(input_ids.tolist())
        return scores

    def put(self, value: torch.Tensor) -> None:
        self.shown.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


class Shown(StoppingCriteria):
    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:  # type: ignore[override]
        self.rows.append((*input_ids.shape,))
        return torch.zeros(len(input_ids), dtype=torch.bool)


def entrances(model: Any) -> dict[str, Callable[..., Any]]:
    draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    pair = fake_pair(model, draft)
    return {
        "drop-in": lambda **options: sb.SpeculativeLM(model, draft).generate(**INPUTS, **options),
        "plain": lambda **options: _method(options, "greedy", "beam")(pair, INPUTS, **options),
        "speculative": lambda **options: _method(options, "speculative", "speculative_beam")(pair, INPUTS, **options),
    }


def _method(options: dict[str, Any], one: str, several: str) -> Callable[..., Any]:
    return sb.METHODS[one if options.get("num_beams", 1) == 1 else several]


OPTIONS: list[dict[str, Any]] = [{"do_sample": False}, {"do_sample": False, "num_beams": 3}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_processors_and_criteria_are_shown_the_rows_of_transformers(options: dict[str, Any]) -> None:
    model = tiny_llama()

    def run(generate: Callable[..., Any]) -> tuple[Any, ...]:
        processor, criterion = Remember(), Shown()
        asked = {"logits_processor": [processor], "stopping_criteria": StoppingCriteriaList([criterion])}
        # no prompt is finished before the others: then its rows are not forwarded, and hold what nobody reads
        generate(**options, **asked, max_new_tokens=7, eos_token_id=None)
        return processor.shown, criterion.rows

    wanted = run(lambda **asked: model.generate(**INPUTS, **asked))
    for name, entrance in entrances(model).items():
        assert run(entrance) == wanted, name


def test_speculative_sampling_shows_a_processor_all_prompts_at_every_step() -> None:
    processor = Remember()
    decode = entrances(tiny_llama())["speculative"]
    decode(do_sample=True, max_new_tokens=6, eos_token_id=None, logits_processor=[processor])
    assert [(len(rows), len(rows[0])) for rows in processor.shown] == [(2, length) for length in range(5, 11)]


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_constraint_of_each_prompt_binds_that_prompt(beams: int, sample: bool) -> None:
    def allowed(prompt: int, text: torch.Tensor) -> list[int]:
        return [10 + prompt]

    model = tiny_llama()
    for name, entrance in entrances(model).items():
        if sample and beams > 1 and name != "drop-in":
            continue
        asked = {"do_sample": sample, "num_beams": beams, "max_new_tokens": 3, "prefix_allowed_tokens_fn": allowed}
        found = entrance(**asked)
        rows = found[:, 5:].tolist() if name == "drop-in" else found.sequences
        assert rows == [[10] * 3, [11] * 3], name


@pytest.mark.parametrize("options", [*OPTIONS, {"do_sample": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_processor_may_change_scores_in_place(dtype: torch.dtype, options: dict[str, Any]) -> None:
    def ban(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, :30] = -torch.inf
        return scores

    model = tiny_llama(dtype=dtype)
    asked = {**options, "max_new_tokens": 5, "logits_processor": [ban]}
    wanted = model.generate(**INPUTS, **asked)[:, 5:].tolist()
    for name, entrance in entrances(model).items():
        found = entrance(**asked)
        rows = found[:, 5:].tolist() if name == "drop-in" else found.sequences
        assert all(token >= 30 for row in rows for token in row), name
        if not options["do_sample"]:
            assert rows == wanted, name


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("negative", [True, False])
def test_guidance_reads_the_negative_prompt_with_the_target(negative: bool, use_cache: bool, beams: int) -> None:
    model = tiny_llama()
    ids = IDS[:1]
    asked: dict[str, Any] = {"do_sample": False, "guidance_scale": 3.0, "max_new_tokens": 6, "num_beams": beams}
    asked |= {"use_cache": use_cache, "attention_mask": torch.ones_like(ids)}
    if negative:
        asked["negative_prompt_ids"] = torch.tensor([[40, 41, 42, 43, 44]]).expand(beams, -1)
    wanted = model.generate(ids, **asked)[:, 5:].tolist()
    assert sb.SpeculativeLM(model, sb.RecallDraft()).generate(ids, **asked)[:, 5:].tolist() == wanted
    decode = _method(asked, "speculative", "speculative_beam")
    assert decode(fake_pair(model, sb.RecallDraft()), {"input_ids": ids}, **asked).sequences == wanted


def test_streamers_are_shown_every_step_and_the_end() -> None:
    model = tiny_llama()
    wanted = Remember()
    model.generate(**INPUTS, do_sample=False, max_new_tokens=6, streamer=wanted)
    assert wanted.ended == 1
    for name, entrance in entrances(model).items():
        found = Remember()
        entrance(do_sample=False, max_new_tokens=6, streamer=found)
        assert (found.shown, found.ended) == (wanted.shown, 1), name
        sampled = Remember()
        entrance(do_sample=True, max_new_tokens=6, eos_token_id=None, streamer=sampled)
        assert (len(sampled.shown), sampled.ended) == (7, 1), name


def test_a_streamer_with_several_beams_is_refused_as_in_transformers() -> None:
    model = tiny_llama()
    calls = {"transformers": lambda **options: model.generate(**INPUTS, **options), **entrances(model)}
    for generate in calls.values():
        with pytest.raises(ValueError, match="streamer"):
            generate(num_beams=2, max_new_tokens=2, streamer=Remember())


def test_an_iterator_over_a_streamer_comes_to_its_end() -> None:
    model: Any = hash_lm(24, 1)
    pair, inputs = fake_pair(model, sb.RecallDraft(), LETTERS), {"input_ids": IDS[:1] % 24}
    for method in ("greedy", "speculative"):
        streamer = TextIteratorStreamer(LETTERS, skip_prompt=True, timeout=60)
        options = {"max_new_tokens": 5, "streamer": streamer}
        thread = Thread(target=sb.METHODS[method], args=(pair, inputs), kwargs=options)
        thread.start()
        assert "".join(streamer) == sb.greedy(pair, inputs, max_new_tokens=5).text[0]
        thread.join()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_default_dtype_of_the_users_changes_no_token(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        for salt in (*range(6), 24, 25, 30):  # the last three have ties at their end
            model: Any = hash_lm(24, salt, [1], 0).float()
            for beams in (1, 4):
                asked = {"do_sample": False, "num_beams": beams, "max_new_tokens": 12}
                inputs = {name: value % 24 for name, value in INPUTS.items()}
                wanted = model.generate(**inputs, **asked)[:, 5:].tolist()
                for method in ("greedy", "speculative") if beams == 1 else ("beam", "speculative_beam"):
                    found = sb.METHODS[method](fake_pair(model, sb.RecallDraft()), inputs, **asked).sequences
                    assert [one == row[: len(one)] for one, row in zip(found, wanted, strict=True)] == [True, True]
        sampled = {"do_sample": True, "max_new_tokens": 4}
        assert len(sb.speculative(fake_pair(hash_lm(24, 1), sb.RecallDraft()), inputs, **sampled).sequences) == 2
    finally:
        torch.set_default_dtype(torch.float32)


CHAINED: dict[str, Callable[[Any], Any]] = {
    "eval": lambda lm: lm.eval(),
    "train": lambda lm: lm.train(False),
    "to": lambda lm: lm.to("cpu"),
    "double": lambda lm: lm.double(),
    "requires_grad_": lambda lm: lm.requires_grad_(False),
    "two of them": lambda lm: lm.to("cpu").eval(),
}


@pytest.mark.parametrize("name", CHAINED)
def test_a_call_that_returns_the_model_returns_the_drop_in(name: str) -> None:
    lm = sb.SpeculativeLM(tiny_llama(), sb.RecallDraft())
    assert CHAINED[name](lm) is lm


def test_a_copy_and_a_pickle_of_the_drop_in_decode_as_it_does() -> None:
    model = tiny_llama()
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    wanted = model.generate(**INPUTS, max_new_tokens=5)
    for other in (copy.deepcopy(lm), copy.copy(lm), pickle.loads(pickle.dumps(lm))):
        assert isinstance(other.target, PreTrainedModel)
        assert torch.equal(other.generate(**INPUTS, max_new_tokens=5), wanted)


def test_settings_of_the_drop_in_are_heard_like_those_of_a_model() -> None:
    model = tiny_llama()
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    model.generation_config.max_new_tokens = 3
    assert lm.generate(**INPUTS).shape[1] == 8
    lm.generation_config.max_new_tokens = 4
    assert lm.generate(**INPUTS).shape[1] == model.generate(**INPUTS).shape[1] == 9
