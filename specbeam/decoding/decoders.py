"""The four decoders, search x source, and what they return.

transformers' own `generate` resolves all options (generation config, processors, stopping criteria) and calls our
searches as its loops, so that an option means here what it means there (`loops.py`, `options.py`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from specbeam.compat import input_device
from specbeam.core.beam import Narrow, beam_search
from specbeam.core.draft import NoDraft
from specbeam.core.greedy import Pick, argmax, multinomial, token_search
from specbeam.core.sampling import speculative_sampling
from specbeam.core.stats import Observer, Stats
from specbeam.drafts.model import as_draft
from specbeam.drafts.union import UnionDraft, guarded
from specbeam.engines.target import Target
from specbeam.engines.wrappers import held

from .loops import TargetLoops
from .options import SAVED
from .relaxed import RelaxedPick, check_relaxed, narrowed_by
from .trace import Trace, Tracer
from .trie import keep_to
from .watch import Watch, Watcher

CHAIN = 5  # drafted tokens a pass of speculative sampling, unless a number is given


@dataclass(frozen=True)
class Pair:
    """A target with what decodes it: a draft, the tokenizer of both, and where they came from.

    The target is a causal LM, or a PeftModel with one; of other wrappers the model inside is kept
    (`engines/wrappers.py`). A draft may be given as a causal LM as well, and becomes a `ModelDraft`.

    `revisions` maps "target" (and "draft", where it is a model) to a commit hash of the hub, to the
    fingerprint of the embedded model, or to None for a local folder.
    """

    target: Any
    draft: Any
    tokenizer: Any
    name: str = "target"
    revisions: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", held(self.target))
        object.__setattr__(self, "draft", as_draft(self.draft))


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


def greedy(
    pair: Pair, inputs: Mapping[str, Tensor], *, trace: bool = False, watch: Watch | None = None, **options: Any
) -> Decoded:
    """Greedy decoding, or plain sampling with `do_sample=True`, from the target alone.

    Args:
        pair: target, draft and tokenizer (`load_pair`).
        inputs: `input_ids` and `attention_mask` of shape (batch, prompt length), left-padded (`render_prompt`), and
            further inputs of the model, such as `pixel_values`.
        trace: whether the result keeps what happened round by round.
        watch: called after every committed step with the `Progress`; what it raises ends the decode.
        options: as for transformers' `generate`: `max_new_tokens` (64 unless given), `repetition_penalty`,
            `stop_strings`, `logits_processor`, … (`options.py` has them all). An option may stand in the call, in a
            `generation_config`, or among the checkpoint's saved defaults, as in transformers. And `allowed`, a `Trie`
            of permitted answers, which means what a `prefix_allowed_tokens_fn` of it would, and is drafted from.

    Raises:
        ValueError: for empty or too long prompts and for options that make no sense or cannot be served, naming value
            and remedy.
    """
    return _Decode(pair, instead_of_beams="beam").run(inputs, options, trace, watch)


def beam(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    *,
    num_beams: int | None = None,
    trace: bool = False,
    watch: Watch | None = None,
    **options: Any,
) -> Decoded:
    """Beam search from the target alone; options as for `greedy`, and `length_penalty`, `early_stopping`, …

    `num_beams` is 4 unless the call, the `generation_config` or the checkpoint says otherwise.
    """
    return _Decode(pair).run(inputs, _with_beams(options, num_beams), trace, watch)


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
    if (tolerance, top_r) != (0.0, 1):
        check_relaxed(None, tolerance, top_r)
    pick_for = None if (tolerance, top_r) == (0.0, 1) else partial(RelaxedPick, tolerance, top_r)
    decode = _Decode(pair, pair.draft, num_assistant_tokens, generator, pick_for, instead_of_beams="speculative_beam")
    return decode.run(inputs, options, trace, watch)


def speculative_beam(
    pair: Pair,
    inputs: Mapping[str, Tensor],
    *,
    num_beams: int | None = None,
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
    narrow = None if margin is None or margin == math.inf else narrowed_by(margin)
    decode = _Decode(pair, pair.draft, num_assistant_tokens, narrow=narrow)
    return decode.run(inputs, _with_beams(options, num_beams), trace, watch)


METHODS: dict[str, Callable[..., Decoded]] = {
    "greedy": greedy,
    "beam": beam,
    "speculative": speculative,
    "speculative_beam": speculative_beam,
}


def _with_beams(options: dict[str, Any], num_beams: int | None) -> dict[str, Any]:
    return options if num_beams is None else {**options, "num_beams": num_beams}


class _Decode(TargetLoops):
    """One decode with a search of ours.

    Args:
        draft, num_assistant_tokens: None decodes from the target alone.
        generator: of speculative sampling's draws.
        pick_for: makes greedy's pick, of stop tokens and stats; not exact.
        narrow: beam search's; not exact.
        instead_of_beams: the decoder to name where there are several beams and this one has one; None has several.
    """

    def __init__(
        self,
        pair: Pair,
        draft: Any = None,
        num_assistant_tokens: int | None = None,
        generator: torch.Generator | None = None,
        pick_for: Callable[..., Pick] | None = None,
        narrow: Narrow | None = None,
        instead_of_beams: str | None = None,
    ):
        super().__init__(pair.target)
        self._pair, self._draft, self._draft_size = pair, draft, num_assistant_tokens
        self._generator, self._pick_for, self._narrow = generator, pick_for, narrow
        self._instead_of_beams = instead_of_beams

    def run(self, inputs: Mapping[str, Tensor], options: dict[str, Any], trace: bool, watch: Watch | None) -> Decoded:
        """Decode, and put the result together."""
        inputs = {name: value for name, value in inputs.items() if value is not None}
        if "input_ids" not in inputs:
            raise ValueError("inputs has no input_ids; make it with render_prompt(tokenizer, prompt).")
        self._allowed = options.pop("allowed", None)
        if self._allowed is not None:
            options["prefix_allowed_tokens_fn"] = keep_to(self._allowed, inputs["input_ids"].shape[-1], options)
        if twice := sorted(inputs.keys() & options.keys()):
            raise ValueError(f"{', '.join(twice)} stands in inputs and among the options; give it once.")
        target, pair = Target.of(self.held), self._pair
        if self._draft_size is not None:
            options = {**options, "num_assistant_tokens": self._draft_size}
        defaults = {"max_new_tokens": 64, "num_beams": 1 if self._instead_of_beams else 4}
        options = self.resolve({"tokenizer": pair.tokenizer, **inputs, **options}, defaults, drop_in=False)
        device = input_device(target.model)
        on_device = {name: options[name].to(device) for name in inputs if hasattr(options[name], "to")}
        asked = options.pop("num_assistant_tokens", None)
        if self._draft is not None:
            self._draft_size = asked if asked is not None else self.given("num_assistant_tokens", saved=None)[0]
        tracer = Tracer() if trace else None
        observers: list[Observer] = [tracer] if tracer else []
        if watch is not None:
            observers.append(Watcher(watch, tracer))
        draft = guarded(self._draft, target.ranks)
        if draft is None and self._draft is not None and self._allowed is not None:
            draft = UnionDraft([NoDraft()])  # what a trie leaves no choice about needs none
        with target.decoding(draft, self._draft_size, observers) as self._source:
            super().generate(**{**options, **on_device})  # type: ignore[misc]
        result, stats = self._result, self._source.stats
        stats.new_tokens = sum(map(len, result.sequences))
        traces = tracer.traces() if tracer else None
        returned = len(result.sequences) // len(self._source.trees)
        for b, one in enumerate(traces or []):
            one.results = result.sequences[b * returned : (b + 1) * returned]
        text = []
        if pair.tokenizer is not None:
            text = [pair.tokenizer.decode(sequence, skip_special_tokens=True) for sequence in result.sequences]
        exact = self._pick_for is None and self._narrow is None
        return Decoded(result.sequences, result.scores, text, stats, traces, result.beam_indices, exact)

    def run_loop(self, loop: Callable[..., Any], input_ids: Tensor, **options: Any) -> Tensor:
        """Search in place of transformers' loop; with one beam every returned sequence is a prompt of its own."""
        config, processors = options["generation_config"], options["logits_processor"]
        criteria, streamer = options["stopping_criteria"], options.get("streamer")
        beams = config.num_beams
        if beams > 1 and self._instead_of_beams:
            value, where = self.given("num_beams")
            raise ValueError(
                f"num_beams={value}, from {where}: one beam is decoded here; use {self._instead_of_beams}."
            )
        sampling = bool(config.do_sample)
        if beams > 1 and sampling:
            where = self.given("do_sample")[1]
            raise ValueError(
                f"do_sample=True, from {where}, with num_beams={beams}: beam sampling is served by "
                "SpeculativeLM.generate; or pass do_sample=False."
            )
        if sampling and self.given("do_sample")[1] == SAVED:
            warnings.warn(
                "do_sample=True stands in the checkpoint's generation config, so this samples, as transformers would; "
                "pass do_sample=False for the likeliest tokens.",
                stacklevel=2,
            )
        if sampling and self._pick_for is not None:
            raise ValueError("tolerance and top_r are for greedy decoding; leave them out with do_sample=True.")
        if self._generator is not None and not sampling:
            raise ValueError("generator is only used with do_sample=True; leave it out for greedy decoding.")
        source = self._source
        request = self.request(input_ids, beams, options)
        if self._allowed is not None:
            request = replace(request, allowed=self._allowed.after)
        source.start(request)
        if self._allowed is not None:
            self._allowed.check(source.vocabulary)
        if beams > 1:
            self._result = beam_search(source, processors, criteria, config, self._narrow)
        elif sampling and self._draft is not None:
            chain, generator = CHAIN if self._draft_size is None else self._draft_size, self._generator
            self._result = speculative_sampling(
                source, processors, criteria, chain=chain, generator=generator, streamer=streamer
            )
        else:
            pick = multinomial if sampling else argmax
            if self._pick_for is not None:
                pick = self._pick_for(source.request.stop_tokens, source.stats)
            self._result = token_search(source, processors, criteria, pick, streamer)
        return input_ids
