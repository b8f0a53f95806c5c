"""`specbeam demo`: the web page."""

import sys
from typing import Annotated

import typer

from . import options

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 or :: lets other machines in.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; default: the first free one from 7860 on.")]
RootPath = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Path or URL under which a proxy shows the page; default: GRADIO_ROOT_PATH."),
]
Share = Annotated[bool, typer.Option("--share", help="Give the page a public address by way of Gradio's servers.")]
MostPrompt = Annotated[int, typer.Option(metavar="TOKENS", help="Longest prompt that is accepted.")]
MostNew = Annotated[int, typer.Option(metavar="TOKENS", help="Most new tokens that a visitor may ask for.")]


def demo(
    target: options.Target = None,
    draft: options.Draft = "auto",
    dtype: options.DType = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    draft_revision: options.DraftRevision = None,
    engine: options.Engine = "auto",
    packed: options.Packed = True,
    host: Host = "127.0.0.1",
    port: Port = None,
    root_path: RootPath = None,
    share: Share = False,
    max_prompt_tokens: MostPrompt = 1024,
    max_new_tokens: MostNew = 256,
) -> None:
    """Serve a web page: watch the text come and the tree grow, and let the four methods race. Ctrl-C ends it.

    Other programs can ask as well: gradio_client.Client("http://127.0.0.1:7860").predict("The future of AI is",
    "speculative_beam", api_name="/decode") returns the text and its statistics.
    """
    from specbeam.apps.demo.address import choose_port
    from specbeam.apps.demo.server import launch, require_gradio

    require_gradio()
    choose_port(host, port)  # before a model loads
    import specbeam as sb
    from specbeam.apps.demo.settings import Limits

    limits = Limits(
        prompt_tokens=max_prompt_tokens,
        prompt_characters=max(Limits.prompt_characters, 4 * max_prompt_tokens),
        max_new_tokens=max_new_tokens,
    )
    print("Loading the model …", file=sys.stderr, flush=True)
    pair = sb.load_pair(
        target, draft=draft, dtype=dtype, device=device, device_map=device_map, revision=revision,
        draft_revision=draft_revision, engine=engine, packed="auto" if packed else False,
    )  # fmt: skip
    page = launch(pair, host=host, port=port, root_path=root_path, share=share, limits=limits, wait=False)
    print(f"specbeam shows {pair.name} at {page.local_url}", flush=True)
    if page.share_url:
        print(f"and, for everybody, at {page.share_url}", flush=True)
    page.block_thread()
