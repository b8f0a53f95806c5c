"""Characters of records and outputs that no HTML file holds as they are."""

from __future__ import annotations

import re
from typing import Any

LONE = re.compile("[\ud800-\udfff]")  # halves of characters, which UTF-8 cannot write


def writable(html: str) -> str:
    """A page whose texts come back from a parser as they were put in; of lone surrogates and NUL, signs for them.

    A parser reads a carriage return as a line feed, and drops NUL.
    """
    return without_surrogates(html).replace("\r", "&#13;").replace("\0", "\u2400")


def without_surrogates(text: str) -> str:
    return LONE.sub("\ufffd", text)


def printable(node: Any) -> Any:
    """Lists and dictionaries without lone surrogates in their texts, changed in place."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str):
            node[key] = without_surrogates(value)
        elif isinstance(value, dict | list):
            printable(value)
    return node
