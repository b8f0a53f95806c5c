"""The helpers of the notebooks: tables that no text can break, turns that are taken, transformers' own tokens."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import hash_lm
from tiny_models import chat_tokenizer, tiny_llama

import specbeam as sb
from specbeam.experiments.notebook import in_turns, parameters_of, reference, render_all, table, timed
from specbeam.models.load import Pair


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (1.5, "1.5"),
        ("a | b\nc", "a \\| b c"),
        ("**bold** <b>|`x`", "**bold** &lt;b>\\|`x`"),
        ("`<|im_end|>` ✓ <b>", "`<\\|im_end\\|>` ✓ &lt;b>"),
        ("\\`<b>`", "\\`&lt;b>`"),
        ("```<b>`", "```&lt;b>`"),
        (["a `", "`<b>`", 3], "a `<br>`&lt;b>`<br>3"),
    ],
)
def test_a_cell_is_markdown_but_neither_html_nor_a_second_cell(value, cell):
    assert table(["x"], [[value]]).data == f"| x |\n| --- |\n| {cell} |"


def test_a_table_takes_any_iterable_and_says_when_it_is_empty():
    assert table(["a", "b"], {1: 2}.items()).data == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert "Nothing" in str(table(["a"], iter([])).data)


def test_parameters_have_the_values_of_the_run(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2] / "notebooks")
    values = {name: number for number, name in enumerate(("where", "runs", "baseline", "parameter", "metric"))}
    found = parameters_of("08_report", {**values, "tolerance": 0.5, "another": 1})
    assert found == {**values, "tolerance": 0.5}
    with pytest.raises(ValueError, match="no_such"):
        parameters_of("no_such", {})


def test_runs_take_turns_and_keep_their_results_and_seconds():
    calls: list[str] = []
    measured = in_turns({name: lambda name=name: calls.append(name) or len(calls) for name in "abc"}, 2)
    assert calls == list("abcabc")
    assert [result for result, _ in measured["b"]] == [2, 5]


def test_a_drawn_order_differs_from_repeat_to_repeat_and_leaves_nobody_out():
    calls: list[int] = []
    in_turns({name: lambda name=name: calls.append(name) for name in range(6)}, 3, random.Random(0))
    turns = [calls[i : i + 6] for i in (0, 6, 12)]
    assert all(sorted(turn) == list(range(6)) for turn in turns)
    assert turns[0] != turns[1] != list(range(6))


def test_timed_hands_arguments_on():
    assert timed(divmod, 7, 2)[0] == (3, 1) and timed(sorted, [1, 2], reverse=True)[0] == [2, 1]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_reference_is_what_generate_returns_behind_the_prompt(num_beams):
    model: Any = hash_lm(24, salt=3)
    inputs = {"input_ids": torch.tensor([[1, 2, 4]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    found = reference(model, inputs, num_beams, max_new_tokens=6, min_new_tokens=6)
    whole = model.generate(**inputs, num_beams=num_beams, do_sample=False, max_new_tokens=6, min_new_tokens=6)
    assert [1, 2, 4, *found] == whole[0].tolist() and len(found) == 6


def test_every_text_becomes_a_prompt_of_its_own():
    pair = Pair(tiny_llama(), None, chat_tokenizer())
    first, second = render_all(pair, ["It rains", "a river is long"], system="Be brief")
    expected = sb.render_prompt(pair.tokenizer, "It rains", system="Be brief")
    assert torch.equal(first["input_ids"], expected["input_ids"]) and second["input_ids"].shape[0] == 1
    assert first["input_ids"].device == pair.target.device
