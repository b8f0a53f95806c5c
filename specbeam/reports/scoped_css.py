"""The CSS of one output, for that output alone, and without anything to load.

A parser of CSS, not text replacement, decides where a rule ends: `@scope` then holds whatever the rules say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import tinycss2

# At-rules that hold rules. Others reach beyond an output wherever they stand (@font-face, @property, @page, @import)
# and are left out.
GROUPS = ("media", "supports", "container", "layer", "scope", "starting-style")
KEYFRAMES = ("keyframes", "-webkit-keyframes")
LOADING = ("url", "src", "image", "image-set", "-webkit-image-set", "cross-fade", "-webkit-cross-fade")
SUBSTITUTED = ("var", "attr", "env")  # what stands there may come from a declaration that loads nothing
MAY_LOAD = re.compile(r"url|src|image|cross-fade|\\", re.IGNORECASE)
NOTHING = "data:,"  # an address that asks nobody


def scoped(css: str, scope: str) -> str:
    """The rules that hold within elements matching the selector `scope`; "" when there are none.

    What an output says of `:root` holds for its own topmost element. A rule that is no CSS is left out, as browsers
    do. The result may stand in a <style> of HTML or of SVG.
    """
    try:
        rules = "".join(_rules(tinycss2.parse_stylesheet(css, skip_comments=True)))
    except RecursionError:  # brackets within brackets by the hundred are nobody's style
        return ""
    # What would end a <style> or begin a tag in SVG, where < is no sign of comparison, stands in a string.
    return re.sub(r"<(?![=\s\d])", r"\\3c ", f"@scope ({scope}){{{rules}}}") if rules else ""


def without_loads(css: str) -> str:
    """Declarations or a value of CSS, with every address but `data:` and `#…` replaced by one that asks nobody."""
    if not MAY_LOAD.search(css):
        return css
    try:
        return tinycss2.serialize(_without_loads(tinycss2.parse_component_value_list(css)))
    except RecursionError:
        return ""


def _rules(nodes: Iterable[Any]) -> Iterable[str]:
    for node in nodes:
        if node.type == "qualified-rule" and _sound(node.prelude) and _sound(node.content):
            prelude, content = _of_output(node.prelude), _without_loads(node.content)
            yield f"{tinycss2.serialize(prelude)}{{{tinycss2.serialize(content)}}}"
        elif node.type == "at-rule" and node.content is not None and _sound(node.prelude):
            name, inner = node.lower_at_keyword, tinycss2.parse_rule_list(node.content, skip_comments=True)
            if name in GROUPS or name in KEYFRAMES:
                yield f"@{name}{tinycss2.serialize(node.prelude)}{{{''.join(_rules(inner))}}}"


def _sound(tokens: Iterable[Any]) -> bool:
    """Whether every bracket and string is closed, so that the tokens end where they seem to."""
    return all(token.type != "error" and _sound(_inner(token)) for token in tokens)


def _inner(token: Any) -> list[Any]:
    return getattr(token, "arguments", None) or getattr(token, "content", None) or []


def _of_output(prelude: list[Any]) -> list[Any]:
    """A selector with `:root` as the output that has the style."""
    before = None
    for token in prelude:
        if token.type == "ident" and token.lower_value == "root" and before == ":":
            token.value = token.lower_value = "scope"
        before = token.value if token.type == "literal" else None
        _of_output(_inner(token))
    return prelude


def _without_loads(tokens: list[Any], loading: bool = False) -> list[Any]:
    for token in tokens:
        if token.type == "url" or (token.type == "string" and loading):
            if not token.value.strip().lower().startswith(("data:", "#")):
                token.value = NOTHING
                token.representation = f'url("{NOTHING}")' if token.type == "url" else f'"{NOTHING}"'
        else:
            name = token.lower_name if token.type == "function" else ""
            if loading and name in SUBSTITUTED:
                token.arguments = []  # which makes the declaration invalid
            inside = loading or name in LOADING
            _without_loads(_inner(token), inside)
    return tokens
