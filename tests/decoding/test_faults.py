"""Faults: memory that does not suffice, drafts that fail, logits that are none, interruptions, decodes at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fakes import HashConfig, HashLM, Liar, Oracle, fake_pair, hash_lm
from scoring import fail, scorer_over
from tiny_models import tiny_llama
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LogitsProcessorList

import specbeam as sb
from specbeam.core.scorer import TreeScorer
from specbeam.core.tree import TokenTree
from specbeam.engines.memory import ran_out

PROMPTS = {
    "input_ids": torch.tensor([[0, 0, 3, 1, 4], [2, 7, 1, 8, 2], [0, 5, 7, 7, 2]]),
    "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]),
}
ONE = {"input_ids": torch.tensor([[3, 1, 4]])}


def decode(pair: Any, inputs: Any, beams: int, plain: bool = False, **options: Any) -> sb.Decoded:
    options = {"max_new_tokens": 12, **options}
    if beams > 1:
        return (sb.beam if plain else sb.speculative_beam)(pair, inputs, num_beams=beams, **options)
    return (sb.greedy if plain else sb.speculative)(pair, inputs, **options)


# --- memory -----------------------------------------------------------------------------------------------------------

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to …"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    MemoryError(),
]


class Cramped(HashLM):
    """Runs out of memory after it has written to the cache, in passes over more than `room` tokens a prompt."""

    room, error = 8, ERRORS[0]
    refused = 0

    def forward(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        output = super().forward(input_ids, *args, **kwargs)
        if input_ids.shape[1] > self.room:
            self.refused += 1
            raise self.error
        return output


def cramped(error: BaseException, room: int = 8) -> Any:
    model = Cramped(HashConfig(salt=3)).eval()
    model.error, model.room = error, room  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "windows", "python"])
def test_a_pass_without_memory_is_repeated_with_half_the_drafted_nodes(error: BaseException, beams: int) -> None:
    model = cramped(error, room=14)
    pair = fake_pair(model, Oracle(hash_lm(24, 3)))
    with pytest.warns(UserWarning, match=r"at most \d+ are drafted a prompt from here on") as caught:
        decoded = decode(pair, PROMPTS, beams, num_assistant_tokens=30)
    expected = decode(fake_pair(hash_lm(24, 3)), PROMPTS, beams, plain=True)
    assert decoded.sequences == expected.sequences and decoded.beam_indices == expected.beam_indices
    told = [one for one in caught if "are drafted a prompt from here on" in str(one.message)]  # others may be collected
    assert len(told) == model.refused == 2  # 30 drafted nodes, 15, 7
    assert decoded.stats.target_passes < expected.stats.target_passes or beams > 1


def test_sampling_by_rejection_goes_on_with_shorter_chains() -> None:
    model = cramped(ERRORS[0], room=6)
    pair = fake_pair(model, sb.ModelDraft(hash_lm(24, 3)))
    prompt = {"input_ids": torch.tensor([[3, 1, 4]])}
    with pytest.warns(UserWarning, match="at most 4 are drafted"):
        decoded = decode(pair, prompt, 1, num_assistant_tokens=9, do_sample=True, max_new_tokens=20)
    assert model.refused == 1 and len(decoded.sequences[0]) == 20


def test_layers_that_were_written_before_memory_ran_out_are_as_if_they_had_not_been() -> None:
    model = tiny_llama()
    expected = decode(fake_pair(model), PROMPTS, 3, plain=True)
    failed = []

    def fail(module: Any, given: Any) -> None:
        if given[0].shape[1] > 6:
            failed.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.model.layers[1].register_forward_pre_hook(fail)
    try:
        with pytest.warns(UserWarning, match="memory did not suffice"):
            found = decode(fake_pair(model, sb.RecallDraft()), PROMPTS, 3, num_assistant_tokens=9)
    finally:
        hook.remove()
    assert failed and found.sequences == expected.sequences and found.scores == pytest.approx(expected.scores)


def test_a_pass_that_failed_leaves_no_trace_in_the_next() -> None:
    model = tiny_llama()
    trees = [TokenTree([3, 1, 4]), TokenTree([1, 5, 9])]
    ids, mask = torch.tensor([tree.prompt for tree in trees]), torch.ones(2, 3, dtype=torch.long)
    chain = trees[0].child(0, 5)
    deep = trees[0].child(trees[0].child(chain, 6), 7)
    others = [trees[0].child(0, 8), trees[0].child(0, 9), trees[0].child(0, 11)]
    asked = [[chain, trees[0].parents[deep], deep], [trees[1].child(0, 2)]]
    scorer, fresh = (scorer_over(model, trees, ids, mask)[0] for _ in range(2))
    fail(scorer, asked)
    assert not scorer.scored(0, deep)
    second = [others, [trees[1].child(0, 6)]]
    torch.testing.assert_close(scorer.score(second).logits, fresh.score(second).logits)


class Short(TorchDispatchMode):
    """Has no memory for another tensor of keys or values; writing to those that there are goes on."""

    def __init__(self, refused: list[str]):
        super().__init__()
        self.refused = refused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        if isinstance(answer, torch.Tensor) and answer.dim() == 4 and answer.numel():
            known = {given.untyped_storage().data_ptr() for given in args if isinstance(given, torch.Tensor)}
            if answer.untyped_storage().data_ptr() not in known:
                self.refused.append(func.__name__)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return answer


@pytest.mark.parametrize(("inputs", "beams"), [(ONE, 3), (ONE, 1), (PROMPTS, 3), (PROMPTS, 1)])
def test_tidying_the_cache_goes_on_where_memory_for_a_copy_does_not_suffice(
    inputs: Any, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that was tidied beside one that was not would be wrong tokens, without a word."""
    model = tiny_llama()
    model.generation_config.eos_token_id = None if inputs is ONE else [2, 40]  # several prompts end one by one
    options: dict[str, Any] = {"max_new_tokens": 60, "num_assistant_tokens": 12}
    roomy = decode(fake_pair(model, sb.RecallDraft()), inputs, beams, **options)
    refused: list[str] = []
    compact = TreeScorer.compact

    def cramped_compact(scorer: TreeScorer, running: list[list[int]]) -> None:
        with Short(refused):
            compact(scorer, running)

    monkeypatch.setattr(TreeScorer, "compact", cramped_compact)
    found = decode(fake_pair(model, sb.RecallDraft()), inputs, beams, **options)
    assert refused and found.sequences == roomy.sequences
    assert found.scores == pytest.approx(roomy.scores) and found.stats.peak_kv_tokens == roomy.stats.peak_kv_tokens


