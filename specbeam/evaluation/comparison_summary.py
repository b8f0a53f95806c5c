"""Figures of a comparison: one row for each set and method, with intervals over prompts.

Reads the plain data of `comparison.compare` and runs no model. A figure that does not exist for a set or method (ROUGE
without references, the diversity of one beam) is None. `comparison_words` writes sentences about the rows.

"rouge_tokenizer" and "bleu_signature" say what ROUGE and BLEU count in a set, which depends on the script of its
references, and "self_bleu_tokenizers" the same of the beams' own texts. Distinct-n and the edit distance count the
target's tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from specbeam.core.stats import Stats

from . import metrics, quality, words
from .comparison import BEAM, GREEDY
from .intervals import bootstrap, bootstrap_ratio, mean
from .likelihood import Scored, bits_per_byte, perplexity, score_gaps

Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # of one set, by method


def summarise(compared: Mapping[str, Any], length_penalty: float = 1.0, resamples: int = 1000) -> list[dict[str, Any]]:
    """One row for each set and method, sets in their order. Intervals are dicts of value, low, high, level and n.

    "speedup": {method: interval} is the speed against `plain` and against every exact method, prompt by prompt, from
    the median of each prompt's repeats. "gap" is the mean gap of the score to that of exact beam search and "gap_nats"
    that of the log-probability, if beam search was compared. "rougeL_gain" is the paired difference to greedy's.
    """
    methods, rows = compared["methods"], []
    settings: dict[str, Any] = {"resamples": resamples}
    for name in dict.fromkeys(prompt["set"] for prompt in compared["prompts"]):
        prompts = {number: prompt for number, prompt in enumerate(compared["prompts"]) if prompt["set"] == name}
        mine = [run for run in compared["runs"] if run["prompt"] in prompts]
        runs = {one["name"]: [run for run in mine if run["method"] == one["name"]] for one in methods}
        scores = _against_references(runs, [prompt["reference"] for prompt in prompts.values()], settings)
        for method in methods:
            row = {"set": name, "method": method["name"], "plain": method["plain"], "label": label(method)}
            row |= {"num_beams": method["num_beams"], "prompts": len(prompts)}
            row |= _speed(methods, method, runs, settings)
            row |= _likelihoods(runs, method["name"], length_penalty, settings)
            rows.append(row | scores[method["name"]] | _texts(runs[method["name"]], method["num_beams"]))
    return rows


def label(method: Mapping[str, Any]) -> str:
    """ "exact", "inexact" or "random", to be shown beside the method's name."""
    return {True: "exact", False: "inexact", None: "random"}[method["exact"]]


def _interval(values: Any, statistic: Any = mean, **settings: Any) -> dict[str, Any]:
    return asdict(bootstrap(values, statistic=statistic, **settings))


def _speed(
    methods: Sequence[Mapping[str, Any]], method: Mapping[str, Any], mine: Runs, settings: Any
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
        "speedup": {name: asdict(bootstrap_ratio(seconds[name], own, **settings)) for name in baselines},
        "worst_prompt": min(a / b for a, b in zip(seconds[method["plain"]], own, strict=True)),
        "tokens": sum(tokens),
        "tokens_per_second": asdict(bootstrap_ratio(tokens, own, **settings)),
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
    """Statistics from plain data; JSON has turned the numbers of steps into strings."""
    return Stats(**{**plain, "accepted": Counter({int(size): count for size, count in plain["accepted"].items()})})


def _likelihoods(mine: Runs, name: str, length_penalty: float, settings: Any) -> dict[str, Any]:
    """Perplexity, gaps to exact beam search, and bits a byte under a judge."""
    own = _scored(mine[name])
    figures: dict[str, Any] = dict.fromkeys(("perplexity", "gap", "gap_nats", "bits_per_byte"))
    if with_tokens := [row for row in own if row[1]]:
        figures["perplexity"] = _interval(with_tokens, perplexity, **settings)
    if BEAM in mine:
        gaps = score_gaps(own, _scored(mine[BEAM]), length_penalty)
        figures["gap"] = _interval([gap.score for gap in gaps], **settings)
        figures["gap_nats"] = _interval([gap.nats for gap in gaps], **settings)
    judged = [run["judge"] for run in mine[name] if run.get("judge") and run["judge"][1]]
    if judged:
        figures["bits_per_byte"] = _interval(judged, bits_per_byte, **settings)
    return figures


def _scored(runs: Sequence[Mapping[str, Any]]) -> list[Scored]:
    return [(run["nats"], len(run["sequences"][0])) for run in runs]


def _against_references(mine: Runs, references: Sequence[str | None], settings: Any) -> dict[str, dict[str, Any]]:
    """ROUGE, BLEU and the gain over greedy for each method; None if a prompt of the set has no reference with words."""
    complete = [one for one in references if one is not None and words.tokens(one)]
    if len(complete) < len(references):
        names = (*quality.ROUGE, "rouge_tokenizer", "bleu", "bleu_signature", "rougeL_gain")
        return {name: dict.fromkeys(names) for name in mine}
    texts = {name: [run["texts"][0] for run in runs] for name, runs in mine.items()}
    scores = {name: quality.rouge(outputs, complete) for name, outputs in texts.items()}
    tokenizer = quality.rouge_tokenizer(complete)
    figures: dict[str, dict[str, Any]] = {}
    for name, outputs in texts.items():
        each: dict[str, Any] = {kind: _interval(scores[name][kind], **settings) for kind in quality.ROUGE}
        bleu = quality.bleu(outputs, complete, **settings)
        each |= {"rouge_tokenizer": tokenizer, "bleu": asdict(bleu.interval), "bleu_signature": bleu.signature}
        each["rougeL_gain"] = None
        if GREEDY in scores:
            both = scores[name]["rougeL"], scores[GREEDY]["rougeL"]
            each["rougeL_gain"] = asdict(bootstrap(*both, statistic=lambda a, b: mean(a) - mean(b), **settings))
        figures[name] = each
    return figures


def _texts(runs: Sequence[Mapping[str, Any]], num_beams: int) -> dict[str, Any]:
    """How many outputs equal the plain method's or are empty, and how much the beams of a prompt differ."""
    beams, tokenizers = None, None
    if num_beams > 1:
        tokenizers = sorted({quality.bleu_tokenizer(run["texts"]) for run in runs})
        beams = quality.mean_over_prompts([quality.diversity(run["sequences"], run["texts"]) for run in runs])
    return {
        "equal": sum(run["equal"] for run in runs),
        "all_equal": sum(run["all_equal"] for run in runs),
        "empty": sum(not run["texts"][0].strip() for run in runs),
        "repeatable": sum(run["repeatable"] for run in runs),
        "diversity": beams,
        "self_bleu_tokenizers": tokenizers,
    }
