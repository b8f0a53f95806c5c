"""What the pages for readers say is there: files, headings, commands, options, names; their examples run."""

import ast
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import nbformat
import pytest
import typer.main

import specbeam as sb
from specbeam.apps.cli.main import app
from specbeam.pictures.palette import STATES

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / folder / "README.md" for folder in ("notebooks", "specbeam")),
        ROOT / "notebooks" / "TRIED.md",
    )
}
README, TEXT = PAGES[ROOT / "README.md"], "\n".join(PAGES.values())
PICTURE = ROOT / "notebooks" / "pictures" / "beam_tree.svg"
COMMANDS = typer.main.get_command(app)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def block_with(words: str) -> str:
    found = [code for code in blocks("python") if words in code]
    assert len(found) == 1
    return found[0]


def lines(program: str) -> list[list[str]]:
    """The arguments of every line that calls a program."""
    found = [line for code in blocks("bash") for line in code.splitlines() if line.startswith(program + " ")]
    assert found
    return [shlex.split(line, comments=True)[1:] for line in found]


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(page: Path) -> set[str]:
    return {slug(each) for each in re.findall(r"^#+ (.+)$", PAGES[page], re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page):
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]) if "://" not in t]
    for target in targets:
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not heading or heading in headings(path), target


def test_the_front_page_is_short():
    assert README.count("\n") <= 200


def test_files_that_the_pages_for_readers_name_are_there():
    house = (ROOT / "specbeam" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:specbeam|tests)/[\w/.]+)`", TEXT))
    named |= {
        f"specbeam/{path}"
        for path in re.findall(r"`(\w+/[\w/.]*|\w+\.py)`", house)
        if not path.startswith(("tests", "specbeam"))
    }
    assert {"specbeam/core/draft.py", "specbeam/core/", "specbeam/compat.py"} <= named
    assert not [path for path in named if "NN_" not in path and not (ROOT / path).exists()]


def test_the_table_of_notebooks_has_each_with_its_own_question():
    as_it_ran = r"\[read\]\(notebooks/records/\1\.ipynb\)"
    rows = re.findall(rf"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\) \| {as_it_ran} \| (.+\?) \|$", README, re.M)
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    titles = [nbformat.read(path, as_version=4).cells[0].source.splitlines()[0] for path in paths]
    assert rows == [(path.stem, path.stem, title.removeprefix("# ")) for path, title in zip(paths, titles, strict=True)]


def test_commands_have_the_options_that_are_shown():
    assert isinstance(COMMANDS, click.Group) or hasattr(COMMANDS, "commands")
    for name, *arguments in lines("specbeam"):
        command = COMMANDS.commands[name]  # pyright: ignore[reportAttributeAccessIssue]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {each for each in arguments if re.fullmatch(r"--?[a-z][a-z-]*", each)}
        assert used <= known, (name, used - known)


def test_make_has_the_targets_that_are_named():
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {arguments[0] for arguments in lines("make")} | set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert named <= known


@pytest.mark.parametrize("code", [code for code in blocks("python") if "dask_jobqueue" not in code])
def test_code_compiles_and_takes_names_that_are_there(code):
    tree = ast.parse(code)
    for one in ast.walk(tree):
        if isinstance(one, ast.ImportFrom) and one.module:
            exec(compile(ast.Module([one], []), "README.md", "exec"), {})
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "sb":
            assert hasattr(sb, one.attr)


def test_the_picture_shows_every_verdict_by_itself_and_is_small():
    markup = PICTURE.read_text(encoding="utf-8")
    root = ET.fromstring(markup)
    words = " ".join(root.itertext())
    assert all(state.sign in words and state.label in words for name, state in STATES.items() if name != "open")
    assert "prefers-color-scheme:dark" in markup and not re.search(r"<script|href|url\(", markup)
    assert len(markup) < 300_000 and float(root.get("width", 0)) <= 838  # GitHub shows it in its own size


@pytest.mark.slow
@pytest.mark.model
def test_the_picture_and_the_draft_are_made_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"sb": sb, "pair": sb.load_pair()}
    exec(block_with('.save("beam_tree.svg")'), names)
    assert ET.parse(tmp_path / "beam_tree.svg").getroot().tag.endswith("svg")
    plain = sb.beam(names["pair"], names["inputs"], num_beams=4, max_new_tokens=8)
    assert names["trace"].results[0] == plain.sequences[0]
    shown = re.findall(r">([^<>]+)</text>", PICTURE.read_text(encoding="utf-8"))
    assert shown[0].startswith("8 steps in ") and {"prompt", "beam", "search"} <= set(shown)
    exec(block_with("class SameAgain"), names)
    ours = sb.speculative_beam(names["pair"], names["inputs"], num_beams=4, max_new_tokens=8)
    assert ours.sequences == plain.sequences
