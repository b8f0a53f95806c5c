"""What the web page's server answers at all: the page, its assets and its queue. Files, uploads and proxies are not.

Gradio brings routes that this page has no use for: reading files, taking uploads, fetching other sites. What is not
on the list here gets a 404 before Gradio sees it, and pages may load from their own server only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

PAGES = frozenset(("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"))
ASSETS = ("/assets/", "/static/")
API = "/gradio_api"
CALLS = frozenset(
    f"{API}/{name}"
    for name in ("info", "openapi.json", "queue/join", "queue/data", "cancel", "reset", "startup-events", "app_id")
)
EVENTS = (f"{API}/heartbeat/", f"{API}/call/", f"{API}/run/")
MOST_BYTES = 1 << 20  # of a request's body: far more than the longest prompt
# Gradio's page holds scripts of its own and makes functions of its templates
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)


def served(path: str) -> bool:
    """Whether a path is part of the page."""
    path = path.rstrip("/") or "/"
    return path in PAGES or path in CALLS or (path.startswith((*ASSETS, *EVENTS)) and ".." not in path)


class Gate:
    """ASGI middleware around Gradio's app."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" or not served(scope["path"]):
            await _refuse(scope, send, 404, "There is nothing here.")
        elif _length(scope) > MOST_BYTES:
            await _refuse(scope, send, 413, "This request is too long for this page.")
        else:
            await self.app(scope, _counted(receive), _guarded(send))


def _length(scope: Scope) -> int:
    """Bytes of the body as the request announces them; 0 where it does not say."""
    said = dict(scope["headers"]).get(b"content-length", b"0")
    return int(said) if said.isdigit() else MOST_BYTES + 1


def _counted(receive: Receive) -> Receive:
    """A body that is longer than it may be ends the request, whatever it announced."""
    taken = 0

    async def limited() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > MOST_BYTES else message

    return limited


def _guarded(send: Send) -> Send:
    """Answers carry the policy that they may load nothing from elsewhere."""

    async def guarded(message: Any) -> None:
        if message["type"] == "http.response.start":
            added = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]
            added.append((b"referrer-policy", b"no-referrer"))  # the address may hold a prompt
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return guarded


async def _refuse(scope: Scope, send: Send, status: int, words: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
