"""Searches that read the likeliest tokens of each row: the same results as from whole rows, which they leave alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from fakes import HashLM, Oracle, hash_lm, left_padded
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring import Unlucky
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
)

from specbeam.core import beam, greedy
from specbeam.core.beam import NEVER, Ranked, beam_search, rank_rows, rank_tops
from specbeam.core.greedy import SearchResult, token_search
from specbeam.core.scorer import TOP_TOKENS, Output, Request, TreePass
from specbeam.core.tree import Tops
from specbeam.engines.target import Target


class Blind(Unlucky):
    """Gives the likeliest tokens, and logits that spoil whatever is made of them."""

    def prefill(self, request: Request) -> Output:
        return self._without_logits(self.engine.prefill(request))

    def forward(self, tree_pass: TreePass) -> Output:
        return self._without_logits(self.engine.forward(tree_pass))

    def _without_logits(self, output: Output) -> Output:
        return output._replace(logits=torch.full_like(output.logits, torch.nan))


def searched(
    model: HashLM, inputs: dict[str, torch.Tensor], beams: int, new: int, draft: Any = None, blind: bool = False
) -> SearchResult:
    """What a search of ours finds, without processors."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    eos = model.generation_config.eos_token_id
    assert isinstance(eos, list)
    limit = ids.shape[1] + new
    criteria = StoppingCriteriaList([MaxLengthCriteria(limit), EosTokenCriteria(torch.tensor(eos))])
    with Target.of(model).decoding(draft, 6) as source:
        if blind:
            source.scorer.engine = Blind(source.scorer.engine)  # type: ignore[assignment]
        source.start(Request(ids, mask, max_new_tokens=new, num_beams=beams, stop_tokens=tuple(eos)))
        if beams == 1:
            return token_search(source, LogitsProcessorList(), criteria)
        config = GenerationConfig(max_length=limit, num_beams=beams, num_return_sequences=beams, length_penalty=1.0)
        return beam_search(source, LogitsProcessorList(), criteria, config)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_tops_and_whole_rows_give_the_same_result_whether_there_are_ties_or_not(
    beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One to three stop tokens, and vocabularies that have fewer tokens than a step has candidates."""
    certain: list[bool] = []

    def noted(plain: Any) -> Any:
        def ranked(*arguments: Any) -> Any:
            found = plain(*arguments)
            certain.append(found is not None)
            return found

        return ranked

    cases = []
    for seed in range(40):
        dice = random.Random(seed)
        vocabulary = dice.choice([4, 7, 12, 40, 300])
        model = hash_lm(vocabulary, seed, dice.sample(range(vocabulary), dice.randint(1, 3)), 0)
        model.config.levels = dice.choice([23, 5_003])
        cases.append(
            (model, left_padded(dice, vocabulary), Oracle(model) if vocabulary > 8 and seed % 3 == 0 else None)
        )
    with monkeypatch.context() as patched:
        patched.setattr(beam, "rank_tops", noted(beam.rank_tops))
        patched.setattr(greedy, "clear_winners", noted(greedy.clear_winners))
        by_tops = [searched(model, inputs, beams, 10, draft) for model, inputs, draft in cases]
    assert 0.1 < sum(certain) / len(certain) < 0.9
    monkeypatch.setattr(beam, "rank_tops", lambda *_: None)
    monkeypatch.setattr(greedy, "clear_winners", lambda *_: None)
    assert by_tops == [searched(model, inputs, beams, 10, draft) for model, inputs, draft in cases]


@pytest.mark.parametrize("stops", [[3], [3, 50], [3, 50, 200]])
@pytest.mark.parametrize("beams", [1, 4, 9])
def test_logits_are_left_alone_where_nothing_is_tied(beams: int, stops: list[int]) -> None:
    model = hash_lm(2_000, 5, stops, 0)
    model.config.levels = 999_979
    inputs = left_padded(random.Random(3), 2_000)
    seeing, blind = (searched(model, inputs, beams, 8, blind=blind) for blind in (False, True))
    assert seeing == blind


def test_finished_prompts_do_not_make_the_others_look_at_their_logits() -> None:
    dice = random.Random(1)
    model = hash_lm(300, 2, dice.sample(range(300), 60), 0)
    model.config.levels = 999_979
    inputs = {"input_ids": torch.randint(0, 300, (6, 4), generator=torch.Generator().manual_seed(1))}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    found = searched(model, inputs, 1, 30, blind=True)
    assert len({len(sequence) for sequence in found.sequences}) > 3
    assert found == searched(model, inputs, 1, 30)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_what_tops_are_certain_of_is_what_whole_rows_say(seed: int) -> None:
    dice, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    batch, beams, vocabulary = dice.randint(1, 3), dice.randint(1, 4), dice.randint(2, 30)
    candidates = dice.randint(1, min(beams * vocabulary, 16))
    logits = torch.randn(batch * beams, vocabulary, generator=noise)
    if dice.random() < 0.5:
        logits = (logits * dice.choice([1, 4])).round()
    if dice.random() < 0.3:
        logits[torch.rand(logits.shape, generator=noise) < 0.6] = -torch.inf
        logits[:, 0] = 0
    scores = -3 * torch.rand(batch, beams, generator=noise)
    if dice.random() < 0.5:
        scores[:, 1:] = NEVER
    log_probs = logits.log_softmax(-1)
    top = log_probs.topk(min(vocabulary, dice.randint(1, candidates + 3)))
    tops = Tops(*[each.reshape(batch, beams, -1).numpy() for each in (top.indices, top.values)])
    found = rank_tops(tops, scores, candidates, vocabulary, torch.zeros(batch, 1, dtype=torch.bool))
    expected = rank_rows(log_probs, scores, candidates)
    assert found is None or all(map(torch.equal, found, expected))


def ranked(log_probs: list[list[float]], scores: list[float], candidates: int, known: int) -> Ranked | None:
    """One prompt, ranked by the `known` likeliest tokens of each row."""
    rows = torch.tensor([log_probs])
    top = rows.topk(known)
    tops = Tops(top.indices.numpy(), top.values.numpy())
    return rank_tops(tops, torch.tensor([scores]), candidates, rows.shape[-1], torch.zeros(1, 1, dtype=torch.bool))


def test_only_ties_that_reach_the_candidates_need_whole_rows() -> None:
    row = [-1.0, -2.0, -3.0, -4.0, -4.0]
    assert ranked([row, row], [0.0, NEVER], 2, 3) is not None  # the other rows are far behind at the first step
    assert ranked([row, row], [0.0, NEVER], 3, 4) is not None
    assert ranked([row, row], [0.0, NEVER], 4, 5) is None  # which of the last two is the fourth?
    assert ranked([row[:4], row[:4]], [0.0, NEVER], 4, 4) is not None  # a fifth is so far behind that nothing is tied
    assert ranked([row[:4], row[:4]], [0.0, NEVER], 5, 4) is None  # rounding makes all beams alike but the first
    assert ranked([row, row], [0.0, -1.0], 2, 3) is None
    assert ranked([row, row], [0.0, -0.5], 2, 3) is not None
    assert ranked([row, row], [0.0, -0.5], 3, 3) is None  # a row may hold all of the candidates, and one more shows why
    assert ranked([[-1.0, float("nan"), -3.0, -4.0]], [0.0], 2, 3) is None
    assert ranked([[-1.0, -2.0, -float("inf"), -float("inf")]], [0.0], 2, 3) is not None
    assert ranked([[-1.0, -2.0, -float("inf"), -float("inf")]], [0.0], 3, 4) is None


@pytest.mark.parametrize(("beams", "stops", "wanted"), [(1, 0, TOP_TOKENS), (4, 1, 16), (8, 1, 18), (8, 3, 36)])
def test_a_request_wants_a_token_more_than_candidates_and_stop_tokens(beams: int, stops: int, wanted: int) -> None:
    ids = torch.ones(1, 2, dtype=torch.long)
    request = Request(ids, ids, num_beams=beams, stop_tokens=tuple(range(stops)))
    assert request.top_tokens == wanted
    for vocabulary in (300, 5):
        model = hash_lm(vocabulary)
        with Target.of(model).decoding(None) as source:
            source.start(request)
            source.step([[0] * beams])
            assert source.tops([[0] * beams]).tokens.shape == (1, beams, min(wanted, vocabulary))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_output_has_the_log_probabilities_of_the_full_computation(dtype: torch.dtype) -> None:
    logits = (8 * torch.randn(5, 700, generator=torch.Generator().manual_seed(0))).to(dtype)
    output, full = Output.of(logits, 20), logits.float().log_softmax(-1).topk(20)
    assert torch.equal(torch.from_numpy(output.top_log_probs), full.values)
    assert torch.equal(torch.from_numpy(output.top_tokens), full.indices)
    assert output.log_normalizers == pytest.approx(logits.double().logsumexp(-1).tolist(), abs=2e-5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_show_in_the_normalizer(broken: float) -> None:
    logits = torch.zeros(2, 9)
    logits[1, 4] = broken
    first, second = Output.of(logits, 4).log_normalizers
    assert first == pytest.approx(2.1972, abs=1e-4) and not -1e30 < second < 1e30
