"""Where the web page listens and how it is reached: hosts, ports, and the proxies that are not to stand between.

Knows no Gradio.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import socket
from collections.abc import Iterator

PORT, PORTS = 7860, 100  # where the search for a free port begins, and how many are tried
_WITH_PROXY = ("http_proxy", "https_proxy", "all_proxy")
_OWN = ("localhost", "127.0.0.1", "::1")
_EVERY = ("0.0.0.0", "::", "")  # addresses that mean all of this machine's


def bare(host: str) -> str:
    """A host without the brackets that an IPv6 address has in a URL."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def bracketed(host: str) -> str:
    """A host as URLs have it."""
    return f"[{bare(host)}]" if ":" in bare(host) else host


def address_of(host: str, port: int) -> str:
    """The URL at which a page that listens on `host` is found from this machine."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(bare(host), bare(host))
    return f"http://{bracketed(local)}:{port}/"


def choose_port(host: str, port: int | None) -> int:
    """`port` if it can be listened on, or for None the first such from 7860 on.

    Raises ValueError, with the reason and a remedy, for a host or port that cannot be had.
    """
    if port is not None:
        if not 0 < port < 65536:
            raise ValueError(f"port={port} is not between 1 and 65535; choose another port.")
        _try(host, port)
        return port
    for candidate in range(PORT, PORT + PORTS):
        try:
            _try(host, candidate)
        except _Taken:
            continue
        return candidate
    raise ValueError(
        f"the ports {PORT} to {PORT + PORTS - 1} of {host} are all taken; choose another port with --port."
    )


class _Taken(ValueError):
    pass


def _try(host: str, port: int) -> None:
    where = f"{bracketed(host)}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bare(host) or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # as the server does, which leaves the IPv4 address to others
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _Taken(
                f"port {port} is taken on {bracketed(host)}; choose another port with --port, or leave it out for a "
                "free one."
            ) from error
        problem = error.strerror or str(error)
        raise ValueError(f"cannot listen on {where} ({problem}); choose another port or host.") from error


@contextlib.contextmanager
def without_proxies(host: str) -> Iterator[None]:
    """Within, what is asked of this machine goes through no proxy; what is asked of others still does.

    A SOCKS proxy is left out where httpx, which Gradio asks with, cannot use one: it would fail before it asks.
    """
    before = dict(os.environ)
    if importlib.util.find_spec("socksio") is None:
        for name in [name for name in before if name.lower() in _WITH_PROXY]:
            if before[name].lower().startswith("socks"):
                del os.environ[name]
    for name in ("no_proxy", "NO_PROXY"):
        known = [part.strip() for part in before.get(name, before.get(name.swapcase(), "")).split(",")]
        own = _OWN if bare(host) in _EVERY else (*_OWN, bare(host))
        os.environ[name] = ",".join(dict.fromkeys([*filter(None, known), *own]))
    try:
        yield
    finally:
        for name in {*os.environ, *before}:
            if name.lower() in (*_WITH_PROXY, "no_proxy"):
                if name in before:
                    os.environ[name] = before[name]
                else:
                    del os.environ[name]
