"""The web page where people put it: under a path of a proxy, with proxies in the environment, on IPv6."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from demo_pair import braked_pair
from notebook_factory import wait_until

from specbeam.apps.demo import server as demo
from specbeam.apps.demo.jobs import JobQueue
from specbeam.apps.demo.settings import Limits

pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting", "ignore:The copy keyword is deprecated")


@contextmanager
def shown(pair: Any = None, **options: Any) -> Iterator[Any]:
    options = {"port": None, "limits": Limits(max_new_tokens=200), **options}
    page = demo.launch(pair or braked_pair()[0], wait=False, **options)
    try:
        yield page
    finally:
        page.close()


@contextmanager
def behind(page: str, prefix: str, strips: bool) -> Iterator[str]:
    """The address of a small reverse proxy that shows a page under a path, which it takes off or not."""
    there = urlsplit(page)

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(prefix) if strips else self.path
            asked = HTTPConnection(there.hostname or "", there.port, timeout=300)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.request(self.command, path, body, dict(self.headers.items()))
            answer = asked.getresponse()
            whole = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}{prefix}/"
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.parametrize("strips", [True, False], ids=["the proxy takes the path off", "the proxy leaves it"])
def test_under_a_path_every_address_on_the_page_keeps_it(strips: bool) -> None:
    with shown(root_path="/lab/beams") as page, behind(page.local_url, "/lab/beams", strips) as url:
        html = httpx.get(url).text
        addresses = re.findall(r"""(?:src|href)=["']([^"']+)["']""", html)
        addresses.remove("/manifest.json")  # Gradio's own, of apps that can be installed, which this is not
        own = [str(httpx.URL(url).join(each)) for each in addresses if not each.startswith(("data:", "#"))]
        assert any(each.endswith(".js") for each in own)
        assert all(each.startswith(url) for each in own if "//127.0.0.1" in each)
        script = next(each for each in own if each.endswith(".js"))
        assert httpx.get(script).status_code == 200
        assert json.loads(httpx.get(f"{url}config").text)["root"] == url.rstrip("/")
        data = {"data": ["w1 w2", "greedy", 1, 4, 1, None, ""]}
        event = httpx.post(f"{url}gradio_api/call/decode", json=data).json()["event_id"]
        assert "event: complete" in httpx.get(f"{url}gradio_api/call/decode/{event}", timeout=300).text


def test_the_path_can_come_from_gradios_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/lab")
    with shown() as page, behind(page.local_url, "/lab", False) as url:
        assert httpx.get(f"{url}config").json()["root"] == url.rstrip("/")


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_the_page_starts_whatever_proxies_there_are(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "socks5://127.0.0.1:9" if "all" in name.lower() else "http://127.0.0.1:9")
    with shown() as page, httpx.Client(trust_env=False) as client:
        assert client.get(page.local_url).status_code == 200


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
def test_the_page_listens_on_ipv6_at_an_address_that_can_be_opened(host: str) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with shown(host=host) as page:
        assert re.fullmatch(r"http://\[::1\]:\d+/", page.local_url)
        assert httpx.get(page.local_url).status_code == 200


def test_a_visitor_whose_connection_closes_frees_the_model_after_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair, brake = braked_pair()
    queues: list[JobQueue] = []
    monkeypatch.setattr(demo, "JobQueue", lambda *given: queues.append(JobQueue(*given)) or queues[0])
    with shown(pair) as page:
        dependencies = httpx.get(f"{page.local_url}config").json()["dependencies"]
        decode = next(each["id"] for each in dependencies if each["api_name"] == "decode")

        def join(name: str, tokens: int) -> None:
            data = ["w1", "greedy", 1, tokens, 1.0, None, ""]
            body = {"data": data, "fn_index": decode, "session_hash": name}
            assert httpx.post(f"{page.local_url}gradio_api/queue/join", json=body).status_code == 200

        brake.open.clear()
        brake.reached.clear()
        join("first", 200)
        with httpx.stream("GET", f"{page.local_url}gradio_api/queue/data?session_hash=first", timeout=300) as listening:
            next(listening.iter_lines())
            assert brake.reached.wait(120)
        before, line = brake.passes, queues[0]._line
        wait_until(lambda: line[0].stopped, "the decode of the visitor who left is told to stop")
        brake.open.set()
        wait_until(lambda: not line, "the model is free")
        assert brake.passes - before <= 1
