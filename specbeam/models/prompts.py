"""Turn prompts into model inputs: with the tokenizer's chat template if it has one, else as raw text."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BatchEncoding

from specbeam.text import check_text

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]  # a text, or a conversation: [{"role": "user", "content": "…"}, …]


def render_prompt(
    tokenizer: Any, prompt: Prompt | Sequence[Prompt], system: str | None = None, debug: bool = False
) -> BatchEncoding:
    """Model inputs for one prompt or several: `input_ids`, `attention_mask` (prompts, tokens), left-padded.

    With a chat template, a text becomes the user's turn, after `system` if given, and the template opens the
    assistant's. Some templates add a system turn of their own when none is given, SmolLM2's for example ("You are a
    helpful AI assistant named SmolLM, …"). Special tokens come from the template alone, so that there is no second
    BOS. Without a template the text is tokenized as it is, after `system` and a blank line.

    A conversation whose last message is the assistant's is a prefill: that message stays open, and what is generated
    continues it, as with `continue_final_message=True` of transformers' `apply_chat_template`. Many templates strip
    spaces at its end.

    prompt: a string, a conversation (a list of message dicts), or a list of either.
    debug: print the rendered text of every prompt.

    The tokenizer is not changed and needs no pad token. Raises ValueError for an empty prompt, for a template that
    refuses a system turn or cannot leave the assistant's message open, and for messages that cannot be rendered.
    """
    texts = [_render(tokenizer, each, system) for each in _as_list(prompt)]
    for text in texts:
        check_text(text, "the prompt")
    if debug:
        for text in texts:
            print(text)
    templated = tokenizer.chat_template is not None
    rows = [tokenizer(text, add_special_tokens=not templated)["input_ids"] for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise ValueError(f"the prompt {text!r} gives no tokens; write at least one word")
    width = max(map(len, rows))
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return BatchEncoding({"input_ids": ids, "attention_mask": mask})


def _as_list(prompt: Any) -> list[Prompt]:
    """One prompt or several as a list of prompts; a list of dicts is one conversation."""
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, Sequence) or not prompt:
        raise ValueError(f"prompt={prompt!r} is neither a text nor a list with at least one prompt")
    if all(isinstance(each, Mapping) for each in prompt):
        return [prompt]
    for each in prompt:
        conversation = isinstance(each, Sequence) and each and all(isinstance(part, Mapping) for part in each)
        if not isinstance(each, str) and not conversation:
            raise ValueError(f"{each!r} in the list of prompts is neither a text nor a conversation")
    return list(prompt)


def _render(tokenizer: Any, prompt: Prompt, system: str | None) -> str:
    if isinstance(prompt, str) and not prompt.strip():
        raise ValueError(f"the prompt {prompt!r} is empty; write at least one word")
    if tokenizer.chat_template is None:
        if not isinstance(prompt, str):
            raise ValueError("this tokenizer has no chat template for a list of messages; give the prompt as a text")
        return f"{system}\n\n{prompt}" if system else prompt

    messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system:
        if messages[0].get("role") == "system":
            raise ValueError("the conversation begins with a system message and `system` is given too; keep one")
        messages = [{"role": "system", "content": system}, *messages]
    text = _apply_template(tokenizer, messages)
    if system and system.strip() not in text:
        warnings.warn("the chat template leaves the system prompt out; put its text into the prompt", stacklevel=4)
    return text


def _apply_template(tokenizer: Any, messages: list[Message]) -> str:
    from jinja2 import TemplateError

    if messages[-1].get("role") == "assistant":
        return _continued(tokenizer, messages)
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        if _refuses_system(tokenizer, messages, add_generation_prompt=True):
            raise _system_refused(error) from error
        raise ValueError(f"the chat template of this model refuses these messages: {error}") from error


def _continued(tokenizer: Any, messages: list[Message]) -> str:
    """The conversation with the assistant's message at its end left open."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    except (TemplateError, ValueError, TypeError) as error:
        if _refuses_system(tokenizer, messages, continue_final_message=True):
            raise _system_refused(error) from error
        first = next(iter(str(error).splitlines()), "")
        shown = repr(messages[-1].get("content"))
        raise ValueError(
            f"the assistant's message {shown if len(shown) < 80 else shown[:77] + '…'} at the end of the conversation "
            f"cannot be continued with the chat template of this model ({first}); end the conversation with the user's "
            "message, or render the text yourself and tokenize it with add_special_tokens=False"
        ) from error


def _refuses_system(tokenizer: Any, messages: list[Message], **options: Any) -> bool:
    """Whether the template takes the messages once a system turn at their beginning is left out."""
    if messages[0].get("role") != "system" or len(messages) < 2:
        return False
    try:
        tokenizer.apply_chat_template(messages[1:], tokenize=False, **options)
    except Exception:  # of whatever kind: it is the messages then
        return False
    return True


def _system_refused(error: Exception) -> ValueError:
    return ValueError(
        f"the chat template of this model refuses a system prompt ({error}); "
        "leave `system` out and put its text in front of the prompt"
    )
