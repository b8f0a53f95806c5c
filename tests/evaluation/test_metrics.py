"""Figures of speed: worked out by hand from stats, and counted on the searches themselves."""

from collections import Counter
from typing import Any

import pytest
import torch
from fakes import Oracle, fake_pair, hash_lm
from hypothesis import given, settings
from hypothesis import strategies as st

import specbeam as sb
from specbeam.core.stats import Stats
from specbeam.decoding.trace import Trace, TraceNode, TraceRound
from specbeam.evaluation import metrics

ONE = Stats(
    steps=10, new_tokens=10, target_passes=4, drafted=12, accepted=Counter({1: 1, 3: 3}), prefill_s=1, decode_s=4
)
TWO = Stats(steps=30, new_tokens=30, target_passes=16, drafted=28, accepted=Counter({1: 5, 2: 8, 3: 3}), prefill_s=2)
TWO.decode_s, ONE.peak_kv_tokens, TWO.peak_kv_tokens = 13, 70, 50


def test_latency_is_worked_out_by_hand():
    found = metrics.latency([ONE, TWO])
    assert found["tokens_per_second"] == 40 / 20
    assert found["ms_per_token"] == 500
    assert found["ms_per_token_p50"] == 500  # both prompts
    assert (found["first_token_s_p50"], found["first_token_s_p95"]) == (1.5, pytest.approx(1.95))
    assert (found["total_s_p50"], found["total_s_p95"]) == (10, pytest.approx(14.5))


def test_beam_search_knows_its_first_token_when_it_ends():
    found = metrics.latency([ONE, TWO], num_beams=4)
    assert (found["first_token_s_p50"], found["first_token_s_p95"]) == (10, found["total_s_p95"])


def test_counts_of_tokens_replace_those_of_all_returned_sequences():
    assert metrics.latency([ONE, TWO], tokens=[3, 1])["ms_per_token"] == 5000
    assert metrics.passes_per_token([ONE, TWO], [3, 1]) == 20 / 4


def test_passes_steps_and_acceptance_are_summed_over_decodes():
    assert metrics.passes_per_token([ONE, TWO]) == 20 / 40
    assert metrics.steps_per_pass([ONE, TWO]) == 40 / 20
    assert metrics.accepted_histogram([ONE, TWO]) == {1: 6, 2: 8, 3: 6}
    assert ONE.accepted == Counter({1: 1, 3: 3})  # the sum leaves its parts alone
    assert metrics.acceptance_rate([ONE, TWO]) == (8 * 1 + 6 * 2) / 40
    assert metrics.peak_kv_slots([ONE, TWO]) == 70


def test_figures_without_a_value_are_none():
    idle = [Stats(target_passes=1, prefill_s=1)]
    found = metrics.latency(idle)
    assert found["ms_per_token"] is found["ms_per_token_p95"] is metrics.passes_per_token(idle) is None
    assert metrics.acceptance_rate(idle) is None
    assert found["tokens_per_second"] == 0 and metrics.accepted_histogram(idle) == {}


def test_nothing_decoded_and_counts_that_do_not_fit_are_refused():
    for figure in (metrics.latency, metrics.steps_per_pass, metrics.acceptance_rate, metrics.peak_kv_slots):
        with pytest.raises(ValueError, match="there are no stats"):
            figure([])
    with pytest.raises(ValueError, match="2 decodes and 1 counts of tokens"):
        metrics.latency([ONE, TWO], tokens=[3])


def test_positions_of_a_trace_are_counted_by_hand():
    # the root's pass drafts 1 and 2 under it and 3 under 1; the search stands on 1 and 3; a pass for 3 drafts 4
    nodes = [TraceNode(0, -1, 0, 0.0, asked=0), TraceNode(5, 0, 1, 0.0, asked=1), TraceNode(6, 0, 1, 0.0)]
    nodes += [TraceNode(7, 1, 2, 0.0, asked=2), TraceNode(8, 3, 3, 0.0)]
    rounds = [
        TraceRound([0], [1, 2, 3], 0, 0.0, 0.0),
        TraceRound([], [], 0, 0.0, 0.0),
        TraceRound([3], [4], 2, 0.0, 0.0),
    ]
    assert metrics.acceptance_by_position([Trace(nodes, rounds, [])]) == {1: (1, 3), 2: (1, 1)}
    sampled = TraceRound([], [4], 2, 0.0, 0.0)  # under a node that was scored before
    assert metrics.acceptance_by_position([Trace(nodes, [sampled], [])]) == {1: (0, 1)}


@given(st.integers(1, 500), st.integers(1, 4), st.integers(0, 12))
@settings(deadline=None, max_examples=25)
def test_the_acceptance_of_a_decode_agrees_with_its_trace(salt, beams, drafted):
    model = hash_lm(salt=salt)
    inputs = {"input_ids": torch.tensor([[3, 1, 4]])}
    pair = fake_pair(model, Oracle(model))
    options = {"max_new_tokens": 12, "num_assistant_tokens": drafted, "trace": True}
    if beams == 1:
        decoded = sb.speculative(pair, inputs, **options)
    else:
        decoded = sb.speculative_beam(pair, inputs, num_beams=beams, **options)
    assert decoded.trace is not None
    positions = metrics.acceptance_by_position(decoded.trace)
    used, verified = (sum(column) for column in zip(*positions.values(), strict=True)) if positions else (0, 0)
    assert verified == decoded.stats.drafted
    rate = metrics.acceptance_rate([decoded.stats], beams)
    if not verified:
        assert rate is None
    elif beams == 1:
        assert rate == pytest.approx(used / verified)
    else:
        assert rate is not None and rate <= used / verified + 1e-9
    assert sum(k * n for k, n in metrics.accepted_histogram([decoded.stats]).items()) == decoded.stats.steps


def test_a_draft_that_sees_the_truth_is_accepted_at_the_first_position_in_every_pass():
    model = hash_lm(salt=7)
    inputs = {"input_ids": torch.tensor([[3, 1, 4]])}
    options: dict[str, Any] = {"max_new_tokens": 13, "num_assistant_tokens": 24}
    decoded = sb.speculative(fake_pair(model, Oracle(model)), inputs, trace=True, **options)
    assert decoded.trace is not None
    passes_with_drafts = sum(bool(each.drafted) for each in decoded.trace[0].rounds)
    assert metrics.acceptance_by_position(decoded.trace)[1][0] == passes_with_drafts >= 2
    assert (metrics.steps_per_pass([decoded.stats]) or 0) > 2
