"""A conversation in OpenAI's chat format, `[{"role": "user", "content": "…"}, …]`, as a prompt and its reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbeam.text import check_text

from .file_text import shown

ROLES = ("system", "user", "assistant")
# beside role and content, what a model would have to read too
_UNREAD = ("name", "tool_calls", "tool_call_id", "function_call", "audio", "images", "refusal")


def read_conversation(messages: Any, where: str) -> tuple[Any, str | None]:
    """The prompt of a conversation, and its reference: the assistant's turn at its end, if there is one.

    A single turn of the user is a text. Several turns, or a system turn in front, are a list of messages for
    `render_prompt`. `where` names file and line for the error.

    Raises ValueError for what is no such list, for a turn that cannot be rendered (tools, pictures, other roles), for
    an empty turn, and for a conversation in which the user does not speak last.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'{where}: messages={shown(messages)} is no list like [{{"role": "user", "content": "…"}}]')
    turns = [_turn(message, f"{where}: message {number}") for number, message in enumerate(messages, 1)]
    reference = turns.pop()["content"] if turns[-1]["role"] == "assistant" else None
    for number, turn in enumerate(turns, 1):
        if turn["role"] == "system" and number > 1:
            raise ValueError(f"{where}: message {number} is a system turn; only the first one may be")
        if not turn["content"].strip():
            raise ValueError(f"{where}: message {number} has no text; write at least one word, or leave it out")
    if not turns or turns[-1]["role"] != "user":
        raise ValueError(
            f"{where}: the messages have no turn of the user at their end, or before the assistant's answer; add one"
        )
    prompt = turns[0]["content"] if len(turns) == 1 else turns
    return prompt, (reference or "").strip() or None


def _turn(message: Any, what: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f'{what}, {shown(message)}, has no role; write {{"role": "user", "content": "…"}}')
    role = message["role"]
    if role not in ROLES:
        raise ValueError(f"{what} has the role {shown(role)}; the roles that are read are {', '.join(ROLES)}")
    for key in _UNREAD:
        if message.get(key):
            raise ValueError(f"{what} has {key!r}, which is not read; leave it out, or write it into the text")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, what) for part in content)
    if content is None and role == "assistant":
        content = ""
    if not isinstance(content, str):
        raise ValueError(f"{what} has the content {shown(content)}, which is no text")
    check_text(content, what)
    return {"role": role, "content": content}


def _part(part: Any, what: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise ValueError(f"{what} has a part that is no text, {shown(part)}; only texts are read")
    return part["text"]
