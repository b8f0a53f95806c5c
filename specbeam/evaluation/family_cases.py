"""Compare our decoding of tiny random models (`tiny_families.py`) with transformers' own `generate`.

In float64 a wrong mask, position or bias changes the first tokens of a random model, and its logits have no ties. So
tokens have to be equal, without a tolerance. Scores have to agree within `CLOSE`, because many models compute their
softmax in float32 whatever their dtype.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from specbeam.compat import ATTENTION
from specbeam.core.draft import Draft, Proposal
from specbeam.core.tree import TokenTree
from specbeam.decoding.decoders import Decoded, speculative, speculative_beam
from specbeam.drafts.model import ModelDraft
from specbeam.engines.families import windows
from specbeam.engines.target import Target
from specbeam.models.load import Pair
from specbeam.models.stopping import cut_after_stop

from .tiny_families import EOS, VOCABULARY, Family, tiny_model

NEW_TOKENS = 8
CLOSE = 1e-4  # nats
LENGTHS = {"short": 4, "long": 11}  # prompts, in tokens: less and more than the window
ATTENTIONS = ("eager", "sdpa")
UNCACHED = {  # families whose own `generate` runs without a cache here, and why
    "rwkv": "transformers refuses beams with a cache for it",
    "xlstm": "transformers' cache for it fails at this size",
    "recurrent_gemma": "transformers' beams with a cache differ from its own without one",
}


class WildDraft(Draft):
    """Proposes random tokens, three a node: a tree full of branches, nearly all of them wrong."""

    def __init__(self, vocabulary: int, seed: int = 0):
        self._draw, self._vocabulary = random.Random(seed), vocabulary

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        tokens = self._draw.sample(range(self._vocabulary), 3)
        return [Proposal(token, -1.0 - place) for place, token in enumerate(tokens)]


@dataclass(frozen=True)
class Case:
    """A decode to compare: the length and number of its prompts, the width of its search, and its draft."""

    length: str  # of LENGTHS
    batch: int
    num_beams: int
    draft: str  # "oracle" (the target itself) or "random"


CASES = tuple(Case(*each) for each in product(LENGTHS, (1, 3), (1, 4), ("oracle", "random")))
FEW = (  # holds every pair of values of two fields
    *(Case("short", 1, 1, "oracle"), Case("short", 3, 4, "random"), Case("long", 1, 4, "random")),
    *(Case("long", 3, 1, "random"), Case("long", 3, 4, "oracle")),
)


@dataclass
class Row:
    """The result of a family's cases with one attention implementation."""

    family: str
    model: str  # the class
    attention: str
    window: int | None
    positions: str
    way: str  # "tree" or "sequences"
    dtype: str
    cases: int = 0
    equal: int = 0
    tokens: int = 0  # distinct tokens in the outputs
    remark: str = ""
    different: list[str] = field(default_factory=list)  # what differed, case by case

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_family(
    family: Family,
    cases: Iterable[Case] = FEW,
    attentions: Sequence[str] = ATTENTIONS,
    device: str = "cpu",
    cuda_graphs: bool = False,
) -> list[Row]:
    """Run the cases on a tiny model of the family with each attention implementation that transformers has for it."""
    rows = []
    for attention in attentions:
        try:
            model = tiny_model(family, attention).to(device)
        except ValueError as error:
            if "does not support an attention implementation" not in str(error):
                raise
            continue
        if cuda_graphs:
            Target.of(model).record_passes()
        reason = Target.of(model).probe()
        row = Row(
            family.name,
            type(model).__name__,
            attention,
            windows(model).get("sliding_attention"),
            family.positions,
            "tree" if reason is None else "sequences",
            str(model.dtype).removeprefix("torch."),
            remark="; ".join(filter(None, (reason, UNCACHED.get(family.kind)))),
        )
        results = [(case, *run_case(model, case)) for case in cases]
        row.different = [f"{case}: {difference}" for case, difference, _ in results if difference is not None]
        row.cases, row.equal = len(results), len(results) - len(row.different)
        row.tokens = len(set().union(*(tokens for *_, tokens in results)))
        rows.append(row)
    return rows


