"""transformers' own generation tests judge `SpeculativeLM`: `python tests/judge.py --source DIR`.

DIR is a checkout of transformers at the version that is installed (another near it works, and is named in the output):

    git clone --depth 1 --branch v5.23.0 https://github.com/huggingface/transformers

Its tests need `parameterized` besides what specbeam's own need (`pip install --target DEPS parameterized`, then
`PYTHONPATH=DEPS`). Nothing of them is copied: they are imported from DIR. Unix only, since every test is a fork.

The tests of `GenerationTesterMixin` run on the tiny configurations of Llama, Qwen2, GPT-2 and Gemma, each in a process
and with a seed of its own, and twice:

1. as they are, which is the control;
2. with every call of `generate` that a test makes answered by `SpeculativeLM` of that model. The plain model answers
   the same call beside it, from the same random state. Both have to agree on the fields of the answer, its tokens,
   scores, logits and beam indices, or on the type of the error, also where the test itself looks at shapes alone. Where
   specbeam refuses by name, the plain model's answer goes back to the test, so that the calls after it are judged too;
   and a refused output (hidden states, attentions) is left out of a second try, so that the rest of that answer is.

What comes out of a test: passed · passed without calling `generate` (says nothing) · refused by name · failed in the
control as well (says nothing) · skipped by transformers · WRONG. The script ends with status 1 if anything is WRONG.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import inspect
import json
import multiprocessing
import os
import random
import re
import sys
import unittest
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from judge_calls import Judge
from transformers import set_seed

import specbeam as sb

MODELS = {"llama": "LlamaModelTest", "qwen2": "Qwen2ModelTest", "gpt2": "GPT2ModelTest", "gemma": "GemmaModelTest"}
OUTCOMES = ("passed", "no call", "refused", "control fails", "skipped", "WRONG")
PASSED, NO_CALL, REFUSED, CONTROL, SKIPPED, WRONG = OUTCOMES
LIMIT_S = 300  # of a test: some compile the model

# what the tests of a model inherit besides those of generation: it has dependencies of its own, and runs nothing here
NOT_NEEDED = (
    "tests.test_fsdp_mixin",
    "tests.test_tensor_parallel_mixin",
    "tests.test_training_mixin",
    "tests.test_pipeline_mixin",
    "tests.utils.test_configuration_utils",
)


class StandIn(ModuleType):
    """A module that has whatever class is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def import_tests(source: Path, model: str) -> tuple[type[Any], set[str]]:
    """The test class of `model` in the checkout, and the names that the installed transformers lacks for it."""
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    for name in NOT_NEEDED:
        sys.modules.setdefault(name, StandIn(name))
    lacking: set[str] = set()
    while True:
        try:
            module = importlib.import_module(f"tests.models.{model}.test_modeling_{model}")
        except ImportError as error:  # another version than the installed one: a test that needs the name will fail
            found = re.match(r"cannot import name '(\w+)' from '(transformers[\w.]*)'", str(error))
            if found is None or ".".join(found.groups()[::-1]) in lacking:
                raise
            name, owner = found.groups()
            lacking.add(f"{owner}.{name}")
            setattr(importlib.import_module(owner), name, type(name, (), {}))
        else:
            if not str(module.__file__).startswith(str(source)):
                raise ValueError(f"tests were imported from {module.__file__}, not from --source {source}.")
            return getattr(module, MODELS[model]), lacking


def tests_of(cases: type[Any]) -> list[str]:
    """The tests of the mixin, and those of the model's own that are marked `generate`."""
    mixin = next(base for base in cases.__mro__ if base.__name__ == "GenerationTesterMixin")

    def belongs(name: str) -> bool:
        marks = getattr(getattr(cases, name), "pytestmark", [])
        return name in vars(mixin) or any(mark.name == "generate" for mark in marks)

    return [name for name, _ in inspect.getmembers(cases, inspect.isfunction) if name[:5] == "test_" and belongs(name)]


def make_draft(kind: str) -> Callable[[Any], Any]:
    """`copy` proposes the target's own tokens, so that long branches are verified; `recall` rarely knows anything."""
    return {"copy": copy.deepcopy, "recall": lambda _: sb.RecallDraft()}[kind]


def run_here(cases: type[Any], name: str, draft: str | None) -> dict[str, Any]:
    """What became of one test in this process; with the plain model where `draft` is None."""
    seed = zlib.crc32(f"{cases.__name__}.{name}".encode())
    set_seed(seed)
    for module in list(sys.modules.values()):  # the tests draw their inputs from generators that nobody seeds
        if isinstance(generator := vars(module).get("global_rng"), random.Random):
            generator.seed(seed)
    judge, result = Judge(make_draft(draft or "recall")), unittest.TestResult()
    if draft is None:
        cases(name).run(result)
    else:
        with judge.at_work():
            cases(name).run(result)
    bad = [text for _, text in result.failures + result.errors]
    return {
        "ended": "failed" if bad else "skipped" if result.skipped else "passed",
        "why": bad[0][-1500:] if bad else result.skipped[0][1] if result.skipped else "",
        "calls": judge.calls,
        "refusals": judge.refusals,
        "wrong": judge.wrong,
    }


