"""Where a record says that it is from: which commit, of which repository, for real ones in temporary folders."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_factory import write_notebook

import specbeam
from specbeam.experiments import repository

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
NONE = {"commit": None, "dirty": None}
SOURCES = Path(specbeam.__file__).parent
# Imports a copy of the three modules that look, without the weight of the whole package.
LOOK = """
import json, pathlib, sys, types
for name in ("specbeam", "specbeam.experiments"):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [str(pathlib.Path(sys.argv[1], *name.split(".")))]
from specbeam.experiments.provenance import origin
print(json.dumps(origin(pathlib.Path(sys.argv[2]))))
"""


@pytest.fixture(autouse=True)
def plain_git(monkeypatch, tmp_path):
    """Git as it comes, for somebody with a name."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "gitconfig").write_text('[user]\n\tname = A\n\temail = a@b.c\n[protocol "file"]\n\tallow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(folder, *arguments):
    done = subprocess.run(["git", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder):
    """Commit everything in a folder, which becomes a repository; returns the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all", "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def put_package(folder):
    """The modules that look, as a package of their own in `folder`."""
    package = folder / "specbeam" / "experiments"
    package.mkdir(parents=True)
    for name in ("provenance.py", "repository.py", "cpu.py"):
        shutil.copy(SOURCES / "experiments" / name, package)
    (folder / "specbeam" / "__init__.py").touch()
    return folder


def seen(folder, notebook, cwd=None, **variables):
    """What `origin` says in a process that has its package in `folder`."""
    command = [sys.executable, "-c", LOOK, str(folder), str(notebook)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run(command, cwd=cwd or folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def checkout(tmp_path):
    """A checkout of specbeam with a notebook, and its commit."""
    folder = put_package(tmp_path / "checkout")
    (folder / "pyproject.toml").write_text('[project]\nname = "specbeam"\n')
    (folder / ".gitignore").write_text("__pycache__/\nbuild/\n")
    notebook = write_notebook(folder / "notebooks")
    return folder, notebook, commit(folder)


def test_a_checkouts_own_commit_holds_package_and_notebook_wherever_the_command_is_typed(checkout, tmp_path):
    folder, notebook, sha = checkout
    expected = {"commit": sha, "dirty": False}
    commit(tmp_path / "elsewhere")
    assert seen(folder, notebook) == expected
    assert seen(folder, notebook, cwd=notebook.parent) == expected
    assert seen(folder, notebook, cwd=tmp_path / "elsewhere") == expected


@pytest.mark.parametrize(
    ("path", "dirty"),
    [
        ("specbeam/__init__.py", True),
        ("notebooks/01_toy.ipynb", True),
        ("pyproject.toml", True),
        ("specbeam/new.py", True),
        ("specbeam/sub/new.json", True),
        ("notebooks/helper.py", True),
        ("notebooks/runs/01_toy.json", False),
        ("runs/.01_toy.0123abcd.running.ipynb", False),
        ("prompts.txt", False),
        ("build/runs/01_toy.json", False),
    ],
)
def test_a_checkout_is_dirty_by_what_a_run_reads_and_not_by_what_it_leaves(checkout, path, dirty):
    folder, notebook, sha = checkout
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with open(folder / path, "a") as file:
        file.write("\n")
    found = seen(folder, notebook)
    assert (found["commit"], found["dirty"]) == (sha, dirty)


def test_a_notebook_of_the_checkout_that_is_in_no_commit_makes_it_dirty(checkout):
    folder, _, sha = checkout
    for place in (folder / "notebooks", folder / "build"):
        found = seen(folder, write_notebook(place, "02_mine"))
        assert found == {"commit": sha, "dirty": True}


def test_a_hook_of_another_repository_changes_nothing(checkout, tmp_path):
    folder, notebook, sha = checkout
    other = tmp_path / "other"
    (other / "sub").mkdir(parents=True)
    commit(other)
    hook = {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / ".git" / "index"),
    }
    hook |= {"GIT_PREFIX": "sub/", "GIT_CEILING_DIRECTORIES": str(folder), "GIT_COMMON_DIR": str(other / ".git")}
    hook |= {
        "GIT_OBJECT_DIRECTORY": str(other / ".git" / "objects"),
        "GIT_NAMESPACE": "a",
        "GIT_LITERAL_PATHSPECS": "1",
    }
    expected = {"commit": sha, "dirty": False}
    assert seen(folder, notebook, **hook) == expected
    assert seen(folder, notebook, cwd=other, **hook) == expected
    assert seen(folder, notebook, GIT_DIR=".git", GIT_INDEX_FILE=".git/index.lock") == expected


def test_a_submodule_has_its_own_commit_and_not_that_of_the_project_around_it(checkout, tmp_path):
    folder, _, sha = checkout
    project = tmp_path / "project"
    commit(project)
    git(project, "submodule", "add", "-q", folder, "third_party/specbeam")
    notebook = write_notebook(project / "analysis")
    commit(project)
    submodule = project / "third_party" / "specbeam"
    assert seen(submodule, notebook) == {"commit": sha, "dirty": False}
    (project / "analysis" / "helper.py").touch()
    (project / "README.md").touch()
    assert seen(submodule, notebook) == {"commit": sha, "dirty": False}
    (submodule / "specbeam" / "new.py").touch()
    assert seen(submodule, notebook) == {"commit": sha, "dirty": True}


@pytest.mark.parametrize(
    ("place", "ignored", "project_file"),
    [
        (".venv/lib/python3.11/site-packages", True, "theirs"),
        (".venv/lib/python3.11/site-packages", False, "theirs"),
        ("vendor", False, "theirs"),
        ("vendor", False, "specbeam"),
        ("", False, "theirs"),
        ("", False, None),
    ],
    ids=[
        *("an environment in a checkout", "one that is committed", "a vendored copy", "an environment in our checkout"),
        *("a copy at the top", "a copy at the top of what is no project"),
    ],
)
def test_inside_another_repository_there_is_no_commit_of_specbeam(tmp_path, place, ignored, project_file):
    project = tmp_path / "project"
    folder = put_package(project / place)
    if project_file:
        (project / "pyproject.toml").write_text(f'[project]\nversion = "1"\nname = "{project_file}"\n')
    (project / ".gitignore").write_text(".venv/\n" if ignored else "")
    notebook = write_notebook(project / "analysis")
    commit(project)
    assert seen(folder, notebook) == NONE


def test_a_home_under_git_has_nothing_to_say_of_what_it_does_not_hold(tmp_path):
    home = tmp_path / "home"
    (home / "pyproject.toml").parent.mkdir()
    (home / "pyproject.toml").write_text('[project]\nname = "specbeam"\n')
    commit(home)
    assert seen(put_package(home / ".local" / "lib"), write_notebook(home / "work")) == NONE
    assert seen(put_package(home), write_notebook(home / "work")) == NONE


def test_outside_of_any_repository_there_is_no_commit(tmp_path):
    assert seen(put_package(tmp_path / "lib"), write_notebook(tmp_path / "work")) == NONE


def test_worktrees_and_shallow_clones_have_their_own_commit(checkout, tmp_path):
    folder, _, first = checkout
    (folder / "more").touch()
    second = commit(folder)
    git(folder, "worktree", "add", "-q", tmp_path / "tree", first)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{folder}", "shallow")
    for copy, sha in ((tmp_path / "tree", first), (tmp_path / "shallow", second)):
        found = seen(copy, copy / "notebooks" / "01_toy.ipynb")
        assert found == {"commit": sha, "dirty": False}
    shutil.rmtree(folder)
    assert seen(tmp_path / "tree", tmp_path / "tree" / "notebooks" / "01_toy.ipynb") == NONE


def test_without_a_commit_or_with_a_git_folder_that_is_none_there_is_no_commit(tmp_path):
    folder = put_package(tmp_path / "new")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    notebook = write_notebook(folder / "notebooks")
    assert seen(folder, notebook) == NONE
    shutil.rmtree(folder / ".git")
    commit(tmp_path / "new" / "..")  # the one around it, which holds it elsewhere
    (folder / ".git").mkdir()
    assert seen(folder, notebook) == NONE


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_somebody_else_is_not_looked_into_unless_git_trusts_it(checkout):
    folder, notebook, sha = checkout
    for each in (folder, *folder.rglob("*")):
        os.chown(each, 12345, 12345)
    assert seen(folder, notebook) == NONE
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": str(folder)}
    assert seen(folder, notebook, **trust)["commit"] == sha


def test_without_a_git_that_works_there_is_no_commit(checkout, tmp_path):
    folder, notebook, _ = checkout
    assert seen(folder, notebook, PATH=str(tmp_path)) == NONE
    broken = tmp_path / "bin" / "git"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'fatal: it rains' >&2\nexit 3\n")
    broken.chmod(0o755)
    assert seen(folder, notebook, PATH=f"{broken.parent}:/bin:/usr/bin") == NONE


def test_a_git_that_does_not_answer_is_not_waited_for(monkeypatch, checkout):
    def slow(*_, **options):
        raise subprocess.TimeoutExpired("git", options["timeout"])

    monkeypatch.setattr(repository.subprocess, "run", slow)
    assert repository.held(checkout[1]) == repository.Held()


def test_a_notebook_that_is_not_there_changes_nothing(checkout):
    folder, _, sha = checkout
    assert seen(folder, folder / "notebooks" / "none.ipynb") == {"commit": sha, "dirty": False}
    assert seen(folder, folder / "gone" / "none.ipynb") == {"commit": sha, "dirty": False}
