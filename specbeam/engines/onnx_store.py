"""Where exported graphs come from: the cache, the package for the embedded model, or an export now.

A graph has no weights, so it is a small file, serves every model of its shape, and is found by what determines it: the
configuration and code of the model and the versions of what made it. Written aside and renamed, it is whole or not
there; one that is damaged or that computes something else is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import logging
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION
from specbeam.files import cache_folder, write_atomic

from .families import Traits, text_config
from .onnx_check import is_noise, off_by
from .onnx_export import OPSET, exported, layout_of, weights, why_not
from .onnx_graph import Graph
from .onnx_session import Session

FORMAT = 4  # increase it when graphs change, so that those of before are not used
SHIPPED = Path(__file__).with_name("graphs")
_MADE_BY = ("torch", "transformers", "onnxscript")
_NAMES = ("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


def open_session(model: PreTrainedModel, traits: Traits, state_layers: tuple[int, ...]) -> Session:
    """A session for passes of `model` that can return these hidden states.

    An export takes a minute or more for a model of 30 layers, and is kept. Processes that want the same one wait for
    each other.

    Raises ValueError with the reason, in a few words, where there is none that computes what PyTorch computes.
    """
    if (reason := why_not(model, traits)) is not None:
        raise ValueError(reason)
    path = cache_folder() / "graphs" / f"{_key(model, traits)}.onnx.z"
    with _alone(path), _quiet(), torch.random.fork_rng(devices=[]):  # trials and exports draw numbers
        layers = set(state_layers)
        for known in (path, SHIPPED / f"{_shape_key(model, traits)}.onnx.z"):
            with contextlib.suppress(Exception):  # it is not there, or damaged: another is made
                graph = Graph(zlib.decompress(known.read_bytes()))
                layers |= set(graph.layout.state_layers) if known == path else set()
                if set(state_layers) <= set(graph.layout.state_layers):
                    session = Session(graph, model)
                    if is_noise(off_by(session, model, traits)):
                        return session
        return _exported_now(model, traits, tuple(sorted(layers)), path)


def _exported_now(model: PreTrainedModel, traits: Traits, state_layers: tuple[int, ...], path: Path) -> Session:
    name = type(model).__name__
    print(f"Exporting {name} for ONNX Runtime (once, about a minute) …", file=sys.stderr, flush=True)
    try:
        graph = exported(model, traits, layout_of(model, traits, state_layers))
    except Exception as error:
        raise ValueError(f"its export fails ({_first_line(error)})") from error
    try:
        session = Session(graph, model)
        off = off_by(session, model, traits)
    except Exception as error:
        raise ValueError(f"ONNX Runtime does not run its graph ({_first_line(error)})") from error
    if not is_noise(off):
        raise ValueError(f"its graph is off by {100 * off:.2g} % of the logits' spread from PyTorch")
    with contextlib.suppress(OSError):  # it is exported again where the folder cannot be written to
        write_atomic(path, zlib.compress(graph.content, 9))
    return session


def ship(model: PreTrainedModel, state_layers: tuple[int, ...]) -> Path:
    """Export `model` into the package, so that nobody else has to; returns the file (`make graph`)."""
    traits = Traits.of(model)
    with _quiet():
        graph = exported(model, traits, layout_of(model, traits, state_layers))
    return write_atomic(SHIPPED / f"{_shape_key(model, traits)}.onnx.z", zlib.compress(graph.content, 9))


def _shape_key(model: PreTrainedModel, traits: Traits) -> str:
    """Of a graph that is shipped: whatever code and versions are in use, it is compared with PyTorch when opened."""
    config = model.config.to_dict()
    for name in _NAMES:
        config.pop(name, None)
    attention = getattr(text_config(model), ATTENTION, None)
    shapes = [(name, tuple(each.shape)) for name, each in weights(model).items()]
    kind = type(model).__qualname__
    return _digest(FORMAT, OPSET, kind, sorted(map(str, config.items())), attention, traits.kinds, shapes)


def _key(model: PreTrainedModel, traits: Traits) -> str:
    code: Any = sys.modules[type(model).__module__]
    with contextlib.suppress(OSError, TypeError):
        code = inspect.getsource(code)
    return _digest(_shape_key(model, traits), code, *map(importlib.metadata.version, _MADE_BY))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of this graph; where no lock file can be made, everybody makes a graph of their own."""
    lock = FileLock(path.with_suffix(".lock"), mode=0o666)  # a cache may be shared between users
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter says of packages that it does not need and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
