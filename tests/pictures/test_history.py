"""What became of every node: at the end, after each round, and before a verdict."""

import random
from collections import Counter
from typing import Any

import pytest
from fakes import Liar, Oracle, RandomDraft, fake_pair, hash_lm, left_padded
from hypothesis import given
from hypothesis import strategies as st
from trace_factory import TEXTS, node, random_trace, two_beams

import specbeam as sb
from specbeam.decoding.trace import Trace, TraceRound
from specbeam.pictures.history import DIED, FINISHED, RUNNING, History

ANY = {i: f" w{i}" for i in range(30)}


def test_the_end_of_a_known_trace_has_every_state():
    moment = History(two_beams(), TEXTS).at()
    assert moment.states == {
        **{0: "prompt", 1: "undrafted", 2: "undrafted", 3: "accepted", 4: "accepted", 5: "rejected", 6: "accepted"},
        **{7: "rejected", 8: "corrected", 9: "accepted", 10: "corrected", 11: "undrafted"},
    }
    assert moment.branches == {
        **dict.fromkeys((0, 1, 3, 4, 8, 11), FINISHED),
        **dict.fromkeys((2, 6, 9, 10), DIED),
        0: RUNNING,
    }
    assert moment.steps == 5


def test_a_round_is_seen_before_and_after_its_verdict():
    history = History(two_beams(), TEXTS)
    prompt = history.at(0)
    assert prompt.states == {0: "prompt", 1: "undrafted", 2: "undrafted"} and prompt.steps == 1
    before = history.at(1, before=True)
    assert {n for n, state in before.states.items() if state == "open"} == {3, 4, 5, 6, 7, 9}
    assert set(before.branches) == {0, 1, 2} and before.steps == 1
    after = history.at(1)
    assert after.steps == 4
    assert Counter(after.states.values()) == Counter(prompt=1, undrafted=2, accepted=4, rejected=2, corrected=2)
    assert {n for n, branch in after.branches.items() if branch == RUNNING} == {0, 1, 3, 4, 8, 10}


def test_what_was_drafted_deeper_than_a_pass_got_stays_open():
    nodes = [
        node(0, -1, 0, 0.0, 0, asked=0),
        node(1, 0, 1, -1.0, 1, asked=1),
        node(2, 1, 2, -2.0, 1, drafted=1, asked=2),
        node(3, 2, 3, -3.0, 1, drafted=1, asked=3),
        node(4, 1, 2, -2.0, 2, asked=2),
    ]
    rounds = [TraceRound([0], [], 0, 0, 1, 1), TraceRound([1], [2, 3], 1, 0, 1, 1), TraceRound([4], [], 2, 0, 1, 2)]
    history = History(Trace(nodes, rounds, [[0], [1], [2, 4], [3]], [[1, 2, 3, 4]]), ANY)
    assert history.at(1).states[3] == "open"
    assert history.at(2).states[3] == "accepted"


def test_log_probabilities_are_the_targets_or_unknown():
    history = History(two_beams(), TEXTS)
    assert history.log_prob(4) == pytest.approx(-0.1)
    assert history.log_prob(0) is None and history.log_prob(11) is None
    guessed = two_beams()
    guessed.nodes[4].verified = None
    assert History(guessed, TEXTS).log_prob(5) is None


def test_a_description_says_what_was_known_by_then():
    history = History(two_beams(), TEXTS)
    assert history.describe(5, "rejected").splitlines() == [
        "fight   (token 5, step 4)",
        "drafted and rejected, in pass 1",
        "log-probability -1.700 nats, of the whole sequence -2.000",
        "verified in pass 1",
    ]
    assert "verified" not in history.describe(8, "corrected", verified=1)
    assert "log-prob" not in history.describe(5, "open")
    assert "not in the trace" in history.describe(11, "undrafted")


@pytest.mark.parametrize(
    ("trace", "texts", "said"),
    [
        (Trace([], [], []), ANY, "empty.*trace=True"),
        (Trace(two_beams().nodes, [], []), ANY, "empty.*trace=True"),
        (two_beams(), None, "texts=token_texts"),
        (two_beams().to_json(), None, "texts=token_texts"),
        (two_beams(), {0: "a"}, "no texts for 9 tokens.*first is 1.*token_texts"),
        ({"nodes": 3}, ANY, "not a saved trace"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(trace, texts, said):
    with pytest.raises(ValueError, match=said):
        History(trace, texts)


@pytest.mark.parametrize("number", [-1, 3])
def test_a_round_that_is_not_there_is_refused(number):
    with pytest.raises(ValueError, match=r"rounds 0 .* to 2"):
        History(two_beams(), TEXTS).at(number)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 8), st.integers(0, 12))
def test_of_any_trace_nothing_is_forgotten_and_nothing_taken_back(seed, beams, steps, drafted):
    trace = random_trace(seed, beams, steps, drafted)
    history = History(trace, ANY)
    end = history.at()
    shown = {n for n, one in enumerate(trace.nodes) if one.asked is not None or one.drafted is not None}
    assert shown <= end.states.keys()
    assert "open" not in end.states.values() and RUNNING not in {end.branches[n] for n in end.branches if n}
    for path in history.results:
        assert {end.branches[n] for n in path} == {FINISHED}
    assert [history.steps_of[r] for r in range(len(trace.rounds))] == [one.steps for one in trace.rounds]
    earlier: dict[int, str] = {}
    for number in range(len(trace.rounds)):
        for before in (True, False):
            moment = history.at(number, before)
            assert earlier.keys() <= moment.states.keys()
            for n, state in earlier.items():
                settled = state not in ("open", "undrafted")
                assert not settled or moment.states[n] == state
            earlier = moment.states


@pytest.mark.parametrize("seed", range(6))
def test_traces_of_all_searches_are_read_prompt_by_prompt(seed):
    randomness = random.Random(seed)
    target = hash_lm(24, salt=seed, eos=[3, 5])
    draft = [Oracle(target), Liar(target), RandomDraft(24, randomness)][seed % 3]
    inputs: Any = left_padded(randomness, 24)
    options: dict[str, Any] = {"max_new_tokens": 9, "trace": True, "num_assistant_tokens": 10}
    if seed % 2:
        decoded = sb.speculative_beam(fake_pair(target, draft), inputs, num_beams=3, **options)
    else:
        decoded = sb.speculative(fake_pair(target, draft), inputs, do_sample=seed == 4, **options)
    for trace, tokens in zip(decoded.trace or [], decoded.sequences, strict=True):
        history = History(trace, ANY)
        end = history.at()
        assert [history.nodes[n].token for n in history.results[0]] == tokens
        assert {end.branches[n] for n in history.results[0]} == {FINISHED}
        assert sum(history.steps_of.values()) == len(history.steps)
        assert "open" not in end.states.values()
