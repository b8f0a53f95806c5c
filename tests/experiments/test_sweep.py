import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notebook_factory import write_notebook

from specbeam.experiments.provenance import SOURCES, notebook_sha256, sources_sha256
from specbeam.experiments.records import RunRecord
from specbeam.experiments.sweep import DONE, FAILED, RUNNING, SKIPPED, WAITING, plan_sweep, run_here, run_sweep
from specbeam.files import exclusive

TYPES = """
num_beams = 4  # an int
penalty = 1.0  # a float
budgets = [1, 2]  # a list
name = 'x'  # a text
seed = None  # anything
quick = False  # yes or no
"""


def toy(folder, **options):
    return write_notebook(folder, parameters=TYPES.strip(), **options)


def names(points):
    return [point.name for point in points]


def save_done(point, path, out_dir, **fields):
    """What an accepted run of the point leaves."""
    options = {"notebook_sha256": notebook_sha256(path), "versions": {SOURCES: sources_sha256()}, "seconds": 2.0}
    RunRecord(path.stem, parameters=dict(point.parameters), **{**options, **fields}).save(
        out_dir / f"{point.name}.json"
    )
    (out_dir / f"{point.name}.ipynb").write_text("{}")


def swept(path, points, out_dir, replace=False):
    """State and remark that a sweep begins with, and the points that it hands to its executor."""
    told, run = {}, []

    def execute(todo):
        run.extend(names(todo))
        return iter(())

    run_sweep(path, points, out_dir, execute, lambda change: told.update({change.point.name: change}), replace)
    return [(change.state, change.remark) for change in told.values()], run


def test_a_grid_is_all_combinations_and_names_do_not_depend_on_the_order_it_is_given_in(tmp_path):
    path = toy(tmp_path)
    points = plan_sweep(path, ["penalty=1,2.5", "num_beams=2,4"], overrides={"quick": True}, name="long")
    assert names(points) == [
        "long__num_beams=2__penalty=1.0",
        "long__num_beams=4__penalty=1.0",
        "long__num_beams=2__penalty=2.5",
        "long__num_beams=4__penalty=2.5",
    ]
    assert points[0].parameters == {
        **{"num_beams": 2, "penalty": 1.0, "budgets": [1, 2]},
        **{"name": "x", "seed": None, "quick": True},
    }
    swapped = plan_sweep(path, ["num_beams=2,4", "penalty=1,2.5"])
    assert sorted(names(swapped)) == sorted(name.replace("long", "01_toy") for name in names(points))


@pytest.mark.parametrize(
    ("grid", "values"),
    [
        ("budgets=[2,4],[8]", [[2, 4], [8]]),
        ("name=gpt2,'a,b',Qwen/Qwen2.5-3B", ["gpt2", "a,b", "Qwen/Qwen2.5-3B"]),
        ("penalty=1e-3,2", [0.001, 2.0]),
        ("quick=true,false", [True, False]),
        ("seed=1,1.0,~,'1'", [1, 1.0, None, "1"]),
    ],
)
def test_grid_values_are_yaml_of_the_parameters_type(tmp_path, grid, values):
    points = plan_sweep(toy(tmp_path), [grid])
    assert [repr(*point.values.values()) for point in points] == [repr(value) for value in values]
    assert len(set(names(points))) == len(values)


@pytest.mark.parametrize(
    ("grid", "overrides", "reason"),
    [
        (["num_beams=2,x"], {}, "num_beams = 'x' is of type str.*expects int"),
        (["budgets=2,4"], {}, "expects list.*lists stand in brackets"),
        (["beams=2"], {}, "unknown parameter 'beams'.*num_beams"),
        (["num_beams="], {}, "has no values"),
        ([], {}, "needs a grid"),
        (["num_beams"], {}, "form name=value"),
        (["num_beams=2,4,2"], {}, "value 2 twice"),
        (["penalty=1,1.0"], {}, "value 1.0 twice"),
        (["num_beams=2", "num_beams=4"], {}, "in the grid twice"),
        (["num_beams=2"], {"num_beams": 4}, "in the grid and set by -p"),
        (["num_beams=2],[4"], {}, "not YAML"),
        (["num_beams=2,#4"], {}, "not YAML"),
        (["seed=2020-01-01"], {}, "seed is a date"),
        (["seed=.nan"], {}, "seed is nan"),
        (["name=a,A"], {}, "Two runs of the same name"),
        (["num_beams=2"], {"beams": 4}, "unknown parameter 'beams'"),
    ],
)
def test_a_wrong_grid_is_refused(tmp_path, grid, overrides, reason):
    with pytest.raises(ValueError, match=reason):
        plan_sweep(toy(tmp_path), grid, overrides=overrides)


