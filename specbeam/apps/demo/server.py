"""The web page on which visitors watch a pair decode: `launch(pair)`, or `specbeam demo`.

One model, one line of visitors. The page loads nothing from other hosts, the server reads no files for anybody, and
nothing is shared unless asked. From Python::

    from gradio_client import Client

    text, stats = Client("http://127.0.0.1:7860").predict(
        "The future of AI is", "speculative_beam", num_beams=4, max_new_tokens=64, api_name="/decode"
    )

`stats` holds the counts and seconds of `stats.Stats`, the tokens and score of the text, and the query that opens the
page with the same run.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from typing import Any

from specbeam.decoding.decoders import METHODS
from specbeam.experiments.provenance import environment
from specbeam.models.load import Pair
from specbeam.models.prompts import render_prompt

from .actions import Actions
from .address import PORT, address_of, bare, bracketed, choose_port, without_proxies
from .jobs import JobQueue
from .markup import STYLE
from .settings import Limits

HOST = "127.0.0.1"


def require_gradio() -> Any:
    """Gradio, with its reports home switched off. Raises ValueError that says how to install it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        with without_proxies(HOST):  # it makes clients as it is imported
            gradio = importlib.import_module("gradio")
    except ImportError as error:
        raise ValueError(f"the web page needs Gradio ({error}); run: pip install 'specbeam[demo]'") from None
    if int(gradio.__version__.split(".")[0]) < 6:
        raise ValueError(f"the web page needs Gradio 6, and this is {gradio.__version__}; run: pip install -U gradio")
    return gradio


def launch(
    pair: Pair,
    *,
    host: str = HOST,
    port: int | None = PORT,
    root_path: str | None = None,
    share: bool = False,
    limits: Limits | None = None,
    wait: bool = True,
    warm: bool = True,
) -> Any:
    """Serve the page. Returns Gradio's Blocks (`local_url`, `close()`), at once with `wait=False`, else at Ctrl-C.

    Args:
        pair: target, draft and tokenizer (`load_pair`).
        host, port: where to listen; a port of None takes the first free one from 7860 on.
        root_path: the path, or the whole URL, under which a proxy shows the page; default: GRADIO_ROOT_PATH.
        share: whether Gradio's own servers give the page a public address.
        limits: what a visitor may ask for.
        warm: decode two tokens by each method first, so that the first visitor does not wait for it.

    Raises ValueError without Gradio, and where host or port cannot be had.
    """
    gradio = require_gradio()
    port = choose_port(host, port)
    root_path = os.environ.get("GRADIO_ROOT_PATH", "") if root_path is None else root_path
    if warm:
        inputs = render_prompt(pair.tokenizer, "The future of AI is").to(pair.target.device)
        for decode in METHODS.values():
            decode(pair, inputs, max_new_tokens=2)

    from starlette.middleware import Middleware

    from .gate import Gate
    from .page import Page

    logging.getLogger("httpx").setLevel(logging.WARNING)
    here = environment("demo")
    about = {name: here[name] for name in ("versions", "machine", "threads")}
    actions = Actions(JobQueue(pair, limits), about)
    blocks = Page(actions).blocks
    blocks.queue(max_size=None)
    gate = Middleware(Gate, root_path=root_path, left=actions.leave)
    sans = ["system-ui", "-apple-system", "Segoe UI", "DejaVu Sans", "sans-serif"]
    mono = ["ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
    theme = gradio.themes.Default(primary_hue="blue", neutral_hue="slate", font=sans, font_mono=mono)
    try:
        with warnings.catch_warnings(), without_proxies(host):
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            blocks.launch(
                server_name=bracketed(host),
                server_port=port,
                root_path=root_path,
                share=share,
                quiet=True,
                prevent_thread_lock=True,
                show_error=False,
                theme=theme,
                css=STYLE,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                num_workers=0,
                max_file_size=1,
                allowed_paths=[],
                state_session_capacity=1000,
                app_kwargs={"middleware": [gate], "docs_url": None, "redoc_url": None},
            )
    except OSError as error:
        raise ValueError(f"cannot listen on {bracketed(host)}:{port} ({error}); choose another with --port.") from error
    if bare(host) == "::":
        blocks.local_url = address_of(host, port)
    if wait:
        blocks.block_thread()
    return blocks
