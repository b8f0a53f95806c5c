"""Random cases until the time is up: `make fuzz`, or `python tests/fuzz.py --seconds 600`.

There are two sorts. A *request* (`request_cases.py`) has a model, prompts, and options of `generate` in all places
where they may stand: every entrance has to give what transformers gives, or raise where transformers raises. A *draft
case* (`draft_cases.py`) has drafts that lie, fail or propose nonsense, and memory that runs out. A case is made from
its number only: `python tests/fuzz.py --seed 123 --cases 1` runs one again, and a request that differs is made smaller.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections import Counter, defaultdict
from itertools import count

import draft_cases
import torch
import transformers
from request_cases import drawn
from request_check import Difference, run_case
from request_shrink import shrunk

EVERY = 10  # one case of so many is a draft case
MOST_SHOWN = 3  # failures of one kind that are told


def quiet() -> None:
    transformers.logging.set_verbosity(logging.CRITICAL)
    logging.disable(logging.ERROR)


def run(seed: int, rope: bool, sort: str) -> str:
    """How the case went; raises where it differs."""
    if sort == "drafts" or (sort == "all" and seed % EVERY == 0):
        draft_cases.run_case(seed)
        return "draft cases"
    return run_case(drawn(seed, rope))


def told(seed: int, error: Exception, rope: bool) -> tuple[str, str]:
    """The kind of a failure and what to print of it."""
    if not isinstance(error, Difference):
        return f"{type(error).__name__} outside", "".join(traceback.format_exception(error))
    case = shrunk(drawn(seed, rope), error.kind)
    message = str(error)
    try:
        run_case(case)
    except Difference as smaller:
        message = str(smaller)
    return f"{error.kind} | {', '.join(sorted({item.name for item in case.items}))}", f"{message}\n  {case}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Random cases until the time is up.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="number of the first")
    parser.add_argument("--cases", type=int, help="how many at most")
    parser.add_argument("--sort", choices=["all", "requests", "drafts"], default="all")
    parser.add_argument("--no-rope", dest="rope", action="store_false", help="no long-rope models")
    given = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    print(f"cases from {given.seed} on, for {given.seconds:.0f} s", flush=True)
    outcomes: Counter[str] = Counter()
    failures: dict[str, list[int]] = defaultdict(list)
    began = shown = time.monotonic()
    for seed in count(given.seed):
        if time.monotonic() - began > given.seconds or outcomes.total() == given.cases:
            break
        try:
            outcomes[run(seed, given.rope, given.sort)] += 1
        except Exception as error:
            outcomes["failed"] += 1
            kind, message = told(seed, error, given.rope)
            failures[kind].append(seed)
            if len(failures[kind]) <= MOST_SHOWN:
                flags = f"{'' if given.rope else ' --no-rope'}{'' if given.sort == 'all' else f' --sort {given.sort}'}"
                print(f"{message}\n  repeat: python tests/fuzz.py --seed {seed} --cases 1{flags}\n", flush=True)
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            print(f"{shown - began:6.0f} s  {dict(outcomes)}", flush=True)
    print(f"{outcomes.total()} cases in {time.monotonic() - began:.0f} s: {dict(outcomes)}", flush=True)
    for kind, seeds in sorted(failures.items(), key=lambda pair: -len(pair[1])):
        print(f"{len(seeds):5} x  {kind}  (seeds {', '.join(map(str, seeds[:3]))})")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