def test_a_sweeps_name_must_be_safe_for_files(tmp_path):
    for name in ("", "../a", "a b", ".a", "a.failed"):
        with pytest.raises(ValueError, match="must begin with a letter or digit"):
            plan_sweep(toy(tmp_path), ["num_beams=2"], name=name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(values=st.lists(st.text(max_size=120), min_size=1, max_size=6, unique_by=str.casefold))
def test_any_texts_have_distinct_names_that_files_may_have(tmp_path, values):
    path = write_notebook(tmp_path, parameters="a = 'x'  # text\nb = 'x'  # text")
    quoted = ",".join("'" + value.replace("'", "''") + "'" for value in values)
    try:
        points = plan_sweep(path, [f"a={quoted}", f"b={quoted}"])
    except ValueError as error:  # YAML has no control characters, and folds line breaks
        assert "not YAML" in str(error) or "twice" in str(error)
        return
    found = [name.casefold() for name in names(points)]
    assert len(set(found)) == len(values) ** 2
    assert all(len(name.encode()) <= 180 and name.isascii() and "/" not in name for name in found)


def test_points_are_skipped_only_when_they_are_done_the_same_way(tmp_path):
    path, out_dir = toy(tmp_path), tmp_path / "runs"
    points = plan_sweep(path, ["num_beams=1,2,3,4,5,6,7"])
    done, failed, broken, older, changed, lone, _new = points
    for point in (done, failed, broken, older, changed, lone):
        save_done(point, path, out_dir)
    save_done(failed, path, out_dir, status="failed", error="KeyError")
    (out_dir / f"{broken.name}.json").write_text('{"notebook": "01')
    save_done(older, path, out_dir, versions={SOURCES: "0"})
    save_done(changed, path, out_dir, notebook_sha256="0")
    (out_dir / f"{lone.name}.ipynb").unlink()
    states, run = swept(path, points, out_dir)
    assert states == [
        (SKIPPED, "done before"),
        (WAITING, "failed before"),
        (WAITING, "its record is broken"),
        (WAITING, "specbeam has changed"),
        (WAITING, "the notebook has changed"),
        (WAITING, "its notebook is missing"),
        (WAITING, ""),
    ]
    assert run == names(points)[1:]
    assert swept(path, points, out_dir, replace=True)[1] == names(points)


def test_a_run_of_the_same_name_is_not_overwritten_by_another_experiment(tmp_path):
    path, out_dir = toy(tmp_path), tmp_path / "runs"
    (point,) = plan_sweep(path, ["num_beams=2"], overrides={"seed": 1})
    save_done(point, path, out_dir)
    for value in (True, 2):
        other = plan_sweep(path, ["num_beams=2"], overrides={"seed": value})
        with pytest.raises(ValueError, match=r"same name.*seed=1 instead of .*--name.*--replace"):
            swept(path, other, out_dir)
    assert swept(path, other, out_dir, replace=True)[1] == names(other)
    foreign = write_notebook(tmp_path, "02_other", parameters=TYPES.strip())
    points = plan_sweep(foreign, ["num_beams=2"], name="01_toy")
    for replace in (False, True):
        with pytest.raises(ValueError, match="is a run of 01_toy, not of 02_other"):
            swept(foreign, points, out_dir, replace)


def test_two_sweeps_at_once_in_one_folder_are_refused_and_a_dead_ones_lock_is_not(tmp_path):
    path, out_dir = toy(tmp_path), tmp_path / "runs"
    points = plan_sweep(path, ["num_beams=2"])
    code = "import sys; from specbeam.files import exclusive\n"
    code += "with exclusive(sys.argv[1], ''): print(1, flush=True); input()"
    holder = [sys.executable, "-c", code, str(out_dir / ".sweep.lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"1\n"
        with pytest.raises(ValueError, match="Another sweep writes to"):
            swept(path, points, out_dir)
        other.kill()
        other.wait()
    assert (out_dir / ".sweep.lock").exists()
    assert swept(path, points, out_dir)[1] == names(points)
    assert not list(out_dir.iterdir())


def test_a_lock_is_exclusive_within_a_process_too_and_free_afterwards(tmp_path):
    lock = tmp_path / "lock"
    with exclusive(lock, "busy"), pytest.raises(ValueError, match="busy"), exclusive(lock, "busy"):
        pass
    with exclusive(lock, "busy"):
        assert lock.exists()
    assert not lock.exists()


def test_a_failed_point_does_not_stop_the_others(tmp_path, monkeypatch):
    path = toy(tmp_path)
    points = plan_sweep(path, ["num_beams=1,2,3"])

    def run(_path, _params, parameters, _out_dir, **options):
        assert options["name"] == f"01_toy__num_beams={parameters['num_beams']}"
        if parameters["num_beams"] == 2:
            raise OSError("disk full")
        return RunRecord("01_toy", seconds=1.5)

    monkeypatch.setattr("specbeam.experiments.sweep.run_notebook", run)
    changes = [(change.state, change.remark) for change in run_here(path, tmp_path)(points)]
    assert changes[::2] == [(RUNNING, "")] * 3
    assert changes[1::2] == [(DONE, ""), (FAILED, "disk full"), (DONE, "")]