def prompts(case: Case) -> dict[str, Tensor]:
    """The case's left-padded prompts: the first has no padding, each further one some more."""
    length, generator = LENGTHS[case.length], torch.Generator().manual_seed(case.batch)
    ids = torch.randint(EOS + 1, VOCABULARY, (case.batch, length), generator=generator)
    mask = torch.ones_like(ids)
    for b in range(case.batch):
        mask[b, : b * (length // 4)] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def run_case(model: Any, case: Case) -> tuple[str | None, set[int]]:
    """The first difference from transformers' `generate`, or None, and the distinct tokens of its output."""
    inputs = {name: tensor.to(model.device) for name, tensor in prompts(case).items()}
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "num_assistant_tokens": 12, "trace": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot verify a token tree")  # the row holds the reason
        warnings.filterwarnings("error", "the draft ")  # without a draft the case would prove nothing
        pair = Pair(model, ModelDraft(model) if case.draft == "oracle" else WildDraft(VOCABULARY), None)
        if case.num_beams > 1:
            beams = {"num_beams": case.num_beams, "num_return_sequences": case.num_beams}
            found = speculative_beam(pair, inputs, **beams, **options)
        else:
            found = speculative(pair, inputs, **options)
    wanted = expected(model, inputs, case.num_beams)
    tokens = {token for sequence, _ in wanted for token in sequence}
    return _difference(found, wanted), tokens


def expected(model: Any, inputs: Mapping[str, Tensor], num_beams: int) -> list[tuple[list[int], float]]:
    """The sequences of transformers' `generate`, cut after EOS, and their scores; `num_beams` of each prompt.

    With eager attention every prompt is decoded alone: in float64 transformers masks a padded row with -inf throughout
    before its float32 softmax, which makes the row and everything that attends to it NaN.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if getattr(model.config, ATTENTION) == "eager" and len(ids) > 1:
        alone = [row[seen][None] for row, seen in zip(ids, mask.bool(), strict=True)]
        each = [expected(model, {"input_ids": row, "attention_mask": torch.ones_like(row)}, num_beams) for row in alone]
        return [one for found in each for one in found]
    options: dict[str, Any] = {"num_beams": num_beams, "num_return_sequences": num_beams, "do_sample": False}
    if model.config.model_type in UNCACHED:
        options["use_cache"] = False
    output = model.generate(
        **inputs,
        **options,
        max_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_scores=num_beams > 1,
        output_logits=num_beams == 1,
    )
    sequences = [cut_after_stop(row, [EOS]) for row in output.sequences[:, ids.shape[1] :].tolist()]
    if num_beams > 1:
        return list(zip(sequences, output.sequences_scores.tolist(), strict=True))
    steps = [step.float().log_softmax(-1) for step in output.logits]
    scores = [sum(float(steps[i][b, t]) for i, t in enumerate(row)) for b, row in enumerate(sequences)]
    return list(zip(sequences, scores, strict=True))


def _difference(found: Decoded, wanted: list[tuple[list[int], float]]) -> str | None:
    if len(found.sequences) != len(wanted):
        return f"{len(found.sequences)} sequences instead of {len(wanted)}"
    for place, (sequence, score) in enumerate(zip(found.sequences, found.scores, strict=True)):
        if sequence != wanted[place][0]:
            return f"sequence {place} is {sequence} instead of {wanted[place][0]}"
        if not math.isclose(score, wanted[place][1], abs_tol=CLOSE):
            return f"sequence {place} has the score {score} instead of {wanted[place][1]}"
    if found.stats.drafted == 0 or not any(_branches(trace) for trace in found.trace or []):
        return "no tree had a branch, so the case proves nothing"
    return None


def _branches(trace: Any) -> bool:
    """Whether a node of the tree had two verified children."""
    parents = [node.parent for node in trace.nodes[1:] if node.verified is not None]
    return len(set(parents)) < len(parents)