def test_without_drafted_nodes_to_give_up_the_error_says_what_to_do() -> None:
    pair = fake_pair(cramped(ERRORS[0], room=3), Oracle(hash_lm(24, 3)))
    with (
        pytest.warns(UserWarning, match="at most 0 are drafted"),
        pytest.raises(torch.OutOfMemoryError, match="fewer beams"),
    ):
        decode(pair, ONE, 4, num_assistant_tokens=6)
    with pytest.raises(torch.OutOfMemoryError, match="none of them drafted"):
        decode(pair, ONE, 4, plain=True)


def test_another_error_is_none_of_memory() -> None:
    assert not any(
        map(ran_out, [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyboardInterrupt()])
    )
    with pytest.raises(RuntimeError, match="shapes"):
        decode(fake_pair(cramped(RuntimeError("shapes")), Oracle(hash_lm(24, 3))), ONE, 3, num_assistant_tokens=30)


# --- drafts that fail -------------------------------------------------------------------------------------------------


class Faulty(Oracle):
    """Knows the target, and raises in `hook` at its third call."""

    def __init__(self, target: Any, hook: str, error: Exception, at: int = 3):
        super().__init__(target)
        calls: list[int] = []
        plain = getattr(self, hook)

        def failing(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) >= at:
                raise error
            return plain(*arguments)

        setattr(self, hook, failing)


