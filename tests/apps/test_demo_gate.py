"""The gate before the web page: a visitor who goes is noticed at once, and the path of a proxy comes off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("starlette", reason="it comes with Gradio")
from specbeam.apps.demo.gate import Gate, listener


def request(path: str, query: str = "") -> dict[str, Any]:
    return {"type": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": []}


def visit(scope: dict[str, Any], app: Any, root_path: str = "", closes: bool = False) -> tuple[list[str], list[Any]]:
    """Who has left after a request, and what was sent. The connection closes once the answer has begun, or stays."""
    gone: list[str] = []
    sent: list[Any] = []

    async def one() -> None:
        begun = asyncio.Event()
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await begun.wait()
            if not closes:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            begun.set()

        await asyncio.wait_for(Gate(app, root_path, gone.append)(scope, receive, send), 60)

    asyncio.run(one())
    return gone, sent


async def streams_until_nobody_listens(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    while (await receive())["type"] != "http.disconnect":
        pass


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def breaks(scope: Any, receive: Any, send: Any) -> None:
    raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/gradio_api/heartbeat/abc", "", "abc"),
        ("/gradio_api/queue/data", "session_hash=abc", "abc"),
        ("/gradio_api/queue/data", "", None),
        ("/gradio_api/queue/join", "session_hash=abc", None),
        ("/", "session_hash=abc", None),
    ],
)
def test_a_connection_that_closes_tells_who_left(path: str, query: str, name: str | None) -> None:
    scope = request(path, query)
    assert listener(scope) == name
    gone, sent = visit(scope, streams_until_nobody_listens, closes=True)
    assert gone == ([] if name is None else [name])
    assert dict(sent[0]["headers"])[b"x-accel-buffering"] == b"no"


def test_who_was_answered_to_the_end_has_not_left() -> None:
    gone, sent = visit(request("/gradio_api/queue/data", "session_hash=abc"), answers)
    assert not gone and len(sent) == 3


def test_an_app_that_breaks_is_not_waited_for() -> None:
    with pytest.raises(KeyError, match="no such thing"):
        visit(request("/gradio_api/heartbeat/abc"), breaks)


@pytest.mark.parametrize("root_path", ["/lab/beams", "/lab/beams/", "https://example.org/lab/beams"])
@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/lab/beams", b"/"),
        ("/lab/beams/", b"/"),
        ("/lab/beams/assets/a.js", b"/assets/a.js"),
        ("/assets/a.js", b"/assets/a.js"),
        ("/", b"/"),
    ],
)
def test_a_proxys_path_comes_off_whether_the_proxy_took_it_off_or_not(root_path: str, path: str, seen: bytes) -> None:
    _, sent = visit(request(path), answers, root_path)
    assert sent[0]["status"] == 200 and dict(sent[0]["headers"])[b"x-path"] == seen


@pytest.mark.parametrize("path", ["/lab/beamsassets/a.js", "/lab", "/lab/beams/gradio_api/upload", "/lab/beams/docs"])
def test_what_is_no_page_is_none_under_a_proxys_path_either(path: str) -> None:
    _, sent = visit(request(path), answers, "/lab/beams")
    assert sent[0]["status"] == 404
