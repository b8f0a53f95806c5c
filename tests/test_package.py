"""The package's own names: all there, imported only when used, and none hidden by a module of the same name."""

import os
import pkgutil
import subprocess
import sys

import pytest

import specbeam as sb


def in_a_new_process(code, **variables):
    """What the code prints in a process that has imported nothing yet. A variable of None is not set there."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_heavy_library():
    code = "import specbeam, sys; print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


@pytest.mark.parametrize("arguments", ["--help", "sweep --help", "records --help", "records --schema", "bench --help"])
def test_a_command_that_decodes_nothing_imports_no_heavy_library(arguments):
    code = f"""
import sys
from specbeam.apps.cli.main import app
try:
    app({arguments.split()!r})
finally:
    print([name for name in ("torch", "transformers", "matplotlib", "distributed") if name in sys.modules])
"""
    assert in_a_new_process(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("0", "0")])
def test_the_engines_report_to_nobody_unless_their_user_lets_them(own, expected):
    code = """
import os, sys
from importlib.abc import MetaPathFinder
class Watch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
            sys.exit()
sys.meta_path.insert(0, Watch())
import specbeam.engines.onnx_session
"""
    assert in_a_new_process(code, ORT_DISABLE_TELEMETRY=own) == expected


@pytest.mark.slow
def test_importing_all_names_gives_every_one_from_its_module():
    code = """
from specbeam import *
import specbeam
from specbeam.decoding import decoders
from specbeam.models import load as loading
from specbeam.models import load as models
from specbeam.drafts import recall
from specbeam.experiments import records
assert sorted(name for name in globals() if name in specbeam.__all__) == sorted(specbeam.__all__)
assert beam is decoders.beam and greedy is decoders.greedy and callable(load)
assert RecallDraft is recall.RecallDraft and Pair is loading.Pair and RunRecord is records.RunRecord
print("fine")
"""
    assert in_a_new_process(code) == "fine"


def test_no_module_hides_a_public_name():
    modules = {module.name for module in pkgutil.iter_modules(sb.__path__)}
    assert "core" in modules and not modules & set(sb.__all__)


def test_dir_offers_every_name():
    assert {*sb.__all__, "load_pair"} <= set(dir(sb))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="beem"):
        _ = sb.beem  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ImportError, match="beem"):
        from specbeam import beem  # noqa: F401  # pyright: ignore[reportAttributeAccessIssue]


def test_a_name_can_be_replaced_for_a_test(monkeypatch):
    monkeypatch.setattr(sb, "beam", len)
    assert vars(sb)["beam"] is len
