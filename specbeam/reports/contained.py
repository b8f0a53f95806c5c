"""Markup that somebody else wrote as a part of a page: whole, without anything that loads, and styled for itself only.

nh3 (ammonia) parses as browsers do, keeps what `allowed_markup` names and closes what is open. So what follows a part
is never inside it. Its styles hold within it by `@scope`, and the page's CSS contains its layout.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from html import escape, unescape
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import nh3

from .allowed_markup import ATTRIBUTES, DROPPED_WITH_CONTENT, PREFIXES, TAGS
from .scoped_css import scoped, without_loads

PAGE_IDS = ("provenance", "show-code")  # the page's own, and for its own links and labels
SCHEMES = {"http", "https", "mailto", "tel", "data"}
LINKS = ("a", "area")
STYLE = re.compile(r"(<style[^>]*>)(.*?)</style>", re.DOTALL)  # nh3 escapes < and > in text and attributes
FIRST_LINE = re.compile(r"(<(?:pre|textarea|listing)\b[^>]*>)\n")
TAG = re.compile(r"<[^>]*>")
SHOWN = re.compile(r"<(?:img|svg|math|audio|video|input|textarea|select|progress|meter|hr|button)\b")
NEEDS_MORE = re.compile(r"<(?:script|iframe|embed|object|canvas|applet|template|noscript)\b", re.IGNORECASE)
LARGEST = 1_000_000  # bytes of a file beside the notebook; pages stay small enough to mail
AFTER = "<p>after</p>"
MISSING = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20"><text y="14" \
font-family="sans-serif" font-size="12" fill="#777">{words}</text></svg>"""


def contained(html: str, number: int, folder: Path | None = None, attached: Mapping[str, str] | None = None) -> str:
    """The markup of part `number` of a page, within one <div>; "" when nothing of it can be shown.

    Pictures are looked up in the cell's attachments (`attached`: addresses by name) and in `folder`; one that is
    elsewhere gives way to a note of its address.
    """
    inner = cleaned(html, f'[data-part="{number}"]', folder, attached)
    if inner and not inner.startswith("<pre>") and NEEDS_MORE.search(html) and not shows_something(inner):
        return ""
    return f'<div class="part" data-part="{number}">{inner}</div>'


def cleaned(html: str, scope: str, folder: Path | None = None, attached: Mapping[str, str] | None = None) -> str:
    """The markup without its <div>: `contained` for one whose styles hold within `scope`."""
    folders = None if folder is None else str(folder)
    cleaner = _cleaner(folders, tuple((attached or {}).items()))
    # The serializer leaves out the line feed that a parser will drop after <pre>.
    inner = FIRST_LINE.sub(r"\1\n\n", cleaner.clean(html))
    inner = STYLE.sub(lambda found: _style(found, scope), inner)
    # No parser is without faults: where a part would take in what follows it, its text is shown instead.
    whole = cleaner.clean(f"<div>{inner}</div>{AFTER}").endswith(f"</div>{AFTER}")
    return inner if whole else f"<pre>{escape(text_of(inner))}</pre>"


def shows_something(html: str) -> bool:
    """Whether cleaned markup has text, a picture or a control."""
    return bool(SHOWN.search(html) or text_of(html).strip())


def text_of(html: str) -> str:
    """The text of cleaned markup, without styles."""
    return unescape(TAG.sub("", STYLE.sub("", html)))


def _style(found: re.Match[str], scope: str) -> str:
    # In SVG the parser reads &gt; as >, and the serializer writes it so; in HTML neither does.
    rules = scoped(unescape(found[2]), scope)
    return f"{found[1]}{rules}</style>"


@lru_cache(maxsize=4)
def _cleaner(folder: str | None, attached: tuple[tuple[str, str], ...]) -> nh3.Cleaner:
    addresses = dict(attached)

    def kept(tag: str, name: str, value: str) -> str | None:
        if name == "data-part" or (name in ("id", "for") and value in PAGE_IDS):
            return None
        if name == "attributeName" and value.lower().endswith("href"):
            return None
        if name in ("src", "poster") or (name == "href" and tag not in LINKS):
            return _local(tag, value)
        return without_loads(value) if "(" in value and name not in ("title", "alt", "aria-label") else value

    def _local(tag: str, address: str) -> str | None:
        """The address where asking for it asks nobody else."""
        address = address.strip()
        if address.startswith("#") or address[:5].lower() == "data:":
            return address
        name = address.removeprefix("attachment:")
        if name in addresses or unquote(name) in addresses:
            return addresses.get(name) or addresses[unquote(name)]
        return _file(folder, address) or (_note(address) if tag in ("img", "image") else None)

    return nh3.Cleaner(
        tags=TAGS,
        clean_content_tags=DROPPED_WITH_CONTENT,
        attributes={"*": ATTRIBUTES | {"src"}},
        attribute_filter=kept,
        generic_attribute_prefixes=PREFIXES,
        url_schemes=SCHEMES | {"attachment"},
    )


def _file(folder: str | None, address: str) -> str | None:
    """A picture, sound or film below the folder as a data address."""
    with suppress(OSError, ValueError, RuntimeError):  # no address, no path, or links in a circle
        parts = urlsplit(address)
        if folder is None or parts.scheme or parts.netloc or not parts.path:
            return None
        root = Path(folder).resolve()
        path = (root / unquote(parts.path)).resolve()
        kind = mimetypes.guess_type(path.name)[0] or ""
        if not kind.startswith(("image/", "audio/", "video/")) or root not in path.parents or not path.is_file():
            return None
        if path.stat().st_size <= LARGEST:
            return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return None


def _note(address: str) -> str:
    words = f"picture that is not on this page: {address if len(address) < 80 else address[:79] + '…'}"
    return "data:image/svg+xml," + quote(MISSING.format(width=7 * len(words), words=escape(words)))
