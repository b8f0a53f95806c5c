"""The four decoders, search x source, and what they return.

transformers' own `generate` resolves all options (generation config, processors, stopping criteria) and hands
them to our searches through its `custom_generate` hook, so that an option means here what it means there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteriaList
from transformers.generation.stopping_criteria import StopStringCriteria

from specbeam.core.autoregressive import Autoregressive
from specbeam.core.beam import beam_search
from specbeam.core.greedy import Found, multinomial, token_search
from specbeam.core.sampling import speculative_sampling
from specbeam.core.source import Speculative
from specbeam.core.stats import Progress, Stats, Trace
from specbeam.models.load import Pair

from .lock import turn
from .options import check_request, refuse_beams
from .relaxed import RelaxedPick, check_relaxed


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
    refuse_beams("greedy", "beam", options)
    return _decode(pair, inputs, Autoregressive(pair.target, trace), _token_search, trace, watch, options)


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
    source = Autoregressive(pair.target, trace)
    return _decode(pair, inputs, source, _beam_search, trace, watch, {**options, "num_beams": num_beams})


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
    refuse_beams("speculative", "speculative_beam", options)
    source = Speculative(pair.target, pair.draft, num_assistant_tokens, trace)
    search = _token_search
    check_relaxed(None, tolerance, top_r)
    exact = tolerance == 0 and top_r == 1
    if not exact:
        if options.get("do_sample"):
            raise ValueError("tolerance and top_r are for greedy decoding; leave them out with do_sample=True.")
        search = partial(_relaxed_search, tolerance=tolerance, top_r=top_r)
    if options.get("do_sample"):
        chain = 5 if num_assistant_tokens is None else num_assistant_tokens
        search = partial(_rejection_search, chain=chain, generator=generator)
    elif generator is not None:
        raise ValueError("generator is only used with do_sample=True; leave it out for greedy decoding.")
    return _decode(pair, inputs, source, search, trace, watch, options, exact)


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
    check_relaxed(margin, 0.0, 1)
    exact = margin is None or margin == math.inf
    search = _beam_search if exact else partial(_beam_search, margin=margin)
    source = Speculative(pair.target, pair.draft, num_assistant_tokens, trace)
    return _decode(pair, inputs, source, search, trace, watch, {**options, "num_beams": num_beams}, exact)


METHODS: dict[str, Callable[..., Decoded]] = {
    "greedy": greedy,
    "beam": beam,
    "speculative": speculative,
    "speculative_beam": speculative_beam,
}


def _token_search(source: Any, trees: Any, ids: Tensor, processors: Any, criteria: Any, config: Any) -> Found:
    if config.do_sample:
        return token_search(source, trees, ids, processors, criteria, config, multinomial)
    return token_search(source, trees, ids, processors, criteria, config)


def _relaxed_search(
    source: Any, trees: Any, ids: Tensor, processors: Any, criteria: Any, config: Any, *, tolerance: float, top_r: int
) -> Found:
    pick = RelaxedPick(tolerance, top_r, source.stop_tokens, source.stats)
    return token_search(source, trees, ids, processors, criteria, config, pick)


def _beam_search(
    source: Any, trees: Any, ids: Tensor, processors: Any, criteria: Any, config: Any, margin: float | None = None
) -> Found:
    if config.do_sample:
        raise ValueError("beam sampling is served by SpeculativeLM.generate(num_beams=…, do_sample=True).")
    return beam_search(source, trees, ids, processors, criteria, config, margin)


def _rejection_search(*arguments: Any, chain: int, generator: torch.Generator | None) -> Found:
    return speculative_sampling(*arguments, chain=chain, generator=generator)


def _decode(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    source: Autoregressive,
    search: Callable[..., Found],
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
    check_request(pair.target, input_ids, options)
    if options["num_beams"] == 1 and options["num_return_sequences"] != 1:
        raise ValueError("num_return_sequences above 1 needs beams; use beam, speculative_beam or SpeculativeLM.")
    stop_strings = options.pop("stop_strings", None)
    if stop_strings is not None:
        criteria = StoppingCriteriaList(options.get("stopping_criteria") or [])
        criteria.append(StopStringCriteria(options.pop("tokenizer", pair.tokenizer), stop_strings))
        options["stopping_criteria"] = criteria
    options.pop("tokenizer", None)
    found: list[Found] = []

    def run(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Tensor:
        prompts = input_ids[:: generation_config.num_beams]
        eos = generation_config._eos_token_tensor
        trees = source.start(
            prompts,
            attention_mask,
            max_new_tokens=generation_config.max_length - prompts.shape[1],
            num_beams=generation_config.num_beams,
            stop_tokens=[] if eos is None else eos.tolist(),
        )
        found.append(search(source, trees, prompts, logits_processor, stopping_criteria, generation_config))
        return input_ids

    source.watch = watch
    device = pair.target.device
    target: Any = pair.target  # generate is a mixin that type checkers do not see through
    with turn(target):
        target.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            custom_generate=run,
            use_cache=False,
            **options,
        )
    stats = source.finish()
    stats.new_tokens = sum(map(len, found[0].sequences))
    traces = source.traces() if trace else None
    for b, one in enumerate(traces or []):
        returned = options["num_return_sequences"]
        one.results = found[0].sequences[b * returned : (b + 1) * returned]
    text = []
    if pair.tokenizer is not None:
        text = [pair.tokenizer.decode(sequence, skip_special_tokens=True) for sequence in found[0].sequences]
    return Decoded(found[0].sequences, found[0].scores, text, stats, traces, found[0].beam_indices, exact)
