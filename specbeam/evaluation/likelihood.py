"""How likely texts are under a model: log-probabilities, perplexity, and the gap to exact beam search.

Outputs are scored by teacher forcing in separate passes, so that figures are comparable whoever wrote the text:
specbeam, transformers or a person. Logarithms are natural (nats) unless a name says bits.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from specbeam.models.prompts import render_prompt

Scored = tuple[float, int]  # nats, and the number of tokens or bytes they are of


@dataclass(frozen=True)
class Gap:
    """How far an output falls short of exact beam search's best: 0 for the same, above 0 for worse."""

    nats: float  # of the summed log-probability; below 0 if the length penalty preferred a less likely text
    score: float  # of what beam search maximises: the sum divided by length ** length_penalty


@torch.inference_mode()
def log_probs(
    model: Any, prompt_ids: Any, sequences: Sequence[Sequence[int]], batch_size: int = 8
) -> list[list[float]]:
    """The log-probability of every token of `sequences` after their prompts, in nats, by teacher forcing.

    Args:
        model: a causal LM of Hugging Face.
        prompt_ids: the prompt of each sequence as token ids, without padding; or one for all, as a list or as a
            tensor of shape (tokens,) or (1, tokens).
        sequences: token ids, prompt excluded, as in `Decoded.sequences`; an empty one gets an empty list.
        batch_size: sequences a pass, padded on the right. Equal ones are scored once. The softmax is taken in float32
            (float64 for a float64 model).

    Raises:
        ValueError: for an empty prompt, unlike numbers of prompts and sequences, tokens outside the model's vocabulary,
            more tokens than it has positions, and for an encoder-decoder.
    """
    if model.config.is_encoder_decoder:
        raise ValueError(f"{type(model).__name__} is an encoder-decoder; give a causal language model")
    prompts = _prompts(prompt_ids, len(sequences))
    _check_rows(model, prompts, sequences)
    pairs = [(tuple(prompt), tuple(sequence)) for prompt, sequence in zip(prompts, sequences, strict=True)]
    # prompts of similar length share a pass: that wastes the fewest positions
    order = sorted({pair for pair in pairs if pair[1]}, key=lambda pair: (len(pair[0]), len(pair[1])))
    each: dict[Any, list[float]] = {}
    for begin in range(0, len(order), max(batch_size, 1)):
        chosen = order[begin : begin + max(batch_size, 1)]
        first = len(chosen[0][0]) - 1  # the position that predicts the earliest answer
        logits = _logits(model, [[*prompt, *sequence] for prompt, sequence in chosen], first)
        for (prompt, sequence), row in zip(chosen, logits, strict=True):
            start = len(prompt) - 1 - first
            each[prompt, sequence] = token_log_probs(row[start : start + len(sequence)], sequence).tolist()
    return [each.get(pair, []) for pair in pairs]


