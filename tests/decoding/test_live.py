"""A decode that can be watched and stopped, and decodes that take turns."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
from fakes import Oracle, fake_pair, hash_lm
from transformers import LogitsProcessorList

import specbeam as sb
from specbeam.decoding.live import LiveDecode
from specbeam.decoding.watch import Progress
from specbeam.engines.target import Target

INPUTS = {"input_ids": torch.tensor([[3, 1, 4]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}


class Numbers:
    """A tokenizer whose texts are the numbers of the tokens."""

    all_special_ids = ()

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, tokens))


def pair_of(**options: Any) -> Any:
    target = hash_lm(**options)
    return fake_pair(target, Oracle(target), Numbers())


class Gate:
    """A logits processor that waits at a step until it is opened."""

    def __init__(self, step: int):
        self.step, self.reached, self.open = step, threading.Event(), threading.Event()

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] - 3 == self.step:
            self.reached.set()
            assert self.open.wait(20)
        return scores


@pytest.mark.parametrize("method", list(sb.METHODS))
def test_the_last_snapshot_is_the_result_that_the_decoder_gives(method: str) -> None:
    pair = pair_of()
    options = {"max_new_tokens": 12, "trace": True}
    if method.startswith("speculative"):  # left alone, the number of drafted tokens depends on the clock
        options["num_assistant_tokens"] = 6
    live = LiveDecode(pair, INPUTS, {method: options}, every=0)
    *_, end = live
    last = end.shots[method]
    plain = sb.METHODS[method](pair, INPUTS, **options)
    assert end.ended and end.results[method].sequences == plain.sequences
    assert (last.tokens, last.text) == (plain.sequences[0], plain.text[0])
    assert (last.steps, last.target_passes) == (plain.stats.steps, plain.stats.target_passes)
    assert last.trace is not None and plain.trace is not None
    assert last.trace.steps == plain.trace[0].steps and not live.stopped


@pytest.mark.parametrize("method", list(sb.METHODS))
def test_watching_sees_every_step_and_a_trace_of_what_happened_so_far(method: str) -> None:
    seen: list[tuple[Progress, Any]] = []
    decoded = sb.METHODS[method](
        pair_of(), INPUTS, max_new_tokens=9, trace=True, watch=lambda p: seen.append((p, p.traces()[0]))
    )
    assert decoded.trace is not None
    assert [p.steps for p, _ in seen] == list(range(1, decoded.stats.steps + 1))
    for progress, trace in seen:
        trace.check()
        assert trace.steps == decoded.trace[0].steps[: progress.steps]
        assert len(trace.rounds) == progress.target_passes
        assert sum(one.steps for one in trace.rounds) == progress.steps
        assert progress.best[0] == [trace.nodes[n].token for n in trace.path(trace.steps[-1][0])]
    assert seen[-1][0].seconds <= decoded.stats.prefill_s + decoded.stats.decode_s


def test_a_watched_decode_without_a_trace_hands_out_none() -> None:
    found: list[Any] = []
    sb.greedy(pair_of(), INPUTS, max_new_tokens=3, watch=lambda p: found.append(p.traces()))
    assert found == [[], [], []]


@pytest.mark.parametrize("method", list(sb.METHODS))
def test_a_stopped_decode_returns_the_beginning_of_what_it_was_about(method: str) -> None:
    pair, gate = pair_of(), Gate(4)
    options = {"max_new_tokens": 500, "logits_processor": LogitsProcessorList([gate])}  # type: ignore[list-item]
    live = LiveDecode(pair, INPUTS, {method: options})
    assert gate.reached.wait(20)
    live.stop()
    gate.open.set()
    result = live.wait().results[method]
    assert live.stopped and len(result.sequences[0]) == 5
    alone = sb.METHODS[method](pair, INPUTS, max_new_tokens=5)
    assert result.sequences == alone.sequences


def test_what_the_decode_raises_reaches_who_looks_on() -> None:
    live = LiveDecode(pair_of(), INPUTS, {"beam": {"num_beams": 0}})
    with pytest.raises(ValueError, match="num_beams"):
        list(live)


def test_methods_that_are_none_and_several_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="speculative_beam"):
        LiveDecode(pair_of(), INPUTS, {"magic": {}})
    with pytest.raises(ValueError, match="one prompt"):
        LiveDecode(pair_of(), {"input_ids": torch.ones(2, 3, dtype=torch.long)}, {"greedy": {}})


def test_a_snapshot_without_a_trace_says_how_to_get_one() -> None:
    last = LiveDecode(pair_of(), INPUTS, {"greedy": {"max_new_tokens": 2}}).wait().shots["greedy"]
    with pytest.raises(ValueError, match="trace=True"):
        last.as_result()


def test_two_threads_on_one_pair_take_turns_and_both_are_right() -> None:
    pair = pair_of()
    prompts = [{"input_ids": torch.tensor([[seed, 2, 5]])} for seed in range(8)]
    alone = [sb.speculative_beam(pair, prompt, max_new_tokens=10).sequences for prompt in prompts]
    lives = [LiveDecode(pair, prompt, {"speculative_beam": {"max_new_tokens": 10}}) for prompt in prompts]
    assert [live.wait().results["speculative_beam"].sequences for live in lives] == alone


def test_a_decode_from_within_another_on_the_same_model_is_refused_and_the_pair_stays_usable() -> None:
    pair = pair_of()
    with pytest.raises(ValueError, match="in the middle of a decode"):
        sb.greedy(pair, INPUTS, max_new_tokens=3, watch=lambda p: sb.greedy(pair, INPUTS, max_new_tokens=1))
    assert sb.greedy(pair, INPUTS, max_new_tokens=3).sequences


def test_an_interrupt_in_the_middle_leaves_a_pair_that_decodes_as_before() -> None:
    pair = pair_of()
    before = sb.speculative_beam(pair, INPUTS, max_new_tokens=10).sequences

    def interrupt(progress: Progress) -> None:
        if progress.steps == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sb.speculative_beam(pair, INPUTS, max_new_tokens=10, watch=interrupt)
    assert sb.speculative_beam(pair, INPUTS, max_new_tokens=10).sequences == before


def test_turns_of_two_models_do_not_wait_for_each_other() -> None:
    with Target.of(hash_lm()).lock, Target.of(hash_lm()).lock:
        pass


def test_two_targets_that_share_a_draft_take_turns_and_both_are_right() -> None:
    """The draft remembers one decode at a time, whichever target it drafts for."""
    draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    pairs = [fake_pair(hash_lm(24, salt), draft, Numbers()) for salt in (1, 2)]
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 16}
    alone = [sb.beam(pair, INPUTS, **options).sequences for pair in pairs]
    lives = [LiveDecode(pair, INPUTS, {"speculative_beam": options}) for _ in range(6) for pair in pairs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [live.wait().results["speculative_beam"].sequences for live in lives] == alone * 6
    with pytest.raises(ValueError, match="Draft is in the middle of a decode"):
        sb.speculative_beam(pairs[0], INPUTS, watch=lambda _: sb.speculative_beam(pairs[1], INPUTS))