HOOKS = ["start", "follow", "observe", "expand", "propose", "compact"]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_draft_that_raises_is_named_once_and_left_out(hook: str, beams: int) -> None:
    target = hash_lm(24, 5)
    draft = Faulty(target, hook, RuntimeError("the index is gone\nsecond line"), at=1 if hook == "start" else 3)
    with pytest.warns(UserWarning, match=r"draft Faulty failed in \w+ \(RuntimeError: the index is gone\)") as caught:
        decoded = decode(fake_pair(target, draft), PROMPTS, beams, num_assistant_tokens=12)
    assert len(caught) == 1
    assert decoded.sequences == decode(fake_pair(target), PROMPTS, beams, plain=True).sequences


def test_states_that_a_draft_cannot_read_end_the_draft_only() -> None:
    model = tiny_llama()

    class Reader(sb.NoDraft):
        state_layers = (1,)

        def read_states(self, states: torch.Tensor, nodes: Any) -> None:
            raise IndexError

    with pytest.warns(UserWarning, match=r"Reader failed in read_states \(IndexError\)"):
        decoded = decode(fake_pair(model, Reader()), PROMPTS, 3)
    assert decoded.sequences == decode(fake_pair(model), PROMPTS, 3, plain=True).sequences


def test_the_other_drafts_of_a_union_go_on() -> None:
    target = hash_lm(24, 5)
    union = sb.UnionDraft([Faulty(target, "expand", KeyError("x")), Oracle(target)])
    with pytest.warns(UserWarning, match="Faulty failed"):
        decoded = decode(fake_pair(target, union), ONE, 2, max_new_tokens=20, num_assistant_tokens=16)
    assert decoded.stats.target_passes < 14 and decoded.stats.steps == 20


def test_a_draft_may_come_twice_in_a_union() -> None:
    target = hash_lm(24, 5)
    draft = sb.ModelDraft(hash_lm(24, 5))
    decoded = decode(fake_pair(target, sb.UnionDraft([draft, sb.UnionDraft([draft])])), ONE, 3, num_assistant_tokens=9)
    assert decoded.sequences == decode(fake_pair(target), ONE, 3, plain=True).sequences
    assert decoded.stats.target_passes < decoded.stats.steps


def test_the_drop_in_goes_on_without_a_draft_that_raises() -> None:
    target: Any = hash_lm(24, 5)
    lm = sb.SpeculativeLM(target, Faulty(target, "expand", KeyError("x")), 8)
    with pytest.warns(UserWarning, match="Faulty failed"):
        ids: Any = lm.generate(**PROMPTS, num_beams=3, max_new_tokens=10)
    expected: Any = target.generate(**PROMPTS, num_beams=3, max_new_tokens=10)
    assert torch.equal(ids, expected)


