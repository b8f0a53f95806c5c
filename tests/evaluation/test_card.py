"""The check of a GPU, on a tiny model on a CPU: all cases are decoded, and the record has a row for each."""

from __future__ import annotations

import torch
from tiny_models import tiny_llama

from specbeam.core.draft import NoDraft
from specbeam.evaluation.bench import card
from specbeam.evaluation.bench.cases import NO_DRAFT, PLAIN, UNTRAINED
from specbeam.models.load import Pair


def test_every_case_is_decoded_by_transformers_and_by_us_to_the_same_tokens() -> None:
    model = tiny_llama(dtype=torch.float32)
    pair = Pair(model, NoDraft(), None, "tiny")
    cases = card.plan((1, 3), (1, 2), "cpu", vocabulary=model.config.vocab_size)
    record = card.check(pair, cases, {"repeats": 2, "max_new_tokens": 5})
    rows = {(row["case"], row["source"]): row for row in record.metrics["rows"]}
    assert {case for case, _ in rows} == {"batch_1_greedy", "batch_1_beam_3", "batch_2_greedy", "batch_2_beam_3"}
    assert {source for _, source in rows} == {PLAIN, NO_DRAFT, UNTRAINED}
    assert record.metrics["all_equal"] and all(row["repeats"] == 2 for row in rows.values())


def test_the_random_model_has_the_shape_of_a_small_qwen2() -> None:
    with torch.device("meta"):
        model = card.random_model(torch.bfloat16, "meta", layers=1)
    assert model.config.hidden_size == 896 and model.dtype == torch.bfloat16
