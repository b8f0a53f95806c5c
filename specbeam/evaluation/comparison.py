"""Named methods decode the same prompts in turns; the result is plain data.

`comparison_summary` computes figures from it and `comparison_words` writes sentences. A method is a name and a
function, so anything that decodes can be compared.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from specbeam.decoding import decoders
from specbeam.decoding.decoders import Decoded
from specbeam.decoding.generate import SpeculativeLM
from specbeam.experiments.notebook import in_turns, render_all
from specbeam.models.load import Pair
from specbeam.models.stopping import cut_after_stop, stop_tokens

from .data_files import Example
from .likelihood import judge, likelihood

GREEDY, SPECULATIVE, BEAM, HYBRID, SAMPLING = "greedy", "speculative", "beam", "speculative beam", "beam sampling"
WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Method:
    """One way to decode: `decode(inputs, max_new_tokens, seed)` for one prompt, best sequence first.

    `plain` names the method whose work it speeds up and against which its speed is measured. `exact`: whether it
    promises the tokens of `plain`; None if it draws at random.
    """

    name: str
    decode: Callable[[Any, int, int], Decoded]
    plain: str
    exact: bool | None = True
    num_beams: int = 1


def make_methods(
    pair: Pair,
    *,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    margins: Sequence[float] = (),
    tolerances: Sequence[float] = (),
    top_rs: Sequence[int] = (),
    sampling: bool = True,
) -> list[Method]:
    """Greedy and beam search, their speculative forms, and forms that give up exactness.

    Args:
        margins: of dynamic width, in nats, a method each (`decoders.speculative_beam`).
        tolerances, top_rs: of relaxed acceptance, in nats and in ranks, a method each (`decoders.speculative`).
        sampling: whether to include beam sampling: transformers' own, run by `SpeculativeLM`.

    Beam methods return all their beams, so that their diversity can be measured.

    Raises ValueError for num_beams below 2, for values that are exact and would repeat a method, and for repeated ones.
    """
    if num_beams < 2:
        raise ValueError(f"num_beams={num_beams} makes beam search greedy decoding; give at least 2")
    beams = {"num_beams": num_beams, "num_return_sequences": num_beams, "length_penalty": length_penalty}

    def single(name: str, decoder: Callable[..., Decoded], exact: bool = True, **options: Any) -> Method:
        return Method(name, _decoder(pair, decoder, options), GREEDY, exact)

    def several(name: str, decoder: Callable[..., Decoded], exact: bool = True, **options: Any) -> Method:
        return Method(name, _decoder(pair, decoder, beams | options), BEAM, exact, num_beams)

    methods = [single(GREEDY, decoders.greedy), single(SPECULATIVE, decoders.speculative)]
    for nats in _inexact("tolerances", tolerances, 0):
        methods.append(single(f"{SPECULATIVE}, tolerance {nats:g}", decoders.speculative, False, tolerance=nats))
    for rank in _inexact("top_rs", top_rs, 1):
        methods.append(single(f"{SPECULATIVE}, top {rank}", decoders.speculative, False, top_r=rank))
    methods += [several(BEAM, decoders.beam), several(HYBRID, decoders.speculative_beam)]
    for nats in _inexact("margins", margins, math.inf):
        methods.append(several(f"{HYBRID}, margin {nats:g}", decoders.speculative_beam, False, margin=nats))
    if sampling:
        methods.append(Method(SAMPLING, _sampler(pair, beams), BEAM, None, num_beams))
    names = [method.name for method in methods]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)}: given twice; give every value once")
    return methods


def compare(
    pair: Pair,
    methods: Sequence[Method],
    sets: Mapping[str, Sequence[Example]],
    *,
    max_new_tokens: int,
    repeats: int = 1,
    seed: int = 0,
    system: str | None = None,
    debug: bool = False,
) -> dict[str, Any]:
    """Decode every example of every set with every method, `repeats` times.

    The methods take turns on each prompt in an order drawn with `seed`, so that a slow spell of the machine affects all
    of them. As a warm-up each first decodes a few tokens after the shortest prompt, which also measures the cost of a
    pass on this machine. Prompt number i is sampled with seed + i. `system` and `debug` are as for `render_prompt`.

    Returns plain data: "methods" (name, plain, exact, num_beams); "prompts" (set, source, prompt, reference, and its
    number of "tokens"); and "runs", one for each prompt and method: "prompt" (its number), "method", "sequences" (token
    ids, best first), "texts", "score" (the decoder's own, of the best; None if sampled), "nats" (log-probability of the
    best under the target, by teacher forcing), "seconds" (wall clock, one a repeat), "stats", "exact" (whether the
    options promise it), "equal" and "all_equal" (whether the best, or all sequences, are those of `plain`), and
    "repeatable" (whether all repeats gave the same sequences).

    Raises ValueError for no prompts, an empty set, a method whose `plain` is missing, and repeats below 1.
    """
    prompts = [(name, example) for name, examples in sets.items() for example in examples]
    _check(methods, sets, repeats)
    batches = render_all(pair, [example.prompt for _, example in prompts], system, debug)
    shortest = min(batches, key=lambda batch: batch["input_ids"].shape[1])
    for method in methods:
        method.decode(shortest, min(max_new_tokens, WARM_UP_TOKENS), seed)

    order = random.Random(seed)
    measured: list[dict[str, list[tuple[Decoded, float]]]] = [{one.name: [] for one in methods} for _ in prompts]
    for _ in range(repeats):
        for number, batch in enumerate(batches):
            decodes = {one.name: partial(one.decode, batch, max_new_tokens, seed + number) for one in methods}
            for name, turn in in_turns(decodes, 1, order).items():
                measured[number][name] += turn

    runs = []
    for number, (batch, mine) in enumerate(zip(batches, measured, strict=True)):
        best = [mine[method.name][0][0].sequences[0] for method in methods]
        for method, (nats, _) in zip(methods, likelihood(pair.target, batch["input_ids"], best), strict=True):
            (one, _), (plain, _) = mine[method.name][0], mine[method.plain][0]
            runs.append(
                {"prompt": number, "method": method.name, "sequences": one.sequences, "texts": one.text}
                | {"score": one.scores[0] if one.scores else None, "nats": nats}
                | {"seconds": [seconds for _, seconds in mine[method.name]], "exact": one.exact}
                | {"stats": {**asdict(one.stats), "accepted": dict(one.stats.accepted)}}
                | {"equal": one.sequences[0] == plain.sequences[0], "all_equal": one.sequences == plain.sequences}
                | {"repeatable": all(other.sequences == one.sequences for other, _ in mine[method.name])}
            )
    return {
        "methods": [{"name": m.name, "plain": m.plain, "exact": m.exact, "num_beams": m.num_beams} for m in methods],
        "prompts": [
            {"set": name, **asdict(example), "tokens": batch["input_ids"].shape[1]}
            for (name, example), batch in zip(prompts, batches, strict=True)
        ],
        "runs": runs,
    }


def add_judge(compared: dict[str, Any], model: Any, tokenizer: Any, system: str | None = None) -> None:
    """Add "judge" to every run: nats and bytes of its best text under an independent model (`likelihood.judge`)."""
    runs = compared["runs"]
    prompts = [compared["prompts"][run["prompt"]]["prompt"] for run in runs]
    judged = judge(model, tokenizer, prompts, [run["texts"][0] for run in runs], system)
    for run, scored in zip(runs, judged, strict=True):
        run["judge"] = list(scored)


def _decoder(pair: Pair, decoder: Callable[..., Decoded], options: dict[str, Any]) -> Callable[..., Decoded]:
    def decode(inputs: Any, max_new_tokens: int, seed: int) -> Decoded:
        return decoder(pair, inputs, max_new_tokens=max_new_tokens, do_sample=False, **options)

    return decode


def _sampler(pair: Pair, options: dict[str, Any]) -> Callable[..., Decoded]:
    """transformers' beam sampling through the drop-in."""
    lm, stops = SpeculativeLM(pair.target, pair.draft), stop_tokens(pair.target)

    def decode(inputs: Any, max_new_tokens: int, seed: int) -> Decoded:
        torch.manual_seed(seed)
        rows = lm.generate(**inputs, do_sample=True, max_new_tokens=max_new_tokens, **options)
        sequences = [cut_after_stop(row, stops) for row in rows[:, inputs["input_ids"].shape[1] :].tolist()]
        texts = [] if pair.tokenizer is None else pair.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        assert lm.stats is not None
        return Decoded(sequences, [], texts, lm.stats)

    return decode


def _inexact(name: str, values: Sequence[Any], exact: float) -> Sequence[Any]:
    """The values. Raises ValueError for one that is no number, and for `exact`, which keeps the method exact."""
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and value == exact:
            raise ValueError(f"{name} holds {value}, which is exact and included anyway; leave it out")
        if not number or not math.isfinite(value):
            raise ValueError(f"{name} holds {value!r}; give numbers")
    return values


def _check(methods: Sequence[Method], sets: Mapping[str, Sequence[Example]], repeats: int) -> None:
    if not sets or not all(sets.values()):
        raise ValueError(f"a comparison needs prompts in every set, and of {[*sets]} one has none; add prompts to it")
    names = [method.name for method in methods]
    for method in methods:
        if method.plain not in names:
            raise ValueError(f"{method.name!r} is measured against {method.plain!r}, which is missing; add that method")
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