def test_an_interrupt_within_a_draft_is_no_fault_of_the_draft() -> None:
    target = hash_lm(24, 5)
    draft = Faulty(target, "expand", KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        decode(fake_pair(target, draft), ONE, 2)


class Hungry(Oracle):
    """Runs out of memory where it is asked about more than `room` nodes at once."""

    def __init__(self, target: Any, room: int):
        super().__init__(target)
        self.room, self.answered = room, 0

    def expand(self, trees: Any, nodes: Any) -> Any:
        if sum(map(len, nodes)) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.answered += 1
        return super().expand(trees, nodes)


def test_a_draft_without_memory_is_asked_about_fewer_nodes_and_not_taken_for_a_faulty_one() -> None:
    target = hash_lm(24, 5)
    draft = Hungry(target, room=2)
    with pytest.warns(UserWarning, match="Hungry ran out of memory over all nodes") as caught:
        decoded = decode(fake_pair(target, draft), PROMPTS, 3, num_assistant_tokens=12)
    assert draft.answered > 2 and decoded.stats.drafted > 0 and not any("failed" in str(w.message) for w in caught)
    assert decoded.sequences == decode(fake_pair(target), PROMPTS, 3, plain=True).sequences


def test_a_draft_that_has_no_memory_for_one_node_is_left_out_by_name() -> None:
    target = hash_lm(24, 5)
    with pytest.warns(UserWarning, match="Hungry ran out of memory in expand; decoding goes on without it"):
        decoded = decode(fake_pair(target, Hungry(target, room=0)), PROMPTS, 3, num_assistant_tokens=12)
    assert decoded.stats.drafted == 0
    assert decoded.sequences == decode(fake_pair(target), PROMPTS, 3, plain=True).sequences


class Bare:
    """A draft that has `expand` and nothing else, not even the base class."""

    def __init__(self, answer: Callable[[TokenTree, int], Any]):
        self.answer = answer

    def expand(self, trees: Any, nodes: Any) -> Any:
        return [[self.answer(tree, node) for node in asked] for tree, asked in zip(trees, nodes, strict=True)]


def test_an_object_with_expand_alone_is_a_draft() -> None:
    target = hash_lm(24, 5)
    oracle = Oracle(target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode(fake_pair(target, Bare(oracle.propose)), ONE, 1)  # type: ignore[arg-type]
    assert decoded.stats.target_passes < decoded.stats.steps


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"beams": 3}])
@pytest.mark.parametrize(
    ("proposal", "what"),
    [
        ((5, float("nan")), "nan"),
        ((5, float("inf")), "inf"),
        (("5", -1.0), "pair"),
        ((2.5, -1.0), "pair"),
        ((None, -1.0), "pair"),
        ((5, "likely"), "pair"),
        ((5,), "pair"),
        (5, "pair"),
    ],
)
def test_a_proposal_that_is_none_ends_its_draft_by_name(proposal: Any, what: str, options: dict[str, Any]) -> None:
    target = hash_lm(24, 5)
    options = dict(options)
    beams = options.pop("beams", 1)
    with pytest.warns(UserWarning, match=rf"draft Bare failed in expand \(ValueError: .*{what}") as caught:
        decoded = decode(fake_pair(target, Bare(lambda *_: [(3, -0.5), proposal])), ONE, beams, **options)  # type: ignore[arg-type]
    assert len(caught) == 1 and decoded.stats.drafted == 0
    if not options:
        assert decoded.sequences == decode(fake_pair(target), ONE, beams, plain=True).sequences


@pytest.mark.parametrize("answer", [None, 7, [], [[]], [[[]], []], [[[], [], []]]])
def test_an_answer_of_another_shape_ends_its_draft_by_name(answer: Any) -> None:
    class Shapeless(sb.Draft):
        def expand(self, trees: Any, nodes: Any) -> Any:
            return answer

    target = hash_lm(24, 5)
    with pytest.warns(UserWarning, match="Shapeless failed in expand"):
        decoded = decode(fake_pair(target, Shapeless()), ONE, 2)
    assert decoded.sequences == decode(fake_pair(target), ONE, 2, plain=True).sequences


