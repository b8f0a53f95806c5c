"""Rendering: templates, system prompts, padding."""

import pytest
import torch
from tiny_models import chat_tokenizer, tiny_llama
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import specbeam as sb
from specbeam.models.prompts import render_prompt

WORDS = ["<unk>", "<s>", "</s>", "user", "assistant", "system", "hello", "world", "be", "brief", "again", ":"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %} {{ m['role'] }} : {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} assistant :{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def make_tokenizer(template=None, pad_token=None):
    """A word-level tokenizer that puts <s> in front of raw text, as Llama's does."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=pad_token
    )
    tokenizer.chat_template = template
    return tokenizer


def words(tokenizer, row):
    return tokenizer.convert_ids_to_tokens(row.tolist())


def test_a_chat_template_opens_the_assistants_turn_with_a_single_bos():
    tokenizer = make_tokenizer(TEMPLATE)
    inputs = render_prompt(tokenizer, "hello world", system="be brief")
    expected = ["<s>", "system", ":", "be", "brief", "user", ":", "hello", "world", "assistant", ":"]
    assert words(tokenizer, inputs.input_ids[0]) == expected
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert inputs.attention_mask.tolist() == [[1] * len(expected)]


def test_without_a_template_the_text_is_raw_and_system_stands_in_front(capsys):
    tokenizer = make_tokenizer()
    inputs = render_prompt(tokenizer, "hello world", system="be brief", debug=True)
    assert words(tokenizer, inputs.input_ids[0]) == ["<s>", "be", "brief", "hello", "world"]
    assert capsys.readouterr().out == "be brief\n\nhello world\n"


@pytest.mark.parametrize("pad_token", [None, "<unk>"])
def test_several_prompts_are_left_padded_and_the_tokenizer_stays_as_it_was(pad_token):
    tokenizer = make_tokenizer(pad_token=pad_token)
    tokenizer.padding_side = "right"
    inputs = render_prompt(tokenizer, ["hello world again", "hello"])
    assert inputs.attention_mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert words(tokenizer, inputs.input_ids[1])[2:] == ["<s>", "hello"]
    assert inputs.input_ids.dtype == inputs.attention_mask.dtype == torch.long
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", pad_token)


def test_a_conversation_of_several_turns_is_one_prompt():
    tokenizer = make_tokenizer(TEMPLATE)
    turns = [{"role": r, "content": c} for r, c in (("user", "hello"), ("assistant", "world"), ("user", "again"))]
    inputs = render_prompt(tokenizer, turns)
    assert " ".join(words(tokenizer, inputs.input_ids[0])) == (
        "<s> user : hello assistant : world user : again assistant :"
    )
    assert render_prompt(tokenizer, [turns, "hello"]).input_ids.shape[0] == 2


def test_a_template_that_refuses_a_system_turn_is_named_with_the_remedy():
    tokenizer = make_tokenizer(NO_SYSTEM + TEMPLATE)
    with pytest.raises(ValueError, match=r"refuses a system prompt.*not supported.*in front of the prompt"):
        render_prompt(tokenizer, "hello", system="be brief")
    assert render_prompt(tokenizer, "hello").input_ids.shape == (1, 6)


def test_a_template_that_drops_the_system_turn_warns():
    tokenizer = make_tokenizer("{{ messages[-1]['content'] }}")
    with pytest.warns(UserWarning, match="leaves the system prompt out"):
        render_prompt(tokenizer, "hello", system="be brief")


def test_two_system_prompts_are_refused():
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    with pytest.raises(ValueError, match="keep one"):
        render_prompt(make_tokenizer(TEMPLATE), messages, system="be brief")


@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("prompt", ["", "  \n", [], ["hello", ""], [[]], 3, [3]])
def test_empty_and_ill_typed_prompts_are_refused(template, prompt):
    with pytest.raises(ValueError, match=r"empty|neither"):
        render_prompt(make_tokenizer(template), prompt)


def test_messages_without_a_template_are_refused():
    with pytest.raises(ValueError, match="no chat template"):
        render_prompt(make_tokenizer(), [{"role": "user", "content": "hello"}])


CLOSED = (
    "{{ bos_token }}{% for m in messages %} {{ m['role'] }} : {{ m['content'] }} </s>{% endfor %}"
    "{% if add_generation_prompt %} assistant :{% endif %}"
)
USER_LAST = "{% if messages[-1].role != 'user' %}{{ raise_exception('user turn last') }}{% endif %}"
PREFILL = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world be"}]


def by_hand(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, continue_final_message=True, return_dict=False)


@pytest.mark.parametrize("system", [None, "be brief"])
def test_an_assistants_message_at_the_end_stays_open(system):
    tokenizer = make_tokenizer(CLOSED)
    inputs = render_prompt(tokenizer, PREFILL, system=system)
    messages = [{"role": "system", "content": system}, *PREFILL] if system else PREFILL
    assert inputs.input_ids.tolist() == [by_hand(tokenizer, messages)]
    assert words(tokenizer, inputs.input_ids[0])[-4:] == ["assistant", ":", "world", "be"]


def test_open_and_new_answers_may_stand_in_one_batch():
    tokenizer = make_tokenizer(CLOSED)
    blocks = [PREFILL[0], {"role": "assistant", "content": [{"type": "text", "text": "again"}]}]
    inputs = render_prompt(tokenizer, [PREFILL, "hello"])
    assert inputs.attention_mask.sum(1).tolist() == [9, 7]
    read = "m['content'] if m.role == 'user' else m.content[0].text }}"
    in_blocks = make_tokenizer(CLOSED.replace("m['content'] }}", read))
    assert words(in_blocks, render_prompt(in_blocks, blocks).input_ids[0])[-1] == "again"
    empty = [PREFILL[0], {"role": "assistant", "content": ""}]
    assert words(tokenizer, render_prompt(tokenizer, empty).input_ids[0])[-2:] == ["assistant", ":"]


def test_decoding_continues_an_open_answer():
    tokenizer, model = chat_tokenizer(), tiny_llama()
    messages = [{"role": "user", "content": "It rains"}, {"role": "assistant", "content": "a river"}]
    row = torch.tensor([by_hand(tokenizer, messages)])
    wanted = model.generate(row, attention_mask=torch.ones_like(row), max_new_tokens=8, num_beams=3)
    decoded = sb.speculative_beam(
        sb.Pair(model, sb.RecallDraft(), tokenizer),
        render_prompt(tokenizer, messages),
        max_new_tokens=8,
        num_beams=3,
    )
    assert decoded.sequences[0] == wanted[0, row.shape[1] :].tolist()


@pytest.mark.parametrize(
    "template, content, reason",
    [
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "world", "does not appear"),
        ("{% for m in messages if m.role == 'user' %}{{ m['content'] }}{% endfor %}", "world", "does not appear"),
        (CLOSED, None, "no .content. to continue"),
        (CLOSED, 3, "int"),
        (USER_LAST + CLOSED, "world", "user turn last"),
    ],
)
def test_a_template_that_cannot_leave_an_answer_open_is_refused_with_the_remedy(template, content, reason):
    messages = [PREFILL[0], {"role": "assistant", "content": content}]
    with pytest.raises(ValueError, match=rf"cannot be continued.*{reason}.*end the conversation with the user's"):
        render_prompt(make_tokenizer(template), messages)


def test_a_system_turn_that_is_refused_before_an_open_answer_is_named():
    with pytest.raises(ValueError, match=r"refuses a system prompt.*not supported"):
        render_prompt(make_tokenizer(NO_SYSTEM + CLOSED), PREFILL, system="be brief")
