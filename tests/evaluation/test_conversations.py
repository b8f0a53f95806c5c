"""Conversations in OpenAI's chat format: what becomes the prompt, what the reference, and what is refused by name."""

import json

import pytest

from specbeam.evaluation import data
from specbeam.evaluation.data_files import Example, read_prompts


@pytest.fixture
def read(tmp_path):
    """The example that one line of JSON with these keys gives."""

    def write_and_read(messages, **keys):
        (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages, **keys}))
        (example,) = read_prompts(tmp_path / "a.jsonl")
        assert example.source == "prompts/1"
        return example.prompt, example.reference

    return write_and_read


def turn(role, content, **keys):
    return {"role": role, "content": content, **keys}


SYSTEM, HI, HELLO, BYE = (
    turn("system", "Be brief."),
    turn("user", "Hi"),
    turn("assistant", "Hello"),
    turn("user", "Bye"),
)


@pytest.mark.parametrize(
    "messages, prompt, reference",
    [
        ([HI], "Hi", None),
        ([HI, HELLO], "Hi", "Hello"),
        ([HI, HELLO, BYE], [HI, HELLO, BYE], None),
        ([HI, HELLO, BYE, turn("assistant", " So long ")], [HI, HELLO, BYE], "So long"),
        ([SYSTEM, HI], [SYSTEM, HI], None),
        ([SYSTEM, HI, HELLO], [SYSTEM, HI], "Hello"),
        ([HI, turn("assistant", None)], "Hi", None),
        ([turn("user", [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}])], "one two", None),
        ([turn("user", "Hi", name=None, tool_calls=[], weight=1)], "Hi", None),
    ],
)
def test_the_assistants_last_turn_is_the_reference_and_what_precedes_it_the_prompt(read, messages, prompt, reference):
    assert read(messages) == (prompt, reference)


def test_a_reference_may_stand_beside_a_conversation_that_has_none(read):
    assert read([HI], reference="Hello", id=7) == ("Hi", "Hello")
    assert read([HI], prompt=None, tools=[]) == ("Hi", None)


@pytest.mark.parametrize(
    "messages, keys, message",
    [
        ([], {}, "messages=.. is no list like"),
        ("Hi", {}, "messages='Hi' is no list like"),
        (["Hi"], {}, "message 1, 'Hi', has no role"),
        ([{"from": "human", "value": "Hi"}], {}, "message 1, .* has no role"),
        ([HI, turn("tool", "7")], {}, "message 2 has the role 'tool'; the roles that are read are system, user, assis"),
        ([turn("developer", "x"), HI], {}, "message 1 has the role 'developer'"),
        ([HI, turn("assistant", None, tool_calls=[{}])], {}, "message 2 has 'tool_calls', which is not read"),
        ([turn("user", [{"type": "image_url", "image_url": {}}])], {}, "message 1 has a part that is no text, .*image"),
        ([turn("user", 7)], {}, "message 1 has the content 7, which is no text"),
        ([turn("user", " ")], {}, "message 1 has no text; write at least one word"),
        ([HI, SYSTEM, BYE], {}, "message 2 is a system turn; only the first one may be"),
        ([HELLO], {}, "no turn of the user at their end, or before the assistant's answer"),
        ([SYSTEM], {}, "no turn of the user at their end"),
        ([HI, HELLO, HELLO], {}, "no turn of the user at their end"),
        ([turn("user", "\ud83d")], {}, "message 1 holds '.ud83d' as its character 1"),
        ([HI, HELLO], {"reference": "x"}, "an answer in 'messages' and a 'reference'; keep one"),
        ([HI], {"prompt": "Hi"}, "there are a 'prompt' and 'messages'; keep one"),
        ([HI], {"tools": [{}]}, "'tools' beside 'messages' is not read; leave it out"),
    ],
)
def test_what_a_prompt_cannot_carry_is_refused_by_name(read, messages, keys, message):
    with pytest.raises(ValueError, match=f"a.jsonl, line 1: .*{message}"):
        read(messages, **keys)


def test_words_of_a_conversation_are_not_cut(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [turn("user", "one two three")]}))
    cut = data.load("prompts", path=tmp_path / "a.jsonl", max_words=2)
    assert cut == [Example("one two", None, "prompts/1")]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [SYSTEM, HI]}))
    assert len(data.load("prompts", path=tmp_path / "a.jsonl")[0].prompt) == 2
    with pytest.raises(
        ValueError, match="max_words=2 cuts texts, and prompts/1 is a conversation of 2 messages; leave"
    ):
        data.load("prompts", path=tmp_path / "a.jsonl", max_words=2)


def test_a_conversation_is_rendered_with_its_system_turn(tmp_path, capsys):
    from tiny_models import chat_tokenizer

    from specbeam.models.prompts import render_prompt

    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [SYSTEM, HI, HELLO, BYE]}))
    render_prompt(chat_tokenizer(), read_prompts(tmp_path / "a.jsonl")[0].prompt, debug=True)
    shown = "<s> system : Be brief. </s> user : Hi </s> assistant : Hello </s> user : Bye </s> assistant :"
    assert capsys.readouterr().out.strip() == shown
