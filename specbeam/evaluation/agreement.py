"""How often our tokens equal transformers' in low precision, and whether rounding explains the differences.

In float64 and float32 they are always equal. In bfloat16 two continuations are often equally likely up to rounding, and
the order of additions decides. transformers then differs even from itself, for example when the prompt is padded. So
the rate needs that *control* beside it, and every difference needs an explanation: at the first step where two decodes
continue different sequences, these must be equally likely, up to the noise that transformers itself shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from specbeam.decoding.decoders import speculative, speculative_beam
from specbeam.models.load import Pair

from .likelihood import log_probs, token_log_probs

PADDING = 3  # tokens that the control puts in front of the prompt
NODES = 8  # drafted nodes a pass: a tree is compared also where drafting would not pay


@dataclass(frozen=True)
class Difference:
    """Where two decodes of one prompt diverge."""

    prompt: int
    step: int  # the first that continues different sequences; the number of steps if only the results differ
    margin: float  # nats between the two sequences under the target, scaled to one length if their lengths differ
    control: bool  # whether it is transformers against itself


@dataclass(frozen=True)
class Agreement:
    """The result of `agreement`.

    `noise` (nats) is the largest change of a score between ways in which transformers can read the same text: in one
    pass, after padding, and token by token as `generate` does. It is at least the spacing of numbers in the model's
    dtype at its largest logit.
    """

    prompts: int
    equal: int  # prompts on which our tokens are transformers'
    control_equal: int  # prompts on which transformers repeated its own tokens after padding the prompt
    noise: float
    differences: list[Difference]

    @property
    def rate(self) -> float:
        return self.equal / self.prompts

    @property
    def control_rate(self) -> float:
        return self.control_equal / self.prompts

    @property
    def unexplained(self) -> list[Difference]:
        """Differences from transformers beyond the noise of two sequences: bugs until proven otherwise."""
        return [one for one in self.differences if not one.control and one.margin > 2 * self.noise]


def agreement(
    pair: Pair, prompts: Sequence[Mapping[str, Tensor]], *, num_beams: int = 1, max_new_tokens: int = 32
) -> Agreement:
    """Decode each prompt speculatively, by transformers, and by transformers with a padded prompt; compare.

    Args:
        pair: target, draft and tokenizer.
        prompts: inputs of one prompt each, without padding (`render_prompt`).
        num_beams: 1 compares `speculative` with greedy decoding, more `speculative_beam` with beam search.

    Raises ValueError for no prompts, and for inputs with several.
    """
    if not prompts:
        raise ValueError("agreement needs at least one prompt.")
    target: Any = pair.target
    equal, control_equal, noise = 0, 0, 0.0
    differences: list[Difference] = []
    for number, inputs in enumerate(prompts):
        ids = inputs["input_ids"]
        if len(ids) != 1:
            raise ValueError(f"agreement takes inputs of one prompt each; number {number} holds {len(ids)}.")
        ids = ids.to(target.device)
        options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
        theirs = _generated(target, ids, 0, num_beams, options)
        again = _generated(target, ids, PADDING, num_beams, options)
        ours = _Search(ids.shape[1])
        request = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        options = {**options, "logits_processor": LogitsProcessorList([ours])}
        decode = speculative if num_beams == 1 else partial(speculative_beam, num_beams=num_beams)
        ours.result = decode(pair, request, num_assistant_tokens=NODES, **options).sequences[0]
        noise = max(noise, _noise(target, ids, theirs, of_sums=num_beams > 1))
        for other, control in ((ours, False), (again, True)):
            if other.result == theirs.result:
                equal, control_equal = equal + (not control), control_equal + control
            else:
                step, *both = _divergence(other, theirs)
                one, two = (sum(each) / len(each) for each in log_probs(target, ids, both))
                margin = abs(one - two) * 2 / sum(1 / len(tokens) for tokens in both)
                differences.append(Difference(number, step, margin, control))
    return Agreement(len(prompts), equal, control_equal, noise, differences)


class _Search(LogitsProcessor):
    """Changes nothing and records the running sequences of a search, step by step."""

    def __init__(self, prompt_length: int):
        self.prompt_length = prompt_length
        self.running: list[list[list[int]]] = []
        self.result: list[int] = []
        self.scores = torch.empty(0)  # `generate`'s log-probabilities of the result; of beams, their sum

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.running.append(input_ids[:, self.prompt_length :].tolist())
        return scores


def _generated(target: Any, ids: Tensor, padding: int, num_beams: int, options: Mapping[str, Any]) -> _Search:
    """transformers' own decode of a prompt after so many padding tokens."""
    search = _Search(ids.shape[1] + padding)
    padded, mask = _padded(ids, padding)
    output = target.generate(
        input_ids=padded,
        attention_mask=mask,
        num_beams=num_beams,
        logits_processor=LogitsProcessorList([search]),
        return_dict_in_generate=True,
        output_logits=num_beams == 1,
        output_scores=num_beams > 1,
        **options,
    )
    search.result = output.sequences[0, padded.shape[1] :].tolist()
    if num_beams > 1:
        penalty = target.generation_config.length_penalty
        search.scores = output.sequences_scores.cpu() * len(search.result) ** (1.0 if penalty is None else penalty)
    else:
        search.scores = token_log_probs(torch.cat(output.logits), search.result)
    return search


def _padded(ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    filler = ids.new_zeros(1, padding)
    return torch.cat([filler, ids], 1), torch.cat([filler, torch.ones_like(ids)], 1)


def _divergence(one: _Search, two: _Search) -> tuple[int, list[int], list[int]]:
    """The first step at which two decodes continue different sequences, and the first two that differ."""
    for step, (rows, others) in enumerate(zip(one.running, two.running, strict=False)):
        for row, other in zip(rows, others, strict=True):
            if row != other:
                return step, row, other
    first, second = one.result, two.result
    step = min(len(one.running), len(two.running))
    if len(one.running[0]) == 1:  # greedy decoding compares single tokens, not what follows them
        first, second = first[:step], second[:step]
    return step, first, second


@torch.inference_mode()
def _logits(target: Any, ids: Tensor, tokens: Sequence[int], padding: int = 0) -> Tensor:
    """The target's logits for each of `tokens` after a prompt, from one pass; shape (tokens, vocabulary)."""
    text = torch.tensor([list(tokens)], device=ids.device)
    padded, mask = _padded(torch.cat([ids, text], 1), padding)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    options = {"position_ids": positions} if padding else {}
    logits = target(input_ids=padded, attention_mask=mask, use_cache=False, **options).logits[0]
    return logits[-len(tokens) - 1 : -1]


def _noise(target: Any, ids: Tensor, theirs: _Search, of_sums: bool) -> float:
    """The largest change of a token's log-probability, or of a sum over the first tokens, by another way of reading."""
    logits = _logits(target, ids, theirs.result)
    both = (logits, _logits(target, ids, theirs.result, PADDING))
    plain, padded = (token_log_probs(one.float(), theirs.result) for one in both)  # `generate` gives float32 too
    by_padding, by_steps = plain - padded, plain.cpu() - theirs.scores.cpu()
    if of_sums:
        by_padding, by_steps = by_padding.double().cumsum(0), plain.double().sum().cpu() - theirs.scores.cpu()
    _, exponent = math.frexp(float(logits.abs().max()))
    spacing = torch.finfo(logits.dtype).eps * 2.0 ** (exponent - 1)
    return max(float(by_padding.abs().max()), float(by_steps.abs().max()), spacing)
