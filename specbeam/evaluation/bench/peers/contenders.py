"""Everybody who takes part: transformers and specbeam in this process, each library in one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from specbeam.decoding.decoders import Decoded, beam, greedy, speculative, speculative_beam
from specbeam.engines.target import Target
from specbeam.models.load import Pair

from .environment import Environment
from .models import converted, verified
from .process import PeerError, Worker

TRANSFORMERS, SPECBEAM, NO_DRAFT = "transformers", "specbeam", "specbeam without a draft"
WORKERS = Path(__file__).with_name("workers")
PEERS = {
    "ONNX Runtime GenAI": WORKERS / "onnxruntime_genai_peer.py",
    "OpenVINO GenAI": WORKERS / "openvino_genai_peer.py",
    "CTranslate2": WORKERS / "ctranslate2_peer.py",
    "llama.cpp": WORKERS / "llama_cpp_peer.py",
}

Decode = Callable[[Mapping[str, Any], int, int], tuple[list[int], float]]


@dataclass(frozen=True)
class Contender:
    """`decode(inputs of one prompt, num_beams, new tokens)` gives the best sequence, prompt excluded, and seconds.

    Without `decode` it could not be set up, and `reason` says why.
    """

    name: str
    decode: Decode | None
    reason: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)  # for the record: versions and the like


def unused_token(pair: Pair) -> int:
    """A special token that ends, begins and pads nothing, to stand for an end that never comes.

    Raises ValueError if the vocabulary has none.
    """
    tokenizer, config = pair.tokenizer, pair.target.generation_config
    named = (config.eos_token_id, config.bos_token_id, config.pad_token_id, *tokenizer.all_special_ids)
    taken = {token for each in named for token in (each if isinstance(each, list) else [each])}
    for token, added in sorted(tokenizer.added_tokens_decoder.items()):
        if added.special and token not in taken:
            return token
    raise ValueError("every special token of this vocabulary has a use, and forced lengths need one that has none.")


def ours(main: Pair, plain: Pair, end_token: int) -> list[Contender]:
    """transformers' `generate` on the target as it comes, specbeam's default, and the same engine without a draft."""
    ends = {"eos_token_id": end_token, "pad_token_id": end_token, "do_sample": False}

    def generate(inputs: Mapping[str, Any], num_beams: int, new_tokens: int) -> tuple[list[int], float]:
        began = time.perf_counter()
        rows = plain.target.generate(**inputs, num_beams=num_beams, max_new_tokens=new_tokens, **ends)
        taken = time.perf_counter() - began
        return rows[0, inputs["input_ids"].shape[1] :].tolist(), taken

    def decode(
        one: Callable[..., Decoded],
        several: Callable[..., Decoded],
        inputs: Mapping[str, Any],
        num_beams: int,
        new_tokens: int,
    ) -> tuple[list[int], float]:
        search = one if num_beams == 1 else partial(several, num_beams=num_beams)
        began = time.perf_counter()
        decoded = search(main, inputs, max_new_tokens=new_tokens, **ends)
        return decoded.sequences[0], time.perf_counter() - began

    engine = {"engine": Target.of(main.target).runtime}
    versions = {name: metadata.version(name) for name in ("transformers", "torch")}
    about, both = {"versions": versions}, {"target and draft": main.name}
    return [
        Contender(TRANSFORMERS, generate, about=about),
        Contender(SPECBEAM, partial(decode, speculative, speculative_beam), about={"facts": engine | both}),
        Contender(NO_DRAFT, partial(decode, greedy, beam), about={"facts": engine}),
    ]


@contextmanager
def started(
    scripts: Mapping[str, Path],
    source: Path,
    end_token: int,
    environment: Environment,
    build: Path,
    threads: int,
    say: Callable[[str], None],
) -> Iterator[list[Contender]]:
    """The libraries, each with its model converted and loaded; closed in the end. Who fails keeps a place, and why."""
    with ExitStack() as workers:
        found = []
        for name, script in scripts.items():
            try:
                folder = converted(script, source, end_token, environment, build, say)
                say(f"Loading {name} …")
                log = build / f"{script.stem}.log"
                worker = workers.enter_context(Worker(environment.python, script, log, threads))
                about = worker.load(folder, end_token) | {"verified": verified(folder)}
                found.append(Contender(name, _asked(worker), about=about))
            except (ValueError, PeerError, OSError) as error:
                found.append(Contender(name, None, _why(str(error), environment)))
                say(f"{name} does not take part: {found[-1].reason}")
        yield found


def _asked(worker: Worker) -> Decode:
    def decode(inputs: Mapping[str, Any], num_beams: int, new_tokens: int) -> tuple[list[int], float]:
        ids: Sequence[int] = inputs["input_ids"][0].tolist()
        return worker.decode(ids, num_beams, new_tokens)

    return decode


def _why(reason: str, environment: Environment) -> str:
    """The reason, and what could not be installed, as that is the likely cause."""
    lost = "; ".join(f"{name} was not installed: {why}" for name, why in environment.failed.items())
    return f"{reason} ({lost})" if lost else reason