def run_apart(cases: type[Any], name: str, draft: str | None) -> dict[str, Any]:
    """`run_here` in a fork, which leaves nothing behind and may crash or hang."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        for stream in (sys.stdout, sys.stderr):  # loggers hold on to them
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sender.send(run_here(cases, name, draft))

    process = context.Process(target=work)
    process.start()
    sender.close()
    ended, why = "failed", f"no answer within {LIMIT_S} s"
    try:
        if receiver.poll(LIMIT_S):
            return receiver.recv()
    except EOFError:
        why = "the process died"
    finally:
        if process.is_alive():
            process.join(10)
        if process.is_alive():
            process.kill()
        process.join()
    return {"ended": ended, "why": why, "calls": 0, "refusals": [], "wrong": []}


def judged(cases: type[Any], name: str, draft: str) -> dict[str, Any]:
    """The outcome of one test, with its refusals and what was wrong."""
    control = run_apart(cases, name, None)
    if control["ended"] != "passed":
        outcome = SKIPPED if control["ended"] == "skipped" else CONTROL
        return {"outcome": outcome, "why": control["why"], "calls": 0, "refusals": [], "wrong": []}
    found = run_apart(cases, name, draft)
    if found["ended"] != "passed":
        found["wrong"].append(f"the test itself {found['ended']}: {found['why']}")
    outcome = WRONG if found["wrong"] else REFUSED if found["refusals"] else PASSED if found["calls"] else NO_CALL
    return {"outcome": outcome, **{key: found[key] for key in ("why", "calls", "refusals", "wrong")}}


def judge_model(source: Path, model: str, draft: str, only: str = "") -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The outcomes by the names of tests that match `only`, and the names that the installed transformers lacks."""
    os.environ["RUN_SLOW"] = "1"  # read by transformers' tests; those of the mixin are tiny all the same
    cases, lacking = import_tests(source.resolve(), model)
    return {name: judged(cases, name, draft) for name in tests_of(cases) if re.search(only, name)}, lacking


def version_of(source: Path) -> str:
    package = source / "src" / "transformers" / "__init__.py"
    found = re.search(r'^__version__ = "(.+)"', package.read_text(), re.M) if package.exists() else None
    return found[1] if found else "unknown"


def report(results: Mapping[str, Mapping[str, dict[str, Any]]]) -> str:
    """A table of the models, the refusals by option, and everything WRONG."""
    lines = [f"{'':8}" + "".join(f"{outcome:>15}" for outcome in OUTCOMES) + f"{'calls':>15}"]
    for model, tests in results.items():
        count = Counter(test["outcome"] for test in tests.values())
        calls = sum(test["calls"] for test in tests.values())
        lines.append(f"{model:8}" + "".join(f"{count[outcome]:15}" for outcome in OUTCOMES) + f"{calls:15}")
    options: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model, tests in results.items():
        for name, test in tests.items():
            for option, message in test["refusals"]:
                options[option][message].add(f"{model} {name}")
    lines += ["", "Refused by name:"]
    for option, messages in sorted(options.items()):
        lines.append(f"  {option}: {len(set().union(*messages.values()))} tests")
        lines += [f"    {message}" for message in messages]
    for model, tests in results.items():
        for name, test in tests.items():
            if test["outcome"] == CONTROL:
                lines.append(f"control fails: {model} {name}: {test['why'].strip().splitlines()[-1][:200]}")
            lines += [f"WRONG: {model} {name}: {why}" for why in test["wrong"]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="transformers' own generation tests, with SpeculativeLM.")
    parser.add_argument("--source", type=Path, required=True, help="checkout of transformers")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--draft", choices=("copy", "recall"), default="copy", help="default: a copy of the target")
    parser.add_argument("--only", default="", help="regular expression that names of tests have to match")
    parser.add_argument("--out", type=Path, help="write everything here, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork does not inherit threads
    version = version_of(given.source)
    print(f"tests of transformers {version}, transformers {transformers.__version__} installed, draft: {given.draft}")
    results: dict[str, dict[str, dict[str, Any]]] = {}
    lacking: set[str] = set()
    for model in given.models:
        results[model], more = judge_model(given.source, model, given.draft, given.only)
        lacking |= more
        print(f"{model}: {len(results[model])} tests", flush=True)
    if lacking:
        print(f"not in the installed version: {', '.join(sorted(lacking))}")
    print(report(results))
    if given.out is not None:
        versions = {"tests": version, "transformers": transformers.__version__, "torch": torch.__version__}
        aside = given.out.with_name(given.out.name + ".part")
        aside.write_text(json.dumps({**versions, "draft": given.draft, "models": results}, indent=1) + "\n")
        os.replace(aside, given.out)
    return int(any(test["outcome"] == WRONG for tests in results.values() for test in tests.values()))


if __name__ == "__main__":
    sys.exit(main())
