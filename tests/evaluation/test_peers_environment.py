"""The libraries' environment: made aside, kept, completed later; pip is never asked for anything from an index."""

import subprocess
import sys
from pathlib import Path

import pytest

from specbeam.evaluation.bench.peers import environment as peers_environment
from specbeam.evaluation.bench.peers.contenders import PEERS, ours, started, unused_token
from specbeam.evaluation.bench.peers.environment import LOCK, install_error, make_environment
from specbeam.models.embedded import embedded_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pip(monkeypatch):
    """Stands for `pip install` and for making an environment: `broken` names what cannot be installed."""
    asked: list[list[str]] = []
    broken: set[str] = set()

    def run(command: list[str]) -> str:
        if command[1:3] == ["-m", "venv"]:
            python = Path(command[3]) / "bin/python"
            python.parent.mkdir(parents=True)
            python.touch()
        elif "pip" in command:
            wanted = Path(command[-1]).read_text() if command[-2] == "-r" else command[-1]
            asked.append(command[-2:] if command[-2] == "-r" else command[-1:])
            for name in sorted(broken):
                if name in wanted:
                    raise ValueError(f"no {name}")
        else:
            return "/packages\n"
        return ""

    monkeypatch.setattr(peers_environment, "_run", run)
    monkeypatch.setattr(peers_environment, "_python", lambda folder: folder / "bin/python")
    return asked, broken


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text("# made by hand\na==1\nb==2 ; python_version > '3'\n")
    return path


def test_an_environment_is_made_once_and_again_for_another_lock(pip, lock, tmp_path):
    asked, _ = pip
    said: list[str] = []
    first = make_environment(tmp_path / "build", lock, said.append)
    assert first.packages == Path("/packages") and first.python.exists() and not first.failed
    assert make_environment(tmp_path / "build", lock, said.append) == first
    assert len(asked) == 1 and len(said) == 1 and "800 MB" in said[0]
    lock.write_text("a==2\n")
    second = make_environment(tmp_path / "build", lock, said.append)
    assert second.key != first.key and not first.python.exists() and second.python.exists()


def test_an_interrupted_set_up_is_taken_up_again(pip, lock, tmp_path, monkeypatch):
    def interrupted(folder, lock):
        raise KeyboardInterrupt

    build = tmp_path / "build"
    with monkeypatch.context() as patch:
        patch.setattr(peers_environment, "_install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_environment(build, lock, print)
    assert not list(build.glob("environment-*"))
    assert make_environment(build, lock, print).python.exists()
    assert len(list(build.iterdir())) == 1


def test_what_cannot_be_installed_is_left_out_told_and_tried_again(pip, lock, tmp_path):
    asked, broken = pip
    broken.add("b")
    assert make_environment(tmp_path / "build", lock, print).failed == {"b": "no b"}
    assert asked == [["-r", str(lock)], ["a==1"], ["b==2 ; python_version > '3'"]]
    broken.clear()
    assert make_environment(tmp_path / "build", lock, print).failed == {}


def test_nothing_installed_is_an_error(pip, lock, tmp_path):
    _, broken = pip
    broken.update("ab")
    with pytest.raises(ValueError, match=r"none of requirements\.lock: no a\. Is there a package index"):
        make_environment(tmp_path / "build", lock, print)


def test_a_missing_lock_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="in specbeam's repository"):
        make_environment(tmp_path, tmp_path / "no.lock", print)


def test_errors_name_no_index():
    output = "WARNING: x\nERROR: HTTPSConnectionPool(host='a.b', port=443): https://a.b/simple/x gave up\nERROR: y\n"
    assert install_error(output) == "HTTPSConnectionPool(…, port=443): … gave up"


def test_the_lock_file_pins_everything_and_no_torch():
    lines = [line for line in (ROOT / LOCK).read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert not {"torch", "transformers"} & names
    assert {"ctranslate2", "onnxruntime-genai", "openvino-genai", "xllamacpp"} <= names


def test_scripts_import_no_library_and_nothing_of_specbeam_when_they_are_read():
    code = "import runpy, sys; [runpy.run_path(path) for path in sys.argv[1:]]; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *map(str, PEERS.values())], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not {"numpy", "torch", "specbeam"} & set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.model
def test_the_libraries_decode_the_tokens_of_transformers():
    """Needs the environment that `specbeam bench --peers` has made."""
    import specbeam as sb

    build = ROOT / "build" / "peers"
    if not list(build.glob("environment-*")):
        pytest.skip('the other libraries are not installed: run make bench ARGS="--peers --quick" once')
    plain = sb.load_pair(draft="none", packed=False)
    inputs = dict(sb.render_prompt(plain.tokenizer, "The future of AI is"))
    end = unused_token(plain)
    reference = ours(plain, plain, end)[0]
    environment = make_environment(build, ROOT / LOCK, print)
    with started(PEERS, embedded_folder(), end, environment, build, 2, print) as peers:
        for num_beams in (1, 4):
            assert reference.decode is not None
            expected, _ = reference.decode(inputs, num_beams, 12)
            for peer in peers:
                assert peer.decode is not None, peer.reason
                if num_beams == 1 or peer.name != "llama.cpp":
                    assert peer.decode(inputs, num_beams, 12)[0] == expected, peer.name