def token_log_probs(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """The log-probability of each token, (tokens,), under the logits at its place, (tokens, vocabulary), in nats."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]


def likelihood(model: Any, prompt_ids: Any, sequences: Sequence[Sequence[int]], batch_size: int = 8) -> list[Scored]:
    """(nats, tokens) of each of `sequences` after its prompt; arguments and errors as for `log_probs`.

    For the target's own outputs. An EOS in a sequence counts as a token.
    """
    each = log_probs(model, prompt_ids, sequences, batch_size)
    return [(math.fsum(one), len(one)) for one in each]


def judge(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    texts: Sequence[str],
    system: str | None = None,
    batch_size: int = 8,
) -> list[Scored]:
    """(nats, bytes of UTF-8) of each of `texts` as an answer to its prompt under an independent model and tokenizer.

    Prompts are rendered with the judge's chat template if it has one (`render_prompt`). Texts are tokenized separately
    and without special tokens, so that the end of the answer does not count. Perplexities under two tokenizers are not
    comparable; `bits_per_byte` is. A text without tokens counts no bytes.

    Raises ValueError as `log_probs` does.
    """
    if len(prompts) != len(texts):
        raise ValueError(f"{len(prompts)} prompts and {len(texts)} texts: give the prompt of every text")
    rendered = [render_prompt(tokenizer, prompt, system)["input_ids"][0].tolist() for prompt in prompts]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in texts]
    scored = likelihood(model, rendered, rows, batch_size)
    return [(nats, len(text.encode()) if count else 0) for text, (nats, count) in zip(texts, scored, strict=True)]


def perplexity(rows: Any) -> float:
    """exp(-nats / tokens) of rows (nats, tokens) summed over outputs: of the corpus, not a mean of perplexities.

    Jelinek et al. 1977. Comparable under one tokenizer only. A statistic for `intervals.bootstrap`.
    """
    nats, tokens = (math.fsum(column) for column in zip(*rows, strict=True))
    surprise = -nats / tokens
    return math.exp(surprise) if surprise < 700 else math.inf  # a float ends a little above exp(709)


def bits_per_byte(rows: Any) -> float:
    """-bits / bytes of rows (nats, bytes) summed over outputs; a statistic for `intervals.bootstrap`.

    Comparable across tokenizers (Gao et al. 2020, The Pile, section 3.1).
    """
    nats, sizes = (math.fsum(column) for column in zip(*rows, strict=True))
    return -nats / math.log(2) / sizes


def length_penalised(nats: float, length: int, length_penalty: float = 1.0) -> float:
    """Beam search's score of a sequence of `length` generated tokens, the last included, as in transformers."""
    return nats / max(length, 1) ** length_penalty


def score_gaps(outputs: Sequence[Scored], exact: Sequence[Scored], length_penalty: float = 1.0) -> list[Gap]:
    """The gap of each output, (nats, tokens), to exact beam search's best for its prompt, both under the target.

    Raises ValueError for unlike numbers of outputs.
    """
    if len(outputs) != len(exact):
        raise ValueError(f"{len(outputs)} outputs and {len(exact)} of exact beam search: give one a prompt each")
    gaps = []
    for (nats, tokens), (best, length) in zip(outputs, exact, strict=True):
        score = length_penalised(best, length, length_penalty) - length_penalised(nats, tokens, length_penalty)
        gaps.append(Gap(best - nats, score))
    return gaps


def _logits(model: Any, rows: list[list[int]], first: int) -> Tensor:
    """Logits of right-padded `rows` at the positions from `first` on, shape (rows, positions, vocabulary)."""
    texts = [torch.tensor(row, device=model.device) for row in rows]
    ids, mask = (pad_sequence(each, batch_first=True) for each in (texts, [torch.ones_like(one) for one in texts]))
    fewer = "logits_to_keep" in inspect.signature(model.forward).parameters
    options = {"logits_to_keep": ids.shape[1] - first} if fewer else {}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **options).logits
    return logits if fewer else logits[:, first:]


def _prompts(prompt_ids: Any, count: int) -> list[list[int]]:
    """One list of ids a sequence."""
    prompts = prompt_ids.tolist() if isinstance(prompt_ids, Tensor) else list(prompt_ids)
    if prompts and isinstance(prompts[0], int):
        prompts = [prompts]
    prompts = [one.tolist() if isinstance(one, Tensor) else list(one) for one in prompts]
    if len(prompts) == 1:
        prompts = prompts * count
    if len(prompts) != count:
        raise ValueError(f"{len(prompts)} prompts and {count} sequences: give the prompt of each, or one for all")
    return prompts


def _check_rows(model: Any, prompts: list[list[int]], sequences: Sequence[Sequence[int]]) -> None:
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or math.inf
    for index, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True)):
        if not prompt:
            raise ValueError(f"the prompt of sequence {index} has no token; give at least a BOS")
        if len(prompt) + len(sequence) > positions:
            raise ValueError(
                f"sequence {index} has {len(sequence)} tokens after a prompt of {len(prompt)}, and "
                f"{type(model).__name__} has {positions} positions; shorten one of them"
            )
        strange = [token for token in (*prompt, *sequence) if not 0 <= token < config.vocab_size]
        if strange:
            raise ValueError(
                f"sequence {index} holds the token {strange[0]}, and {type(model).__name__} knows {config.vocab_size}; "
                "under another model's tokenizer, give the text to `judge`"
            )
