"""The playground as its user meets it: JupyterLab on a copy of the notebook, in Chromium, with a tiny local model."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from tiny_models import chat_tokenizer, tiny_llama

from specbeam.experiments.records import RECORD_VARIABLE
from specbeam.files import write_atomic

pytest_plugins = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.notebooks, pytest.mark.slow]

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "09_playground.ipynb"
HOSTILE = "It rains <img src=x onerror=document.title='taken'> and a river"
START_S = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebook whose parameters name a tiny model beside it."""
    folder = tmp_path_factory.mktemp("lab")
    tiny_llama().save_pretrained(folder / "tiny")
    chat_tokenizer().save_pretrained(folder / "tiny")
    notebook = load_notebook_node(str(NOTEBOOK))
    parameters = {"target": str(folder / "tiny"), "max_new_tokens": 10, "prompts": [HOSTILE, "It rains and a river is"]}
    nbformat.write(parameterize_notebook(notebook, parameters), folder / NOTEBOOK.name)
    return folder


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab on that folder, with settings of its own."""
    token, own = secrets.token_hex(16), folder / ".jupyter"
    places = {f"JUPYTER_{name}_DIR": str(own / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {"JUPYTERLAB_SETTINGS_DIR": str(own / "settings"), RECORD_VARIABLE: str(folder / "record.json")}
    news = own / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    write_atomic(news, json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    environment = {**os.environ, **places, "JUPYTER_NO_CONFIG": "1"}
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield f"{_address(folder, server)}lab/tree/{NOTEBOOK.name}?token={token}"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(folder: Path, server: subprocess.Popen[Any]) -> str:
    """Where the server listens, once it answers."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        for found in (folder / ".jupyter" / "RUNTIME").glob("jpserver-*.json"):
            try:
                address = json.loads(found.read_text())["url"]
                urllib.request.urlopen(f"{address}api", timeout=5).close()
                return address
            except (OSError, ValueError):  # it is being written, or the server is not ready
                pass
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{(folder / 'lab.log').read_text()[-2000:]}")


def test_the_notebook_runs_in_jupyterlab_and_its_slider_moves_the_picture(
    folder: Path, lab: str, visitors: Any
) -> None:
    # JupyterLab asks for language servers whether there are any or not, and restarting may overtake its debugger
    visitors.expected = ("/lsp/status", "Could not restore the debugger state")
    page = visitors.open(lab, width=1400, height=1500)
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for(timeout=60_000)  # the kernel can be restarted
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator('[data-command="runmenu:restart-and-run-all"]').click()
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    _executed(page, folder)
    panel = page.locator(".jp-OutputArea-output .specbeam-play")
    page.locator(".jp-WindowedPanel-outer").hover()
    for _ in range(40):  # cells out of sight are not in the page
        if panel.count() and panel.is_visible():
            break
        page.mouse.wheel(0, -300)
        page.wait_for_timeout(150)
    panel.scroll_into_view_if_needed()
    assert panel.count() == 1, "the still twin stands beside the live panel"
    tree = panel.locator("svg[role=img]:has([data-nodes])")
    first, boxes = tree.get_attribute("aria-label"), tree.locator("[data-nodes]").count()
    handle = panel.locator(".noUi-handle")
    handle.focus()
    for _ in range(8):
        handle.press("ArrowRight")
    panel.locator(f"svg[role=img]:has([data-nodes]):not([aria-label={json.dumps(first)}])").wait_for()
    assert tree.locator("[data-nodes]").count() > boxes

    run = panel.locator("button", has_text="Run")
    panel.get_by_label("Prompt", exact=True).fill("")
    run.click()
    panel.get_by_role("alert").wait_for()
    assert "is empty" in panel.get_by_role("alert").inner_text()
    panel.get_by_label("Prompt", exact=True).fill("It rains <b>and</b> a river is long")
    run.click()
    panel.get_by_text("Done: 4 decodes").wait_for()
    assert panel.get_by_role("alert").count() == 0
    assert page.title() != "taken", "the markup of a prompt ran"
    _saved(page, folder)


def _executed(page: Any, folder: Path) -> None:
    """Wait for the record, which the last cell writes."""
    until = time.monotonic() + 300
    while time.monotonic() < until and not (folder / "record.json").exists():
        page.wait_for_timeout(200)
    assert (folder / "record.json").exists(), page.locator(".jp-OutputArea-output").all_inner_texts()


def _saved(page: Any, folder: Path) -> None:
    """Save the notebook, and see that all of its cells ran and left neither an error nor anything on stderr."""
    page.keyboard.press("Control+s")
    page.locator(".jp-mod-dirty").wait_for(state="detached")
    code = [cell for cell in load_notebook_node(str(folder / NOTEBOOK.name)).cells if cell.cell_type == "code"]
    assert not [cell.source for cell in code if cell.execution_count is None]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    widget = "application/vnd.jupyter.widget-view+json"
    assert [widget in output.get("data", {}) for output in outputs].count(True) == 1
