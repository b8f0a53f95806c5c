"""The command line, on stand-ins for models and decoders."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BatchEncoding
from typer.testing import CliRunner

import specbeam
from specbeam.apps.cli.main import app
from specbeam.decoding.methods import METHOD_NAMES

runner = CliRunner()


class Stats(SimpleNamespace):
    steps_per_pass = 2.5
    tokens_per_second = 31.4


def decoded(tokens, text, score=-1.5):
    stats = Stats(
        steps=5,
        target_passes=2,
        target_tokens=20,
        draft_passes=0,
        accepted={2: 1, 3: 1},
        prefill_s=0.1,
        decode_s=0.4,
        draft_s=0.05,
        target_s=0.3,
        relaxed_steps=0,
        peak_kv_tokens=30,
        engine="torch",
    )
    return SimpleNamespace(sequences=[tokens], scores=[score], text=[text], stats=stats, exact=True)


@pytest.fixture
def calls(monkeypatch):
    """What the command asked of the library; the four methods answer alike."""
    seen: dict[str, Any] = {"methods": []}

    def load_pair(target=None, **options):
        seen["load"] = {"target": target, **options}
        model = SimpleNamespace(device=torch.device("cpu"))
        return SimpleNamespace(target=model, tokenizer=None, name="tiny + auto", revisions={"target": None})

    def render_prompt(tokenizer, prompt, system=None, debug=False):
        seen["prompt"], seen["system"] = prompt, system
        if debug:
            print("<rendered>")
        return BatchEncoding({"input_ids": torch.tensor([[1, 2]])})

    def method(name):
        def decode(pair, inputs, **options):
            seen["methods"].append((name, options))
            return decoded([4, 5, 6, 7, 8], "a short text")

        return decode

    monkeypatch.setattr(specbeam, "load_pair", load_pair)
    monkeypatch.setattr(specbeam, "render_prompt", render_prompt)
    monkeypatch.setattr(specbeam, "METHODS", {name: method(name) for name in METHOD_NAMES})
    return seen


def invoke(*arguments, **options):
    return runner.invoke(app, list(arguments), **options)


def test_a_prefill_is_the_beginning_of_the_assistants_answer(calls):
    assert invoke("generate", "hello", "--prefill", "Sure,", "--system", "be brief").exit_code == 0
    assert calls["prompt"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Sure,"}]
    assert calls["system"] == "be brief"


def test_generate_prints_the_text_what_was_accepted_and_speed(calls):
    result = invoke("generate", "hello", "--system", "be brief", "--num-beams", "3")
    assert result.exit_code == 0
    assert "a short text" in result.stdout
    assert "5 steps in 2 target passes (2.50 steps a pass" in result.stdout
    assert "1 × 2, 1 × 3" in result.stdout
    assert "31.4 tokens/s" in result.stdout
    assert (calls["prompt"], calls["system"]) == ("hello", "be brief")
    name, options = calls["methods"][-1]
    assert name == "speculative_beam"
    assert (options["num_beams"], options["max_new_tokens"], options["early_stopping"]) == (3, 64, False)


def test_the_model_options_reach_load_pair(calls):
    flags = "--target m --draft d --dtype bfloat16 --device-map auto --revision r --draft-revision s"
    flags += " --engine torch --no-packed"
    assert invoke("generate", "hello", *flags.split()).exit_code == 0
    expected = dict(
        target="m", draft="d", dtype="bfloat16", device="auto", device_map="auto", revision="r",
        draft_revision="s", engine="torch", packed=False,
    )  # fmt: skip
    assert calls["load"] == expected


def test_a_file_of_answers_has_to_hold_one(calls, tmp_path):
    (tmp_path / "answers.txt").write_text("\n  \n")
    result = invoke("generate", "hello", "--allowed", str(tmp_path / "answers.txt"))
    assert result.exit_code == 2 and not calls["methods"]


def test_greedy_methods_are_not_asked_about_beams(calls):
    assert invoke("generate", "hello", "--method", "speculative", "--max-new-tokens", "7").exit_code == 0
    assert calls["methods"] == [("speculative", {"max_new_tokens": 7, "do_sample": False})]


def test_an_inexact_option_reaches_its_method_and_the_summary_says_so(calls, monkeypatch):
    loose = decoded([1, 2], "ab")
    loose.exact, loose.stats.relaxed_steps = False, 3
    asked = {}
    monkeypatch.setitem(
        specbeam.METHODS, "speculative_beam", lambda pair, inputs, **options: asked.update(options) or loose
    )
    result = runner.invoke(app, ["generate", "Hello", "--margin", "-1"])
    assert asked["margin"] == -1.0
    assert "not exact (3 relaxed steps)" in result.output


def test_an_inexact_option_of_another_method_is_refused(calls):
    result = runner.invoke(app, ["generate", "Hello", "--tolerance", "1"])
    assert result.exit_code == 2
    assert "tolerance is an option of speculative, not of speculative_beam" in result.output


def test_json_is_one_object_and_nothing_else_on_stdout(calls):
    result = invoke("generate", "hello", "--json", "--debug")
    answer = json.loads(result.stdout)
    assert answer["text"] == ["a short text"]
    assert answer["sequences"] == [[4, 5, 6, 7, 8]]
    assert answer["stats"]["accepted"] == {"2": 1, "3": 1}
    assert answer["stats"]["steps_per_pass"] == 2.5
    assert "<rendered>" in result.stderr


def test_json_has_no_infinities(calls, monkeypatch):
    answer = decoded([1], "x", score=float("-inf"))
    monkeypatch.setitem(specbeam.METHODS, "speculative_beam", lambda *args, **options: answer)
    assert json.loads(invoke("generate", "hello", "--json").stdout)["scores"] == [None]


def test_a_dash_reads_the_prompt_from_standard_input(calls):
    assert invoke("generate", "-", input="from a pipe").exit_code == 0
    assert calls["prompt"] == "from a pipe"


def test_compare_runs_the_four_methods_and_says_that_they_agree(calls):
    result = invoke("compare", "hello", env={"COLUMNS": "140"})
    assert result.exit_code == 0
    assert [name for name, _ in calls["methods"]] == ["greedy", *METHOD_NAMES]  # one to warm up
    assert "= greedy ✓" in result.stdout
    assert "= beam ✓" in result.stdout
    assert "a short text" in result.stdout


def test_the_table_is_readable_in_80_columns(calls):
    lines = invoke("compare", "hello", env={"COLUMNS": "80"}).stdout.splitlines()
    row = next(line for line in lines if "speculative_beam" in line)
    assert " ".join(row.split()) == "speculative_beam 5 2 2.50 31.4 = beam ✓ a short text"


def test_compare_says_where_two_methods_part(calls, monkeypatch):
    other = decoded([4, 5, 9], "other")
    monkeypatch.setitem(specbeam.METHODS, "speculative_beam", lambda *args, **options: other)
    assert "≠ beam at 2" in invoke("compare", "hello", env={"COLUMNS": "140"}).stdout
    methods = json.loads(invoke("compare", "hello", "--json").stdout)["methods"]
    assert (methods["speculative"]["equal"], methods["speculative_beam"]["equal"]) == (True, False)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["generate", "  "], "is empty"),
        (["compare", ""], "is empty"),
        (["generate", "hello", "--method", "magic"], "method='magic' is none of greedy, beam"),
        (["generate", "hello", "--early-stopping", "maybe"], "early_stopping='maybe'"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(calls, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "load" not in calls or message.startswith("method")


def test_an_error_of_the_library_is_one_line_too(calls, monkeypatch):
    def fail(*args, **options):
        raise ValueError("no such\nmodel; give a folder")

    monkeypatch.setattr(specbeam, "load_pair", fail)
    result = invoke("generate", "hello")
    assert (result.exit_code, result.stderr) == (2, "specbeam: no such model; give a folder\n")


def test_help_names_the_commands():
    result = invoke("--help")
    assert all(name in result.stdout for name in ("generate", "compare", "distill", "run", "reports"))


def test_the_options_of_generate_are_found_by_a_word_of_their_line():
    shown = runner.invoke(app, ["options", "penalty"])
    assert shown.exit_code == 0
    assert "repetition_penalty" in shown.output and "honoured" in shown.output
    assert "stop_strings" not in shown.output
    nothing = runner.invoke(app, ["options", "nonsense"])
    assert nothing.exit_code == 2 and "nonsense" in nothing.stderr
