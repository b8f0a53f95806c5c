"""Named methods in turns: what is compared with what, read back, and kept, on fakes and on tiny models."""

import json
from collections import Counter
from typing import Any

import pytest
import torch
from tiny_models import chat_tokenizer, tiny_llama

import specbeam as sb
from specbeam.core.stats import Stats
from specbeam.decoding.decoders import Decoded
from specbeam.evaluation import comparison
from specbeam.evaluation.comparison import (
    BEAM,
    GREEDY,
    HYBRID,
    SAMPLING,
    SPECULATIVE,
    Method,
    add_judge,
    compare,
    make_methods,
)
from specbeam.evaluation.data_files import Example
from specbeam.evaluation.likelihood import judge
from specbeam.models.load import Pair

RAIN, RIVER = Example("It rains", "a river", "weather/0"), Example("a river is long and long", None, "weather/1")


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(tiny_llama(), sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()]), chat_tokenizer(), "tiny")


def fake(name: str, tokens: list[int], calls: list[Any] | None = None, **given: Any) -> Method:
    def decode(inputs: Any, max_new_tokens: int, seed: int) -> Decoded:
        if calls is not None:
            calls.append((name, inputs["input_ids"].shape[1], max_new_tokens, seed))
        return Decoded([tokens], [-1.5], ["text"], Stats(steps=2, target_passes=1, accepted=Counter({2: 1})))

    return Method(name, decode, **{"plain": "plain", **given})


def test_exact_methods_have_the_tokens_of_their_plain_ones_and_all_beams_are_kept(pair):
    methods = make_methods(pair, num_beams=3, margins=[-2.0], tolerances=[5.0], top_rs=[3])
    found = compare(pair, methods, {"weather": [RAIN, RIVER]}, max_new_tokens=6)
    assert [one["name"] for one in found["methods"]] == [
        *(GREEDY, SPECULATIVE, "speculative, tolerance 5", "speculative, top 3"),
        *(BEAM, HYBRID, "speculative beam, margin -2", SAMPLING),
    ]
    assert len(found["runs"]) == 2 * len(methods)
    for run in found["runs"]:
        if run["method"] in (SPECULATIVE, HYBRID):
            assert run["equal"] and run["all_equal"] and run["exact"]
        if "," in run["method"]:
            assert not run["exact"]
        assert len(run["sequences"]) == len(run["texts"]) == (3 if "beam" in run["method"] else 1)
        assert run["repeatable"] and len(run["seconds"]) == 1
        if run["score"] is not None:
            length = len(run["sequences"][0]) if "beam" in run["method"] else 1
            assert run["nats"] == pytest.approx(run["score"] * length, abs=1e-4)
    assert json.loads(json.dumps(found))["prompts"][0] == {
        **{"set": "weather", "source": "weather/0", "prompt": "It rains", "reference": "a river"},
        "tokens": found["prompts"][0]["tokens"],
    }


def test_beam_sampling_draws_what_transformers_draws(pair):
    method = make_methods(pair, num_beams=3)[-1]
    inputs = sb.render_prompt(pair.tokenizer, "It rains")
    ours = method.decode(inputs, 6, 11)
    torch.manual_seed(11)
    options = {"do_sample": True, "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    rows = pair.target.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :].tolist()  # type: ignore[operator]
    stop = pair.target.generation_config.eos_token_id  # type: ignore[union-attr]
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in rows]
    assert ours.sequences == cut and method.exact is None
    assert ours.text == pair.tokenizer.batch_decode(cut, skip_special_tokens=True)


