"""Relative paths among parameters: seen from where the command is typed, and the same for everybody afterwards."""

import os
from pathlib import Path

import pytest
from notebook_factory import write_notebook

from specbeam.experiments.parameter_paths import settled_value
from specbeam.experiments.parameters import resolve_parameters
from specbeam.experiments.sweep import plan_sweep

PARAMETERS = (
    'target = None  # hub id or folder\nprompts = ["a"]  # texts\nsets = ["chat"]  # prompt sets, or "hub:owner/name"'
)


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """The folder that a command is typed in, with a model, some files, and a home beside it."""
    folder = tmp_path / "typed"
    for name in ("my-model", "org/name", "recall", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "prompts.txt").touch()
    (tmp_path / "home" / "model").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("value", "help", "expected"),
    [
        ("./my-model", "hub id or folder", "my-model"),
        ("my-model", "hub id or folder", "my-model"),
        ("my-model/", "hub id or folder", "my-model"),
        ("../typed/my-model", "hub id or folder", "my-model"),
        ("org/name", "hub id or folder", "org/name"),
        ("~/model", "hub id or folder", "../home/model"),
        ("./recall", "hub id or folder", "recall"),
        ("./missing", "hub id or folder", "missing"),
        ("prompts.txt", "a file of prompts", "prompts.txt"),
        ("./prompts.txt", "prompts", "prompts.txt"),
    ],
)
def test_a_path_is_made_absolute(typed, value, help, expected):
    assert settled_value(value, help) == os.path.normpath(typed / expected)


@pytest.mark.parametrize(
    ("value", "help"),
    [
        ("gpt2", "hub id or folder"),
        ("owner/model", "hub id or folder"),
        ("recall", "hub id or folder"),
        ("auto", "hub id or folder"),
        ("", "path of a record"),
        ("prompts.txt", "texts"),
        ("./missing", "texts"),
        ("~ is a tilde", "texts"),
        ("line\n./my-model", "folder"),
        ("a\0b", "folder"),
        ("x" * 10_000, "folder"),
        (None, "folder"),
        (3, "folder"),
        (True, "folder"),
        ("hub:owner/name", 'or "hub:owner/name"'),
    ],
)
def test_what_is_no_path_stays_as_it_is(typed, value, help):
    assert settled_value(value, help) is value or settled_value(value, help) == value


def test_an_absolute_path_and_what_is_settled_already_stay(typed):
    once = settled_value("./my-model", "folder")
    assert settled_value(once, "folder") == once == str(typed / "my-model")


def test_lists_and_folders_of_data_sets_are_settled_each(typed):
    assert settled_value(["my-model", "gpt2"], "folders") == [str(typed / "my-model"), "gpt2"]
    assert settled_value(["chat", "hub:./data"], "prompt sets") == ["chat", f"hub:{typed / 'data'}"]


def test_parameters_from_a_command_and_from_a_file_are_seen_from_the_working_directory(typed, tmp_path):
    notebook = write_notebook(tmp_path / "notebooks", parameters=PARAMETERS)
    (typed / "mine.yaml").write_text("all:\n  target: ./my-model\n")
    assert resolve_parameters(notebook, None, {"target": "./my-model"})["target"] == str(typed / "my-model")
    assert resolve_parameters(notebook, "mine.yaml")["target"] == str(typed / "my-model")
    assert resolve_parameters(notebook)["target"] is None
    (point,) = plan_sweep(notebook, ["target=./my-model"])
    assert point.parameters["target"] == str(typed / "my-model") and point.values == {"target": "./my-model"}


def test_a_default_stays_as_the_notebooks_folder_sees_it(typed, tmp_path):
    notebook = write_notebook(tmp_path / "notebooks", parameters='target = "my-model"  # folder')
    assert resolve_parameters(notebook)["target"] == "my-model"


def test_a_home_that_nobody_knows_is_an_error_only_where_a_folder_is_meant(typed):
    with pytest.raises(ValueError, match="home folder that is not known here; write the whole path"):
        settled_value("~nobody-of-that-name/model", "folder")
    assert settled_value("~nobody-of-that-name/model", "texts") == "~nobody-of-that-name/model"
    assert Path.cwd() == typed


def test_a_worker_leaves_what_was_settled_where_the_command_was_typed(typed, tmp_path):
    notebook = write_notebook(tmp_path / "notebooks", parameters=PARAMETERS)
    assert resolve_parameters(notebook, None, {"target": "my-model"})["target"] == str(typed / "my-model")
    assert resolve_parameters(notebook, None, {"target": "my-model"}, settle=False)["target"] == "my-model"
