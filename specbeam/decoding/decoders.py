"""The four decoders, search x source, and what they return.

transformers' own `generate` resolves all options (generation config, processors, stopping criteria) and hands
them to our searches through its `custom_generate` hook, so that an option means here what it means there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList
from transformers.generation.stopping_criteria import StopStringCriteria

from specbeam.compat import CUSTOM_LOOP
from specbeam.core.beam import beam_search
from specbeam.core.greedy import SearchResult, multinomial, token_search
from specbeam.core.sampling import speculative_sampling
from specbeam.core.scorer import Request
from specbeam.core.source import Source
from specbeam.core.stats import Observer, Progress, Stats, Trace, Tracer
from specbeam.drafts.union import guarded
from specbeam.engines.target import Target

from .relaxed import RelaxedPick, check_relaxed, narrowed_by
from .watch import Watcher

CHAIN = 5  # drafted tokens a pass of speculative sampling, unless a number is given


@dataclass(frozen=True)
class Pair:
    """A target with what decodes it: a draft, the tokenizer of both, and where they came from.

    `revisions` maps "target" (and "draft", where it is a model) to a commit hash of the hub, to the
    fingerprint of the embedded model, or to None for a local folder.
    """

    target: PreTrainedModel
    draft: Any
    tokenizer: Any
    name: str = "target"
    revisions: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoded:
    """The result of a decoder: prompt after prompt, `num_return_sequences` each, best first."""

    sequences: list[list[int]]  # token ids, prompt excluded, EOS included
    scores: list[float]  # beam search: as transformers' sequences_scores; else the sum of log-probabilities (nats)
    text: list[str]
    stats: Stats
    trace: list[Trace] | None = None  # one a prompt, if asked for
    beam_indices: list[list[int]] | None = None  # beam search only, as transformers'
    exact: bool = True  # whether the options promise the result of the search on the target alone


Watch = Callable[[Progress], object]
# a source that has started, processors, criteria, the resolved generation config
Search = Callable[[Source, Any, Any, Any], SearchResult]


def greedy(
    pair: Pair, inputs: Mapping[str, Tensor], *, trace: bool = False, watch: Watch | None = None, **options: Any
) -> Decoded:
    """Greedy decoding, or plain sampling with `do_sample=True`, from the target alone.

    Args:
        pair: target, draft and tokenizer (`load_pair`).
        inputs: `input_ids` and `attention_mask` of shape (batch, prompt length), left-padded (`render_prompt`).
        trace: whether the result keeps what happened round by round.
        watch: called after every committed step with the `Progress`; what it raises ends the decode.
        options: as for transformers' `generate`: `max_new_tokens` (64 unless given), `repetition_penalty`,
            `stop_strings`, `logits_processor`, …

    Raises:
        ValueError: for empty or too long prompts and for options that make no sense, naming value and remedy.
    """
    _refuse_beams("greedy", "beam", options)
    return _decode(pair, inputs, None, 0, _search_tokens, trace, watch, options)


def beam(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    *,
    num_beams: int = 4,
    trace: bool = False,
    watch: Watch | None = None,
    **options: Any,
) -> Decoded:
    """Beam search from the target alone; options as for `greedy`, and `length_penalty`, `early_stopping`, …"""
    return _decode(pair, inputs, None, 0, beam_search, trace, watch, {**options, "num_beams": num_beams})


def speculative(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    *,
    num_assistant_tokens: int | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = 0.0,
    top_r: int = 1,
    trace: bool = False,
    watch: Watch | None = None,
    **options: Any,
) -> Decoded:
    """Speculative decoding: greedy decoding's tokens in fewer target passes.

    With `do_sample=True` it is speculative sampling by rejection (Leviathan et al. 2023; Chen et al. 2023): the
    target's distribution, though not the same draws; randomness then comes from `generator`.

    Args:
        num_assistant_tokens: most drafted tokens a pass; None chooses.
        tolerance, top_r: *not exact* unless 0 and 1: a verified token may stand in for the likeliest one if it is
            at most `tolerance` nats less likely, or among the `top_r` likeliest (`RelaxedPick`).
    """
    _refuse_beams("speculative", "speculative_beam", options)
    if (tolerance, top_r) != (0.0, 1):
        check_relaxed(None, tolerance, top_r)
    exact, sampling, search = tolerance == 0 and top_r == 1, options.get("do_sample"), _search_tokens
    if not exact:
        if sampling:
            raise ValueError("tolerance and top_r are for greedy decoding; leave them out with do_sample=True.")
        search = partial(_search_tokens, pick_for=partial(RelaxedPick, tolerance, top_r))
    if sampling:
        chain = CHAIN if num_assistant_tokens is None else num_assistant_tokens
        search = partial(_sample_speculatively, chain=chain, generator=generator)
    elif generator is not None:
        raise ValueError("generator is only used with do_sample=True; leave it out for greedy decoding.")
    return _decode(pair, inputs, pair.draft, num_assistant_tokens, search, trace, watch, options, exact)


def speculative_beam(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    *,
    num_beams: int = 4,
    num_assistant_tokens: int | None = None,
    margin: float | None = None,
    trace: bool = False,
    watch: Watch | None = None,
    **options: Any,
) -> Decoded:
    """Speculative beam search: beam search's results in fewer target passes. Options as for `beam`.

    Args:
        num_assistant_tokens: most drafted tokens a pass and prompt, all beams together; None chooses.
        margin: *not exact* unless None (or infinite): a step does without running sequences that are not verified if
            they look more than so many nats too weak to matter (`droppable_rows`). May be negative.
    """
    if margin is not None:
        check_relaxed(margin, 0.0, 1)
    exact = margin is None or margin == math.inf
    search = beam_search if margin is None or exact else partial(beam_search, narrow=narrowed_by(margin))
    options = {**options, "num_beams": num_beams}
    return _decode(pair, inputs, pair.draft, num_assistant_tokens, search, trace, watch, options, exact)


METHODS: dict[str, Callable[..., Decoded]] = {
    "greedy": greedy,
    "beam": beam,
    "speculative": speculative,
    "speculative_beam": speculative_beam,
}


def _refuse_beams(method: str, instead: str, options: Mapping[str, Any]) -> None:
    if options.get("num_beams", 1) != 1:
        raise ValueError(f"{method} has one beam, got num_beams={options['num_beams']}; use {instead} for more.")


def _search_tokens(
    source: Source, processors: Any, criteria: Any, config: GenerationConfig, pick_for: Any = None
) -> SearchResult:
    pick = {"pick": multinomial} if config.do_sample else {}
    if pick_for is not None:
        pick = {"pick": pick_for(source.request.stop_tokens, source.stats)}
    return token_search(source, processors, criteria, **pick)


def _sample_speculatively(
    source: Source, processors: Any, criteria: Any, config: GenerationConfig, **options: Any
) -> SearchResult:
    return speculative_sampling(source, processors, criteria, **options)


def _decode(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    draft: Any,
    num_assistant_tokens: int | None,
    search: Search,
    trace: bool,
    watch: Watch | None,
    options: dict[str, Any],
    exact: bool = True,
) -> Decoded:
    if "input_ids" not in inputs:
        raise ValueError("inputs has no input_ids; make it with render_prompt(tokenizer, prompt).")
    input_ids = inputs["input_ids"]
    attention_mask = inputs.get("attention_mask", torch.ones_like(input_ids))
    assert attention_mask is not None
    options = {"max_new_tokens": 64, "do_sample": False, "num_beams": 1, "num_return_sequences": 1, **options}
    target = Target.of(pair.target)
    target.check_request(input_ids, options)
    if options["do_sample"] and options["num_beams"] > 1:
        raise ValueError("beam sampling is served by SpeculativeLM.generate(num_beams=…, do_sample=True).")
    if options["num_beams"] == 1 and options["num_return_sequences"] != 1:
        raise ValueError("num_return_sequences above 1 needs beams; use beam, speculative_beam or SpeculativeLM.")
    tokenizer = options.pop("tokenizer", pair.tokenizer)
    if (stop_strings := options.pop("stop_strings", None)) is not None:
        criteria = options.get("stopping_criteria") or []
        options["stopping_criteria"] = StoppingCriteriaList([*criteria, StopStringCriteria(tokenizer, stop_strings)])
    tracer = Tracer() if trace else None
    observers: list[Observer] = [tracer] if tracer else []
    if watch is not None:
        observers.append(Watcher(watch, tracer))
    results: list[SearchResult] = []

    def run(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Tensor:
        prompts = input_ids[:: generation_config.num_beams]
        source.start(
            Request.of(prompts, attention_mask.to(prompts.device), generation_config, generation_config.num_beams)
        )
        results.append(search(source, logits_processor, stopping_criteria, generation_config))
        return input_ids

    device, model = pair.target.device, pair.target
    with target.decoding(guarded(draft, target.ranks), num_assistant_tokens, observers) as source:
        model.generate(  # type: ignore[operator]  # a mixin that type checkers do not see through
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            use_cache=False,
            **{CUSTOM_LOOP: run},
            **options,
        )
    (result,) = results
    stats = source.stats
    stats.new_tokens = sum(map(len, result.sequences))
    traces = tracer.traces() if tracer else None
    for b, one in enumerate(traces or []):
        returned = options["num_return_sequences"]
        one.results = result.sequences[b * returned : (b + 1) * returned]
    text = []
    if pair.tokenizer is not None:
        text = [pair.tokenizer.decode(sequence, skip_special_tokens=True) for sequence in result.sequences]
    return Decoded(result.sequences, result.scores, text, stats, traces, result.beam_indices, exact)
