"""Where the web page listens, and how it is asked past proxies."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from specbeam.apps.demo import address
from specbeam.apps.demo.address import address_of, choose_port, without_proxies

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@contextmanager
def taken(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that somebody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as busy:
        try:
            busy.bind((host, port))
        except OSError as error:
            pytest.skip(f"{host} is not to be had here: {error}")
        busy.listen()
        yield busy.getsockname()[1]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower() in PROXIES]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7861/"),
        ("0.0.0.0", "http://127.0.0.1:7861/"),
        ("localhost", "http://localhost:7861/"),
        ("::1", "http://[::1]:7861/"),
        ("[::1]", "http://[::1]:7861/"),
        ("::", "http://[::1]:7861/"),
        ("fe80::1", "http://[fe80::1]:7861/"),
    ],
)
def test_an_address_can_be_opened_as_it_is_printed(host: str, url: str) -> None:
    assert address_of(host, 7861) == url
    assert httpx.URL(url).port == 7861


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
def test_a_port_that_is_taken_is_named_with_a_remedy(host: str) -> None:
    with (
        taken(address.bare(host)) as port,
        pytest.raises(ValueError, match=rf"port {port} is taken on .*--port") as error,
    ):
        choose_port(host, port)
    assert "\n" not in str(error.value) and str(error.value).count("[") == (":" in host)


def test_without_a_port_the_next_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with taken() as port:
        monkeypatch.setattr(address, "PORT", port)
        monkeypatch.setattr(address, "PORTS", 20)
        assert port < choose_port("127.0.0.1", None) < port + 20
        monkeypatch.setattr(address, "PORTS", 1)
        with pytest.raises(ValueError, match=f"ports {port} to {port} of 127.0.0.1 are all taken"):
            choose_port("127.0.0.1", None)


def test_the_ports_of_the_two_internets_are_apart() -> None:
    with taken("127.0.0.1") as port, taken("::1"):
        assert choose_port("::1", port) == port


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 0), ("127.0.0.1", 65536), ("no.such.host.invalid", 7861)])
def test_what_is_no_address_is_refused_in_one_line(host: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"choose another") as error:
        choose_port(host, port)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY", "http_proxy"])
def test_a_socks_proxy_does_not_keep_httpx_from_starting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    if importlib.util.find_spec("socksio") is None:
        with pytest.raises(ImportError):
            httpx.Client()
    with without_proxies("127.0.0.1"):
        httpx.Client().close()
    assert os.environ[name] == "socks5://127.0.0.1:1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "10.1.2.3"])
def test_only_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "intra.example")

    def through_a_proxy(client: httpx.Client, url: str) -> bool:
        return client._transport_for_url(httpx.URL(url)) is not client._transport

    with without_proxies(host), httpx.Client() as client:
        assert not through_a_proxy(client, address_of(host, 7860))
        assert not through_a_proxy(client, "http://localhost:7860/")
        assert not through_a_proxy(client, "http://intra.example/")
        assert through_a_proxy(client, "http://elsewhere.example/")


def test_the_users_variables_are_as_they_were_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"HTTPS_PROXY": "http://a.example:1", "all_proxy": "socks5h://b.example:2", "NO_PROXY": "c.example"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyError), without_proxies("::1"):
        raise KeyError
    assert {name: value for name, value in os.environ.items() if name.lower() in PROXIES} == given
