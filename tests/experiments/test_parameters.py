import pytest
from notebook_factory import write_notebook

from specbeam.experiments.parameters import (
    find_notebooks,
    load_params,
    parse_overrides,
    read_parameters,
    resolve_parameters,
)


def params(folder, text, name="smoke"):
    path = folder / "params" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_parameters_are_read_with_their_help(tmp_path):
    path = write_notebook(tmp_path, parameters="text = 'a # b = c'  # a text\nlist_ = [\n    1,\n]  # numbers")
    found = read_parameters(path)
    assert [(item.name, item.default, item.help) for item in found.values()] == [
        ("text", "a # b = c", "a text"),
        ("list_", [1], "numbers"),
    ]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "exactly one cell tagged 'parameters'"),
        ("x = len('a')", "must be a literal"),
        ("x += 1", "only lines like name = literal"),
        ("x = (", "is not Python"),
    ],
)
def test_a_malformed_parameters_cell_is_refused(tmp_path, cell, reason):
    with pytest.raises(ValueError, match=reason):
        read_parameters(write_notebook(tmp_path, parameters=cell))


def test_defaults_then_all_then_section_then_overrides(tmp_path):
    path = write_notebook(tmp_path)
    write_notebook(tmp_path, "02_other", parameters="depth = 1  # levels")
    params(tmp_path, "all: {num_beams: 2, depth: 3, length_penalty: 0}\n01_toy: {num_beams: 3, prompts: [b, c]}")
    assert resolve_parameters(path, "smoke", {"seed": 7}) == {
        "num_beams": 3,
        "length_penalty": 0.0,
        "prompts": ["b", "c"],
        "seed": 7,
    }


def test_later_files_lie_over_earlier_ones_and_overrides_over_all(tmp_path):
    path = write_notebook(tmp_path)
    params(tmp_path, "all: {seed: 1}\n01_toy: {num_beams: 2, length_penalty: 2, prompts: [base]}", "base")
    params(tmp_path, "all: {num_beams: 3}\n01_toy: {length_penalty: 3}", "overlay")
    expected = {"num_beams": 3, "length_penalty": 3.0, "prompts": ["base"], "seed": 7}
    assert resolve_parameters(path, ["base", "overlay"], {"seed": 7}) == expected
    assert resolve_parameters(path, ["overlay", "base"])["num_beams"] == 2
    assert resolve_parameters(path, ["base"]) == resolve_parameters(path, "base")
    assert resolve_parameters(path, [])["seed"] is None
    with pytest.raises(ValueError, match=r"no parameters file.*there are: base, overlay"):
        resolve_parameters(path, ["base", "none"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("all: {nun_beams: 2}", "unknown parameter 'nun_beams'.*num_beams"),
        ("01_toy: {depth: 2}", "unknown parameter 'depth'"),
        ("03_gone: {num_beams: 2}", "section '03_gone'.*01_toy"),
        ("01_toy: {num_beams: two}", "num_beams = 'two' is of type str.*expects int"),
        ("01_toy: {num_beams: 2.5}", "of type float"),
        ("01_toy: {num_beams: true}", "of type bool"),
        ("01_toy: {num_beams: null}", "of type null"),
        ("01_toy: {prompts: [a, 7]}", "holds 7 of type int"),
        ("01_toy: [1]", "must hold 'all:'"),
        ("01_toy: {", "not YAML"),
    ],
)
def test_a_wrong_parameters_file_is_refused(tmp_path, text, reason):
    path = write_notebook(tmp_path)
    params(tmp_path, text)
    with pytest.raises(ValueError, match=reason):
        resolve_parameters(path, "smoke")


def test_a_missing_parameters_file_names_those_that_exist(tmp_path):
    params(tmp_path, "")
    with pytest.raises(ValueError, match="there are: smoke"):
        load_params("cpu", tmp_path)


def test_a_parameters_file_is_read_in_the_encodings_of_editors_or_refused_by_line(tmp_path):
    notebook, file = write_notebook(tmp_path, parameters='text = "a"'), tmp_path / "mine.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_text(f"{notebook.stem}:\n  text: größer\n", encoding=encoding)
        assert resolve_parameters(notebook, file)["text"] == "größer"
    file.write_bytes(f"{notebook.stem}:\n  text: größer\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"mine\.yaml is no UTF-8 text: line 2 holds the byte b'\\xf6'; save it as UTF-8"
    ):
        resolve_parameters(notebook, file)


def test_overrides_are_yaml():
    assert parse_overrides(["a=007", "b=[x, 'y']", "c=a=b", "d="]) == {
        "a": 7,
        "b": ["x", "y"],
        "c": "a=b",
        "d": None,
    }
    with pytest.raises(ValueError, match="'a=2' is the second one of a; give it once"):
        parse_overrides(["a=1", "b=3", "a=2"])
    for wrong in ("a", "=1", "a b=1"):
        with pytest.raises(ValueError, match="form name=value"):
            parse_overrides([wrong])
    with pytest.raises(ValueError, match="not YAML"):
        parse_overrides(["a=["])


def test_a_float_written_with_an_exponent_is_a_float(tmp_path):
    path = write_notebook(tmp_path)
    assert resolve_parameters(path, overrides=parse_overrides(["length_penalty=1e-3"]))["length_penalty"] == 1e-3


def test_notebooks_are_found_by_name_path_and_all(tmp_path):
    first, second = write_notebook(tmp_path), write_notebook(tmp_path, "02_other")
    scratch = write_notebook(tmp_path, "scratch")
    assert find_notebooks(["all"], tmp_path) == [first, second]
    assert find_notebooks(["02_other", str(scratch), "02_other"], tmp_path) == [second, scratch]
    with pytest.raises(ValueError, match=r"no notebook '03'.*01_toy, 02_other"):
        find_notebooks(["03"], tmp_path)