def test_ids_beyond_the_vocabulary_and_impossible_tokens_are_dropped_in_silence() -> None:
    target = hash_lm(24, 5)
    oracle = Oracle(target)
    strange = [(24, -0.1), (-1, -0.1), (10**9, 0.0), (3, float("-inf")), (torch.tensor(4), torch.tensor(-9.0))]
    draft = Bare(lambda tree, node: [*strange, *oracle.propose(tree, node)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for beams in (1, 3):
            decoded = decode(fake_pair(target, draft), PROMPTS, beams, num_assistant_tokens=20)  # type: ignore[arg-type]
            assert decoded.sequences == decode(fake_pair(target), PROMPTS, beams, plain=True).sequences
            assert decoded.stats.target_passes < decoded.stats.steps


def test_a_token_that_is_proposed_twice_is_drawn_with_the_probability_that_the_rule_assumes() -> None:
    """Proposals of one token twice made a q that did not sum to 1, and the target's distribution was not kept."""
    target = hash_lm(4, 5)
    with torch.no_grad():
        p = target(ONE["input_ids"]).logits[0, -1].softmax(-1)
    draft = Bare(lambda *_: [(0, -0.7), (0, -0.7), (0, -0.7), (1, -0.7)])
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(4)
    inputs = {"input_ids": ONE["input_ids"].expand(500, -1), "attention_mask": torch.ones(500, 3, dtype=torch.long)}
    options = {"max_new_tokens": 2, "do_sample": True, "num_assistant_tokens": 1, "generator": generator}
    for _ in range(4):
        decoded = sb.speculative(fake_pair(target, draft), inputs, **options)  # type: ignore[arg-type]
        counts += torch.bincount(torch.tensor([s[0] for s in decoded.sequences]), minlength=4)
    chi_square = ((counts - 2000 * p) ** 2 / (2000 * p)).sum()
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001


# --- logits that are none ---------------------------------------------------------------------------------------------


class Poisoned(HashLM):
    """Gives `value` at the fourth token of a text that begins with 9, to all ids or to some."""

    value, ids = float("nan"), slice(None)

    def forward(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        output: Any = super().forward(input_ids, *args, **kwargs)
        keys = kwargs["past_key_values"].layers[0].keys if kwargs.get("past_key_values") is not None else None
        if keys is not None and input_ids.shape[1] < 3:
            for b in range(len(input_ids)):
                if keys[b, 0, 0, 0] == 9:
                    output.logits[b, :, self.ids] = self.value
        return output


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("beams", [1, 2])
def test_logits_that_are_no_numbers_stop_with_the_step_and_the_prompt(value: float, beams: int) -> None:
    model = Poisoned(HashConfig(salt=2)).eval()
    model.value = value
    batch = {"input_ids": torch.tensor([[1, 2, 3], [9, 2, 3], [4, 5, 6]]), "attention_mask": torch.ones(3, 3)}
    with pytest.raises(ValueError, match=r"after 1 new tokens of prompt 2 of 3\. Load it in a wider dtype"):
        decode(fake_pair(model), batch, beams, plain=True)
    with pytest.raises(ValueError, match=r"after 1 new tokens\. Load"):
        decode(fake_pair(model), {"input_ids": torch.tensor([[9, 2, 3]])}, beams, plain=True)
    assert decode(fake_pair(model), {"input_ids": torch.tensor([[1, 2, 3]])}, beams, plain=True).sequences


class Masked(HashLM):
    """Holds all ids from 4 on for impossible."""

    def forward(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        output: Any = super().forward(input_ids, *args, **kwargs)
        output.logits[..., 4:] = -torch.inf
        return output


@pytest.mark.parametrize("beams", [1, 3])
def test_a_vocabulary_that_is_masked_with_minus_infinity_is_legal(beams: int) -> None:
    model: Any = Masked(HashConfig(salt=2)).eval()
    for draft in (sb.RecallDraft(), Liar(hash_lm(24, 2)), Oracle(model)):
        decoded = decode(fake_pair(model, draft), PROMPTS, beams, num_assistant_tokens=20)
        assert decoded.sequences == decode(fake_pair(model), PROMPTS, beams, plain=True).sequences
        assert all(token < 4 for sequence in decoded.sequences for token in sequence)


def test_a_forced_token_that_the_target_holds_for_impossible_has_a_score_and_not_nan() -> None:
    def force(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = torch.full_like(scores, -torch.inf)
        scores[:, 7] = 0.0
        return scores

    model: Any = Masked(HashConfig(salt=2)).eval()
    pair = fake_pair(model, Bare(lambda *_: [(7, -0.1)]))  # type: ignore[arg-type]
    forced = LogitsProcessorList([force])  # type: ignore[list-item]
    decoded = decode(pair, ONE, 1, logits_processor=forced, max_new_tokens=4, num_assistant_tokens=4)
    assert decoded.sequences == [[7] * 4] and decoded.scores == [float("-inf")]


# --- interruptions, threads, determinism ------------------------------------------------------------------------------


class Interrupting(HashLM):
    """Raises KeyboardInterrupt in its pass number `at`, after it has written to the cache."""

    at, passes = -1, 0

    def forward(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        output = super().forward(input_ids, *args, **kwargs)
        self.passes += 1
        if self.passes == self.at:
            raise KeyboardInterrupt
        return output


@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("beams", [1, 3])
def test_an_interrupted_drop_in_and_pair_decode_as_before(at: int, beams: int) -> None:
    model = Interrupting(HashConfig(salt=2)).eval()
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    options: dict[str, Any] = {"max_new_tokens": 12, "num_beams": beams, "do_sample": False}
    expected: Any = lm.generate(**PROMPTS, **options)
    for run in (lambda: lm.generate(**PROMPTS, **options), lambda: decode(fake_pair(model, lm.draft), PROMPTS, beams)):
        model.passes, model.at = 0, at
        with pytest.raises(KeyboardInterrupt):
            run()
        model.at = -1
        again: Any = lm.generate(**PROMPTS, **options)
        assert torch.equal(expected, again) and lm.stats is not None and lm.stats.steps >= 12
        with pytest.raises(ValueError, match="inside generate"):
            lm(**PROMPTS)


def test_a_drop_in_takes_its_turn() -> None:
    target: Any = hash_lm(24, 5)
    draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    lm, pair = sb.SpeculativeLM(target, draft), fake_pair(target, draft)
    expected: Any = target.generate(**PROMPTS, num_beams=3, max_new_tokens=16)
    plain = decode(pair, PROMPTS, 3, max_new_tokens=16).sequences
    found: list[Any] = []

    def generate() -> None:
        found.append(torch.equal(sb.SpeculativeLM.generate(lm, **PROMPTS, num_beams=3, max_new_tokens=16), expected))

    def beam() -> None:
        found.append(decode(pair, PROMPTS, 3, max_new_tokens=16).sequences == plain)

    threads = [threading.Thread(target=one) for one in (generate, beam) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_a_drop_in_within_a_decode_on_its_target_is_refused() -> None:
    target = hash_lm(24, 5)
    lm = sb.SpeculativeLM(target, sb.NoDraft())
    with pytest.raises(ValueError, match="in the middle of a decode"):
        sb.greedy(fake_pair(target), ONE, watch=lambda _: lm.generate(**ONE, max_new_tokens=1))
    assert lm.generate(**ONE, max_new_tokens=1) is not None


def test_the_same_seed_gives_the_same_whatever_was_decoded_before() -> None:
    target = hash_lm(24, 5)
    pair = fake_pair(target, sb.ModelDraft(hash_lm(24, 6), width=2, temperature=1.0, top_k=12))

    def sampled() -> Any:
        generator = torch.Generator().manual_seed(4)
        return sb.speculative(pair, PROMPTS, do_sample=True, generator=generator, max_new_tokens=16)

    first = sampled()
    assert sampled().sequences == first.sequences
    decode(pair, ONE, 3)
    torch.manual_seed(99)
    decode(pair, ONE, 1, do_sample=True)
    again = sampled()
    assert again.sequences == first.sequences and again.stats.target_passes == first.stats.target_passes
    given = torch.Generator().manual_seed(1)
    draft = sb.ModelDraft(hash_lm(24, 6), temperature=1.0, generator=given)
    decode(fake_pair(target, draft), ONE, 1)
    assert draft.generator is given


def test_what_is_finished_stays_so_when_processors_leave_no_token_for_the_other_prompts() -> None:
    """transformers lets NaN of a prompt that has ended into its results; what the others get is the same."""
    target = hash_lm(13, 9, [1, 2], 0)
    prompts = torch.tensor([[0, 0, 0, 0, 4, 4], [0, 12, 1, 9, 5, 3], [0, 0, 0, 3, 3, 9]])
    inputs = {"input_ids": prompts, "attention_mask": torch.ones_like(prompts)}
    options: dict[str, Any] = {"num_beams": 3, "max_length": 15, "no_repeat_ngram_size": 1, "suppress_tokens": [11, 6]}
    options |= {"renormalize_logits": True, "pad_token_id": 6}
    theirs: Any = target.generate(**inputs, **options, return_dict_in_generate=True, output_scores=True)  # type: ignore[operator]
    assert theirs.sequences_scores.isnan().tolist() == [False, True, False]
    for decoded in (
        sb.beam(fake_pair(target), inputs, **options),
        sb.speculative_beam(fake_pair(target, Oracle(target)), inputs, num_assistant_tokens=4, **options),
    ):
        assert decoded.scores[::2] == theirs.sequences_scores[::2].tolist()
        assert decoded.scores[1] == decoded.scores[1] < 0, "no NaN"
