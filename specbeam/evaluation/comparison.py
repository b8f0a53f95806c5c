"""The comparison: named methods decode the same prompts in turns, and what comes out is plain data.

Nothing is judged here: `findings` makes figures and sentences of it. A method is a name and a function, so anything
that decodes can take part.
"""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from specbeam.decoding import decoders
from specbeam.decoding.decoders import Decoded
from specbeam.decoding.generate import SpeculativeLM
from specbeam.models.load import Pair
from specbeam.models.prompts import render_prompt

from .data_files import Example
from .likelihood import judge

GREEDY, SPECULATIVE, BEAM, HYBRID, SAMPLING = "greedy", "speculative", "beam", "speculative beam", "beam sampling"
WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Method:
    """One way to decode: `decode(inputs, max_new_tokens, seed)` for one prompt, best sequence first.

    `plain` names the method that it speeds up: its speed is measured against that one. `exact` says whether it promises
    the tokens of that one; None where it draws at random and has nothing to be equal to.
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
        sampling: whether beam sampling takes part: transformers' own, answered by `SpeculativeLM`.

    Beam methods return all their beams, so that their diversity can be measured.

    Raises ValueError for num_beams below 2, values that are exact and would repeat a method, and repeated values.
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
        raise ValueError(f"{', '.join(repeated)}: there twice; give every value once")
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

    The methods take turns on each prompt, in an order drawn anew with `seed`: a machine that slows down slows all of
    them. Before that each decodes a few tokens of the shortest prompt, in which what is measured once per machine
    (the cost of a pass) is measured. Prompt number i is sampled with seed + i. `system` and `debug` are as for
    `render_prompt`.

    Returns plain data: "methods" (name, plain, exact, num_beams); "prompts" (set, source, prompt, reference, and the
    number of its "tokens"); and "runs", one a prompt and method: "prompt" (its number), "method", "sequences" (token
    ids, best first), "texts", "score" (the decoder's own, of the best; None where drawn), "nats" (log-probability
    of the best under the target, read back), "seconds" (one a repeat, by the wall clock), "stats", "exact" (whether the
    options promised it), "equal" and "all_equal" (whether the best, or all sequences, are those of `plain`), and
    "repeatable" (whether all repeats gave the same).

    Raises ValueError for no prompts, a set without any, methods whose `plain` does not take part, and repeats below 1.
    """
    prompts = [(name, example) for name, examples in sets.items() for example in examples]
    _check(methods, sets, repeats)
    batches = [render_prompt(pair.tokenizer, one.prompt, system, debug).to(pair.target.device) for _, one in prompts]
    shortest = min(batches, key=lambda batch: batch["input_ids"].shape[1])
    for method in methods:
        method.decode(shortest, min(max_new_tokens, WARM_UP_TOKENS), seed)

    order = random.Random(seed)
    decoded: dict[tuple[int, str], list[Decoded]] = {}
    seconds: dict[tuple[int, str], list[float]] = {}
    for _ in range(repeats):
        for number, batch in enumerate(batches):
            for method in order.sample(methods, len(methods)):
                began = time.perf_counter()
                found = method.decode(batch, max_new_tokens, seed + number)
                seconds.setdefault((number, method.name), []).append(time.perf_counter() - began)
                decoded.setdefault((number, method.name), []).append(found)

    runs = []
    for number, batch in enumerate(batches):
        mine = {method.name: decoded[number, method.name] for method in methods}
        nats = read_back(pair.target, batch["input_ids"], [many[0].sequences[0] for many in mine.values()])
        for method, likelihood in zip(methods, nats, strict=True):
            one, plain = mine[method.name][0], mine[method.plain][0]
            runs.append(
                {"prompt": number, "method": method.name, "sequences": one.sequences, "texts": one.text}
                | {"score": one.scores[0] if one.scores else None, "nats": likelihood}
                | {"seconds": seconds[number, method.name], "stats": _plain(one), "exact": one.exact}
                | {"equal": one.sequences[0] == plain.sequences[0], "all_equal": one.sequences == plain.sequences}
                | {"repeatable": all(other.sequences == one.sequences for other in mine[method.name])}
            )
    return {
        "methods": [{"name": m.name, "plain": m.plain, "exact": m.exact, "num_beams": m.num_beams} for m in methods],
        "prompts": [
            {"set": name, **asdict(example), "tokens": batch["input_ids"].shape[1]}
            for (name, example), batch in zip(prompts, batches, strict=True)
        ],
        "runs": runs,
    }


