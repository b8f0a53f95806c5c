"""What a comparison found: a row of figures for each set and method, with intervals over prompts.

Reads the plain data of `comparison.compare` and runs no model. A figure that a set or method does not have (ROUGE
without references, diversity of one beam) is None. `comparison_words` puts the rows into words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from specbeam.core.stats import Stats

from . import metrics, quality
from .comparison import BEAM, GREEDY
from .intervals import bootstrap, bootstrap_paired, bootstrap_ratio, mean
from .likelihood import Likelihood, perplexity, score_gaps


def summarise(found: Mapping[str, Any], length_penalty: float = 1.0, resamples: int = 1000) -> list[dict[str, Any]]:
    """One row a set and method, sets in their order. Intervals are dicts of value, low, high, level and n.

    "speedup": {method: interval} holds the speed against `plain` and against every exact method, prompt by prompt, from
    the median of each prompt's repeats. "gap" is the mean gap of the score to that of exact beam search and "gap_nats"
    that of the log-probability, where beam search takes part. "rougeL_gain" is the difference to greedy's
    ROUGE-L, in pairs.
    """
    rows = []
    for name in dict.fromkeys(prompt["set"] for prompt in found["prompts"]):
        numbers = [number for number, prompt in enumerate(found["prompts"]) if prompt["set"] == name]
        runs = [run for run in found["runs"] if run["prompt"] in numbers]
        mine = {one["name"]: [run for run in runs if run["method"] == one["name"]] for one in found["methods"]}
        references = [found["prompts"][number]["reference"] for number in numbers]
        compared = _against_references(mine, references, resamples)
        for method in found["methods"]:
            row = {"set": name, "method": method["name"], "plain": method["plain"], "label": label(method)}
            row |= {"num_beams": method["num_beams"], "prompts": len(numbers)}
            row |= _speed(found["methods"], method, mine, resamples)
            row |= _likelihoods(mine, method["name"], length_penalty, resamples)
            rows.append(row | compared[method["name"]] | _texts(mine[method["name"]], method["num_beams"]))
    return rows


def label(method: Mapping[str, Any]) -> str:
    """ "exact", "inexact" or "random": what stands beside a method's name wherever it is shown."""
    return {True: "exact", False: "inexact", None: "random"}[method["exact"]]


def _speed(
    methods: Sequence[Mapping[str, Any]], method: Mapping[str, Any], mine: Mapping[str, Any], resamples: int
) -> dict[str, Any]:
    runs = mine[method["name"]]
    seconds = {name: [median(run["seconds"]) for run in many] for name, many in mine.items()}
    own = seconds[method["name"]]
    tokens = [len(run["sequences"][0]) for run in runs]
    stats = [_stats(run["stats"]) for run in runs]
    baselines = dict.fromkeys([method["plain"], *(one["name"] for one in methods if one["exact"])])
    measured = metrics.latency(stats, method["num_beams"], tokens)
    steps = sum(one.steps for one in stats)
    return {
        "seconds": mean(own),
        "speedup": {name: asdict(bootstrap_ratio(seconds[name], own, resamples=resamples)) for name in baselines},
        "worst_prompt": min(a / b for a, b in zip(seconds[method["plain"]], own, strict=True)),
        "tokens": sum(tokens),
        "tokens_per_second": asdict(bootstrap_ratio(tokens, own, resamples=resamples)),
        "ms_per_token": 1000 * sum(own) / sum(tokens) if sum(tokens) else None,
        "ms_per_token_p95": measured["ms_per_token_p95"],
        "first_token_s": measured["first_token_s_p50"],
        "passes_per_token": metrics.passes_per_token(stats, tokens),
        "steps_per_pass": metrics.steps_per_pass(stats),
        "acceptance_rate": metrics.acceptance_rate(stats, method["num_beams"]),
        "accepted": metrics.accepted_histogram(stats),
        "peak_kv_slots": metrics.peak_kv_slots(stats),
        "relaxed_steps": sum(one.relaxed_steps for one in stats) / steps if steps else 0.0,
    }


def _stats(plain: Mapping[str, Any]) -> Stats:
    """Statistics from plain data, JSON's too, whose names of numbers are texts."""
    return Stats(**{**plain, "accepted": Counter({int(size): count for size, count in plain["accepted"].items()})})


def _likelihoods(mine: Mapping[str, Any], name: str, length_penalty: float, resamples: int) -> dict[str, Any]:
    """Perplexity, gaps to exact beam search, and bits a byte under a judge."""
    own = _likelihood(mine[name])
    found: dict[str, Any] = {"perplexity": None, "gap": None, "gap_nats": None, "bits_per_byte": None}
    if own.rows:
        found["perplexity"] = asdict(bootstrap(own.rows, perplexity, resamples=resamples))
    if BEAM in mine:
        gaps = score_gaps(own, _likelihood(mine[BEAM]), length_penalty)
        found["gap"] = asdict(bootstrap([gap.score for gap in gaps], resamples=resamples))
        found["gap_nats"] = asdict(bootstrap([gap.nats for gap in gaps], resamples=resamples))
    judged = [run["judge"] for run in mine[name] if run.get("judge") and run["judge"][1]]
    if judged:
        found["bits_per_byte"] = asdict(bootstrap(judged, _bits_per_byte, resamples=resamples))
    return found


def _likelihood(runs: Sequence[Mapping[str, Any]]) -> Likelihood:
    return Likelihood([run["nats"] for run in runs], [len(run["sequences"][0]) for run in runs])


def _bits_per_byte(rows: Any) -> float:
    nats, sizes = (math.fsum(column) for column in zip(*rows, strict=True))
    return -nats / math.log(2) / sizes


def _against_references(
    mine: Mapping[str, Any], references: Sequence[str | None], resamples: int
) -> dict[str, dict[str, Any]]:
    """ROUGE, BLEU and the gain over greedy for each method; None where a prompt of the set has no reference."""
    names = (*quality.ROUGE, "bleu", "rougeL_gain")
    complete = [one for one in references if one is not None and one.strip()]
    if len(complete) < len(references):
        return {name: dict.fromkeys(names) for name in mine}
    texts = {name: [run["texts"][0] for run in runs] for name, runs in mine.items()}
    scores = {name: quality.rouge(outputs, complete) for name, outputs in texts.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, outputs in texts.items():
        each: dict[str, Any] = {k: asdict(bootstrap(scores[name][k], resamples=resamples)) for k in quality.ROUGE}
        each["bleu"] = asdict(quality.bleu(outputs, complete, resamples=resamples).interval)
        each["rougeL_gain"] = None
        if GREEDY in scores:
            pair = [scores[name]["rougeL"], scores[GREEDY]["rougeL"]]
            each["rougeL_gain"] = asdict(bootstrap_paired(pair, lambda a, b: mean(a) - mean(b), resamples=resamples))
        found[name] = each
    return found


def _texts(runs: Sequence[Mapping[str, Any]], num_beams: int) -> dict[str, Any]:
    """How many outputs are equal to the plain method's or empty, and how much the beams of a prompt differ."""
    beams = None
    if num_beams > 1:
        beams = quality.mean_over_prompts([quality.diversity(run["sequences"], run["texts"]) for run in runs])
    return {
        "equal": sum(run["equal"] for run in runs),
        "all_equal": sum(run["all_equal"] for run in runs),
        "empty": sum(not run["texts"][0].strip() for run in runs),
        "repeatable": sum(run["repeatable"] for run in runs),
        "diversity": beams,
    }
