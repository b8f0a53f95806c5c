"""What the web page's server answers at all: the page, its assets and its queue. Files, uploads and proxies are not.

Gradio brings routes that this page has no use for: reading files, taking uploads, fetching other sites. What is not
on the list here gets a 404 before Gradio sees it, and pages may load from their own server only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGES = frozenset(("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"))
ASSETS = ("/assets/", "/static/")
API = "/gradio_api"
CALLS = frozenset(
    f"{API}/{name}"
    for name in ("info", "openapi.json", "queue/join", "queue/data", "cancel", "reset", "startup-events", "app_id")
)
HEARTBEAT = f"{API}/heartbeat/"
EVENTS = (HEARTBEAT, f"{API}/call/", f"{API}/run/")
MOST_BYTES = 1 << 20  # of a request's body: far more than the longest prompt
# Gradio's page holds scripts of its own and makes functions of its templates
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
ADDED = {  # to the headers of every answer
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address may hold a prompt
}
CLOSED = {"connection": "close"}  # a refusal's own


def served(path: str) -> bool:
    """Whether a path is part of the page."""
    path = path.rstrip("/") or "/"
    return path in PAGES or path in CALLS or (path.startswith((*ASSETS, *EVENTS)) and ".." not in path)


def listener(scope: Scope) -> str | None:
    """The visitor whose page holds a request open for as long as it is there; None where nobody does by it."""
    path = scope["path"].rstrip("/")
    if path.startswith(HEARTBEAT):
        return path.removeprefix(HEARTBEAT) or None
    if path == f"{API}/queue/data":
        return next(iter(parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [])), None)
    return None


class Gate:
    """ASGI middleware around Gradio's app.

    Args:
        root_path: the path under which a proxy shows the page. Requests may come with it or without.
        left: told the name of a visitor whose connection has closed before its answer was complete.
    """

    def __init__(self, app: ASGIApp, root_path: str = "", left: Callable[[str], None] | None = None):
        self.app, self.prefix, self.left = app, urlsplit(root_path).path.rstrip("/"), left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] not in ("http", "lifespan"):
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] == "http":
            if self.prefix and f"{scope['path']}/".startswith(f"{self.prefix}/"):
                scope = {**scope, "path": scope["path"][len(self.prefix) :] or "/"}
                scope["raw_path"] = scope["path"].encode()
            said = Headers(scope=scope).get("content-length", "0")
            if not served(scope["path"]):
                app = PlainTextResponse("There is nothing here.", 404, CLOSED)
            elif not said.isdecimal() or int(said) > MOST_BYTES:
                app = PlainTextResponse("This request is too long for this page.", 413, CLOSED)
            else:
                receive, send = _counted(receive), _guarded(send)
                if self.left is not None and (name := listener(scope)) is not None:
                    return await _watched(app, scope, receive, send, name, self.left)
        await app(scope, receive, send)


async def _watched(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, name: str, left: Callable[[str], None]
) -> None:
    """Answer, and tell when the connection closes meanwhile: Gradio itself looks only now and then."""
    came: asyncio.Queue[Message] = asyncio.Queue()
    complete = gone = False

    async def listen() -> None:
        nonlocal gone
        while not gone:
            message = await receive()
            gone = message["type"] == "http.disconnect"
            came.put_nowait(message)
        if not complete:
            await asyncio.to_thread(left, name)

    async def answer(message: Message) -> None:
        nonlocal complete
        await send(message)
        complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    listening = asyncio.create_task(listen())
    try:
        await app(scope, came.get, answer)
    finally:
        if not gone:
            listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


def _counted(receive: Receive) -> Receive:
    """A body that is longer than it may be ends the request, whatever it announced."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > MOST_BYTES else message

    return limited


def _guarded(send: Send) -> Send:
    """Answers carry the policy that they may load nothing from elsewhere."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            headers.update(ADDED)
            if headers.get("content-type", "").startswith("text/event-stream"):
                headers["x-accel-buffering"] = "no"  # proxies hand on each event as it comes
        await send(message)

    return guarded