@torch.inference_mode()
def read_back(model: Any, prompt_ids: Any, sequences: Sequence[Sequence[int]]) -> list[float]:
    """The log-probability of each of `sequences` after one prompt, in nats, by teacher forcing; 0 for an empty one.

    The same figures as `likelihood.likelihood`, but the prompt is forwarded once and equal sequences are read once,
    which is several times as fast for many methods that agree. `prompt_ids`: a tensor of shape (1, tokens).
    """
    distinct = list(dict.fromkeys(tuple(one) for one in sequences if one))
    if not distinct:
        return [0.0 for _ in sequences]
    width = max(map(len, distinct))
    rows = torch.tensor([[*one, *one[-1:] * (width - len(one))] for one in distinct], device=model.device)
    fewer = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    read = model(input_ids=torch.as_tensor(prompt_ids, device=model.device), use_cache=True, **fewer)
    logits = read.logits[:, -1:].expand(len(distinct), 1, -1)
    if width > 1:
        cache = read.past_key_values
        cache.batch_repeat_interleave(len(distinct))
        # what pads a row stands behind it, and no token sees what comes later
        logits = torch.cat([logits, model(input_ids=rows[:, :-1], past_key_values=cache).logits], dim=1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    taken = logits.log_softmax(-1).gather(2, rows[:, :, None])[:, :, 0].tolist()
    nats = {one: math.fsum(row[: len(one)]) for one, row in zip(distinct, taken, strict=True)}
    return [nats.get(tuple(one), 0.0) for one in sequences]


def add_judge(found: dict[str, Any], model: Any, tokenizer: Any, system: str | None = None) -> None:
    """Give every run "judge": nats and bytes of its best text under an independent model (`likelihood.judge`)."""
    texts = {(run["prompt"], run["texts"][0]): None for run in found["runs"]}
    prompts = [found["prompts"][number]["prompt"] for number, _ in texts]
    given = judge(model, tokenizer, prompts, [text for _, text in texts], system)
    assert given.sizes is not None
    each = dict(zip(texts, zip(given.nats, given.sizes, strict=True), strict=True))
    for run in found["runs"]:
        run["judge"] = list(each[run["prompt"], run["texts"][0]])


def _decoder(pair: Pair, decoder: Callable[..., Decoded], options: dict[str, Any]) -> Callable[..., Decoded]:
    def decode(inputs: Any, max_new_tokens: int, seed: int) -> Decoded:
        return decoder(pair, inputs, max_new_tokens=max_new_tokens, **options)

    return decode


def _sampler(pair: Pair, options: dict[str, Any]) -> Callable[..., Decoded]:
    """transformers' beam sampling through the drop-in."""
    lm = SpeculativeLM(pair.target, pair.draft)
    ends = lm.generation_config.eos_token_id if lm.generation_config is not None else None
    stops = set(ends) if isinstance(ends, list) else {ends}

    def decode(inputs: Any, max_new_tokens: int, seed: int) -> Decoded:
        torch.manual_seed(seed)
        rows = lm.generate(**inputs, do_sample=True, max_new_tokens=max_new_tokens, **options)
        sequences = []
        for row in rows[:, inputs["input_ids"].shape[1] :].tolist():
            length = next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
            sequences.append(row[:length])
        texts = [] if pair.tokenizer is None else pair.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        assert lm.stats is not None
        return Decoded(sequences, [], texts, lm.stats)

    return decode


def _inexact(name: str, values: Sequence[Any], exact: float) -> Sequence[Any]:
    """The values, if they are numbers that give up exactness."""
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (math.isfinite(value) or value == exact)
        ):
            raise ValueError(f"{name} holds {value!r}; give numbers")
        if value == exact:
            raise ValueError(f"{name} holds {value}, which is exact and takes part anyway; leave it out")
    return values


def _check(methods: Sequence[Method], sets: Mapping[str, Sequence[Example]], repeats: int) -> None:
    if not sets or not all(sets.values()):
        raise ValueError(f"a comparison needs prompts: {[*sets] or 'there are no sets'}, and one has none")
    names = [method.name for method in methods]
    for method in methods:
        if method.plain not in names:
            raise ValueError(f"{method.name!r} is measured against {method.plain!r}, which does not take part")
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")


def _plain(decoded: Decoded) -> dict[str, Any]:
    stats = asdict(decoded.stats)
    return {**stats, "accepted": dict(decoded.stats.accepted)}
