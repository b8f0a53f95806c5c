"""Formulas and Markdown as HTML that needs no script: TeX becomes MathML, as far as it is mathematics."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

NAMED = re.compile(r"\\operatorname\*?\s*\{([^{}]*)\}")  # the converter makes a product of its letters
NUMBERED = re.compile(r"\\(?:label\s*\{[^{}]*\}|nonumber\b|notag\b)")  # formulas have no numbers here
# Environments that the converter does not know, or numbers, as one that it knows. Alignments at several columns say
# how many there are.
ALIGNED = re.compile(r"\\(begin|end)\{(?:align(?:ed)?(?:at)?|flalign|eqnarray|split)\*?\}(?:\{\d+\})?")
GATHERED = re.compile(r"\\(begin|end)\{(?:gather(?:ed)?|multline)\*?\}")
WHOLE = re.compile(r"\\(?:begin|end)\{(?:equation|math|displaymath|subequations)\*?\}")
# TeX puts a thin space after the name of an operator, MathML does not.
OPERATORS = re.compile(r"(<mi>(?:log|ln|exp|arg|max|min|softmax)</mi>)(?=<m(?:i|n|sub|sup|frac|row)\b)")
ENVIRONMENTS = re.compile(
    r"(?:equation|align|alignat|aligned|gather|gathered|multline|eqnarray|split|cases|array|smallmatrix|[bBpvV]?matrix"
    r"|math|displaymath|flalign|dcases|rcases|subequations)\*?"
)
# What MathJax takes for mathematics in a text, in its order.
MATHEMATICS = re.compile(
    r"(?<!\\)\$\$(?P<double>.+?)(?<!\\)\$\$|\\\[(?P<bracket>.+?)\\\]|\\\((?P<parenthesis>.+?)\\\)"
    r"|(?<!\\)\$(?P<dollar>[^$]+?)(?<!\\)\$|\\begin\{(?P<name>[A-Za-z]+\*?)\}(?P<body>.*?)\\end\{(?P=name)\}",
    re.DOTALL,
)


def mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML, or as readable code where it cannot be converted."""
    known = WHOLE.sub("", GATHERED.sub(r"\\\1{matrix}", ALIGNED.sub(r"\\\1{align*}", NUMBERED.sub("", tex)))).strip()
    # In the style of displays the limits of a sum stand above and below it, also within a line.
    style = "block" if known.startswith(r"\displaystyle") else display
    try:
        converted = convert(NAMED.sub(r"\\text{\1}", known), display=style)
        converted = converted.replace(f'display="{style}"', f'display="{display}"', 1)
        return OPERATORS.sub(r'\1<mspace width="0.17em"/>', converted)
    except Exception:  # the converter raises many types, and a page with one raw formula beats no page
        return f"<code>{escape(tex)}</code>"


def latex_html(source: str) -> str:
    """A text with formulas, as outputs of the type text/latex are: what stands outside the delimiters is text."""
    parts, end = [], 0
    for found in MATHEMATICS.finditer(source):
        parts += [_words(source[end : found.start()]), _formula(found)]
        end = found.end()
    return "".join([*parts, _words(source[end:])])


def markdown_html(source: str) -> str:
    """Markdown as HTML, not yet `contained`."""
    return MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render(source)


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _environment(name, body)

    def block_mermaidjs(self, code: str) -> str:
        return super(IPythonRenderer, self).block_code(code, "mermaid")

    def image(self, text: str, url: str, title: str | None = None) -> Any:
        # where the picture is, is settled with those of raw HTML
        return super(IPythonRenderer, self).image(text, url, title)


def _formula(found: re.Match[str]) -> str:
    if found["name"] is not None:
        return _environment(found["name"], found["body"])
    for group, display in {"double": "block", "bracket": "block", "parenthesis": "inline"}.items():
        if found[group] is not None:
            return mathml(found[group], display)
    return mathml(found["dollar"])


def _environment(name: str, body: str) -> str:
    tex = rf"\begin{{{name}}}{body}\end{{{name}}}"
    return mathml(tex, "block") if ENVIRONMENTS.fullmatch(name) else f"<pre><code>{escape(tex)}</code></pre>"


def _words(text: str) -> str:
    return escape(text.replace(r"\$", "$"), quote=False)