def test_methods_take_turns_on_each_prompt_after_a_warm_up_on_the_shortest(pair):
    calls: list[Any] = []
    methods = [fake("plain", [7], calls), fake("other", [7], calls), fake("third", [7], calls)]
    found = compare(pair, methods, {"weather": [RIVER, RAIN]}, max_new_tokens=20, repeats=4, seed=3)
    lengths = {name: one["tokens"] for name, one in zip(["long", "short"], found["prompts"], strict=True)}
    assert calls[:3] == [(name, lengths["short"], comparison.WARM_UP_TOKENS, 3) for name in ("plain", "other", "third")]
    turns = [calls[place : place + 3] for place in range(3, len(calls), 3)]
    assert len(turns) == 8
    for turn, length, seed in zip(turns, 4 * [lengths["long"], lengths["short"]], 4 * [3, 4], strict=True):
        assert {name for name, *_ in turn} == {"plain", "other", "third"}
        assert {each[1:] for each in turn} == {(length, 20, seed)}
    assert len({tuple(name for name, *_ in turn) for turn in turns}) > 1
    assert all(len(run["seconds"]) == 4 for run in found["runs"])
    again: list[Any] = []
    same = [fake(method.name, [7], again) for method in methods]
    compare(pair, same, {"weather": [RIVER, RAIN]}, max_new_tokens=20, repeats=4, seed=3)
    assert again == calls


def test_another_text_is_told_from_the_plain_methods(pair):
    found = compare(pair, [fake("plain", [7, 8]), fake("other", [7, 9])], {"weather": [RAIN]}, max_new_tokens=2)
    assert [(run["method"], run["equal"], run["all_equal"]) for run in found["runs"]] == [
        ("plain", True, True),
        ("other", False, False),
    ]
    assert found["runs"][0]["stats"]["accepted"] == {2: 1}


def test_an_output_that_changes_from_repeat_to_repeat_is_not_repeatable(pair):
    tokens = iter([[7], [7], [8]])

    def decode(*_: Any) -> Decoded:
        return Decoded([next(tokens)], [], ["text"], Stats())

    method = Method("plain", decode, "plain")
    found = compare(pair, [method], {"weather": [RAIN]}, max_new_tokens=2, repeats=2)
    assert [run["repeatable"] for run in found["runs"]] == [False]


def test_a_judge_gives_every_run_its_nats_and_bytes(pair):
    compared = {
        "prompts": [{"prompt": "It rains"}, {"prompt": "and"}],
        "runs": [{"prompt": p, "texts": [t]} for p, t in ((0, "a river"), (0, "a river"), (0, ""), (1, "is long"))],
    }
    add_judge(compared, pair.target, pair.tokenizer)
    first, second, empty, last = (run["judge"] for run in compared["runs"])
    ((nats, _),) = judge(pair.target, pair.tokenizer, ["and"], ["is long"])
    assert first == second and first[1] == 7 and empty == [0.0, 0]
    assert last == [pytest.approx(nats), 7]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"num_beams": 1}, "num_beams=1 makes beam search greedy"),
        ({"margins": [float("inf")]}, "margins holds inf, which is exact"),
        ({"tolerances": [0]}, "tolerances holds 0, which is exact"),
        ({"top_rs": [1]}, "top_rs holds 1, which is exact"),
        ({"margins": ["wide"]}, "margins holds 'wide'; give numbers"),
        ({"tolerances": [float("nan")]}, "tolerances holds nan; give numbers"),
        ({"margins": [2.0, 2]}, "speculative beam, margin 2: given twice"),
    ],
)
def test_methods_that_repeat_another_or_make_no_sense_are_refused(pair, given, message):
    with pytest.raises(ValueError, match=message):
        make_methods(pair, **given)


@pytest.mark.parametrize(
    "methods, sets, repeats, message",
    [
        ([fake("plain", [7])], {}, 1, "needs prompts"),
        ([fake("plain", [7])], {"weather": []}, 1, "weather"),
        ([fake("alone", [7])], {"weather": [RAIN]}, 1, "'alone' is measured against 'plain'"),
        ([fake("plain", [7])], {"weather": [RAIN]}, 0, "repeats=0"),
    ],
)
def test_a_comparison_of_nothing_is_refused(pair, methods, sets, repeats, message):
    with pytest.raises(ValueError, match=message):
        compare(pair, methods, sets, max_new_tokens=2, repeats=repeats)
