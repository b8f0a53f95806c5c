"""How often transformers' tokens come out where rounding can decide, and whether rounding explains the differences.

In float64 and float32 the answer is always. In bfloat16 two continuations are often equally likely up to rounding,
and then the order of additions decides. transformers disagrees with itself too under a change that means nothing,
such as padding the prompt. So a rate says little without that *control* beside it, and each difference needs a reason:
at the first step where two decodes stand on different sequences, those must be as likely as each other, up to the noise
that transformers itself shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from specbeam.decoding.decoders import speculative, speculative_beam
from specbeam.models.load import Pair

PADDING = 3  # tokens that the control puts in front of the prompt


@dataclass(frozen=True)
class Difference:
    """Where two decodes of a prompt part."""

    prompt: int
    step: int  # the first one before which they stand on different sequences; their number, if only the results differ
    margin: float  # nats between the two sequences, by the target; as if of one length, if they are of two
    control: bool  # whether it is transformers against itself


@dataclass(frozen=True)
class Agreement:
    """What `agreement` found.

    `noise` (nats) is the largest change of a score between two ways in which transformers reads the same text: behind
    padding, and token by token as `generate` does. It is no less than the distance of two neighbouring numbers of the
    model's dtype at its largest logit: a logit is not known any better.
    """

    prompts: int
    equal: int  # prompts with transformers' tokens
    control_equal: int  # prompts on which transformers gave its own tokens again, with a padded prompt
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
        """Differences from transformers whose margin is beyond the noise of two sequences: bugs, until shown else."""
        return [one for one in self.differences if not one.control and one.margin > 2 * self.noise]


def agreement(
    pair: Pair, prompts: Sequence[Mapping[str, Tensor]], *, num_beams: int = 1, max_new_tokens: int = 32
) -> Agreement:
    """Decode each prompt speculatively, by transformers, and by transformers with a padded prompt; compare.

    Args:
        pair: target, draft and tokenizer.
        prompts: inputs of one prompt each, without padding (`render_prompt`).
        num_beams: 1 compares `speculative` with greedy decoding, more `speculative_beam` with beam search.

    Raises ValueError for no prompt, and for inputs that hold several.
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
        options = {"max_new_tokens": max_new_tokens}
        theirs = _generated(target, ids, 0, num_beams, options)
        again = _generated(target, ids, PADDING, num_beams, options)
        ours = _Steps(ids.shape[1])
        request = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        options = {**options, "logits_processor": LogitsProcessorList([ours])}
        if num_beams == 1:
            found = speculative(pair, request, **options)
        else:
            found = speculative_beam(pair, request, num_beams=num_beams, **options)
        ours.result = found.sequences[0]
        noise = max(noise, _noise(target, ids, theirs, of_sums=num_beams > 1))
        for other, control in ((ours, False), (again, True)):
            if other.result == theirs.result:
                equal, control_equal = equal + (not control), control_equal + control
            else:
                step, *both = _parting(other, theirs)
                one, two = (_score(target, ids, tokens) / len(tokens) for tokens in both)
                margin = abs(one - two) * 2 / sum(1 / len(tokens) for tokens in both)
                differences.append(Difference(number, step, margin, control))
    return Agreement(len(prompts), equal, control_equal, noise, differences)


class _Steps(LogitsProcessor):
    """Changes nothing and keeps the sequences that a search stands on, step by step."""

    def __init__(self, prompt_length: int):
        self.prompt_length = prompt_length
        self.running: list[list[list[int]]] = []
        self.result: list[int] = []
        self.scores = torch.empty(0)  # its log-probabilities as `generate` came to them; of beams, their sum

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.running.append(input_ids[:, self.prompt_length :].tolist())
        return scores


def _generated(target: Any, ids: Tensor, padding: int, num_beams: int, options: Mapping[str, Any]) -> _Steps:
    """transformers' own decode of a prompt behind so many padding tokens."""
    steps = _Steps(ids.shape[1] + padding)
    padded, mask = _padded(ids, padding)
    output = target.generate(
        input_ids=padded,
        attention_mask=mask,
        num_beams=num_beams,
        do_sample=False,
        logits_processor=LogitsProcessorList([steps]),
        return_dict_in_generate=True,
        output_logits=num_beams == 1,
        output_scores=num_beams > 1,
        **options,
    )
    steps.result = output.sequences[0, padded.shape[1] :].tolist()
    if num_beams > 1:
        penalty = target.generation_config.length_penalty
        steps.scores = output.sequences_scores.cpu() * len(steps.result) ** (1.0 if penalty is None else penalty)
    else:
        steps.scores = _log_probs(torch.cat(output.logits), steps.result)
    return steps


def _padded(ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    filler = ids.new_zeros(1, padding)
    return torch.cat([filler, ids], 1), torch.cat([filler, torch.ones_like(ids)], 1)


def _parting(one: _Steps, two: _Steps) -> tuple[int, list[int], list[int]]:
    """The first step before which two decodes stand on different sequences, and the first two that differ."""
    for step, (rows, others) in enumerate(zip(one.running, two.running, strict=False)):
        for row, other in zip(rows, others, strict=True):
            if row != other:
                return step, row, other
    first, second = one.result, two.result
    step = min(len(one.running), len(two.running))
    if len(one.running[0]) == 1:  # greedy decoding looks at one token: what the other wrote after it tells nothing
        first, second = first[:step], second[:step]
    return step, first, second


@torch.inference_mode()
def _logits(target: Any, ids: Tensor, tokens: Sequence[int], padding: int = 0) -> Tensor:
    """The target's logits at each of `tokens` after a prompt, all in one pass; shape (tokens, vocabulary)."""
    text = torch.tensor([list(tokens)], device=ids.device)
    padded, mask = _padded(torch.cat([ids, text], 1), padding)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    options = {"position_ids": positions} if padding else {}
    logits = target(input_ids=padded, attention_mask=mask, use_cache=False, **options).logits[0]
    return logits[-len(tokens) - 1 : -1]


def _log_probs(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Of `tokens`, in nats; shape (tokens,)."""
    text = torch.tensor(list(tokens), device=logits.device)
    return logits.float().log_softmax(-1).gather(1, text[:, None])[:, 0]


def _score(target: Any, ids: Tensor, tokens: Sequence[int]) -> float:
    return float(_log_probs(_logits(target, ids, tokens), tokens).sum()) if tokens else 0.0


def _noise(target: Any, ids: Tensor, theirs: _Steps, of_sums: bool) -> float:
    """How much another way of reading changes the log-probability of a token, or the sum over a beginning, at most."""
    logits = _logits(target, ids, theirs.result)
    found, padded = (_log_probs(one, theirs.result) for one in (logits, _logits(target, ids, theirs.result, PADDING)))
    by_padding, by_steps = found - padded, found.cpu() - theirs.scores.cpu()
    if of_sums:
        by_padding, by_steps = by_padding.double().cumsum(0), found.double().sum().cpu() - theirs.scores.cpu()
    _, exponent = math.frexp(float(logits.abs().max()))
    spacing = torch.finfo(logits.dtype).eps * 2.0 ** (exponent - 1)
    return max(float(by_padding.abs().max()), float(by_steps.abs().max()), spacing)
