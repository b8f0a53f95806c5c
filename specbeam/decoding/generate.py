"""SpeculativeLM: all of transformers' `generate`, answered from a token tree.

The loop is transformers' own. It hands the full sequences to `forward` at every step (use_cache=False); each row is
found again in the tree, and its logits are there already or come with the next pass. So every option of `generate`
means what it always means, and the tokens are those of the target alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    MaxLengthCriteria,
    MaxTimeCriteria,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from specbeam.core.scorer import Request
from specbeam.core.source import Source
from specbeam.core.stats import Stats
from specbeam.core.tree import ROOT
from specbeam.drafts.model import as_draft
from specbeam.drafts.union import guarded
from specbeam.engines.target import Target

from .loops import SIGNATURE, TargetLoops


class SpeculativeLM(TargetLoops):
    """A drop-in for `target` whose `generate` needs fewer target passes.

    Args:
        target: any causal LM whose attention takes a tree mask, or a wrapper of one (`engines/wrappers.py`).
        draft: a `Draft`, or a causal LM with the target's vocabulary.
        num_assistant_tokens: most drafted tokens a pass and prompt; None chooses.

    Raises:
        ValueError: for targets that cannot be served, naming the reason.
    """

    def __init__(self, target: Any, draft: Any, num_assistant_tokens: int | None = None):
        Target.of(target)
        super().__init__(target)
        self.draft = as_draft(draft)
        self.num_assistant_tokens = num_assistant_tokens
        self.stats: Stats | None = None
        self._opened: Source | None = None  # within `generate`
        self._source: Source | None = None  # once it has started

    def generate(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        """transformers' `generate`: same arguments, same result, and `self.stats` afterwards.

        Raises:
            ValueError: for options that cannot be served (`options.py`), naming the reason and what to do instead.
        """
        given = SIGNATURE.bind(self, *arguments, **options).arguments
        given |= given.pop("kwargs", {})
        del given["self"]
        options = self.resolve(given, {}, drop_in=True)
        asked = options.pop("num_assistant_tokens", None)
        asked = asked if asked is not None else self.given("num_assistant_tokens", saved=None)[0]
        size = self.num_assistant_tokens if asked is None else asked
        target = Target.of(self.held)
        with target.decoding(guarded(self.draft, target.ranks), size) as source:
            self._opened, self.stats = source, source.stats
            try:
                result = super().generate(**options)  # type: ignore[misc]
            finally:
                self._opened = self._source = None
        source.stats.new_tokens = self._count(result if isinstance(result, Tensor) else result.sequences)
        return result

    def _count(self, sequences: Tensor) -> int:
        """How many tokens were generated in full `sequences`, the EOS that ends one included, its padding not."""
        count = 0
        for row in sequences[:, self._prompt_length :].tolist():
            length = next((i + 1 for i, token in enumerate(row) if token in self._stops), len(row))
            while length and row[length - 1] == self._filler:
                length -= 1
            count += length
        return count

    def run_loop(self, loop: Callable[..., Any], input_ids: Tensor, **options: Any) -> Any:
        """transformers' own loop, once the source has started on the prompts."""
        config: GenerationConfig = options["generation_config"]
        self._copies = max(config.num_beams, config.num_return_sequences)
        request = self.request(input_ids, self._copies, options)
        self._stops = request.stop_tokens
        # a finished row is padded and its logits are thrown away, unless they are part of the output
        self._skips = config.num_beams == 1 and not (config.output_scores or config.output_logits)
        # padding comes after an EOS, or where a criterion of the user's ended a sequence without one
        usual = (MaxLengthCriteria, MaxTimeCriteria, EosTokenCriteria)
        by_user = any(not isinstance(criterion, usual) for criterion in options["stopping_criteria"])
        filler = fill_token(request) if config.num_beams > 1 else request.pad_token
        self._filler = filler if by_user and filler not in self._stops else None
        self._prompt_length = input_ids.shape[1]
        self._nodes: list[dict[bytes, int | None]] = [{} for _ in request.input_ids]  # of every row
        assert self._opened is not None
        self._opened.start(request)
        self._source = self._opened
        return loop(input_ids, **options)

    def __call__(self, *args: Any, **inputs: Any) -> CausalLMOutputWithPast:
        return self.forward(*args, **inputs)

    def answer(self, input_ids: Tensor, **inputs: Any) -> CausalLMOutputWithPast:
        """Logits after the last token of full sequences, shape (rows, 1, vocabulary). Called by `generate` only.

        Further inputs are those of the prompts, which the source knows already.
        """
        if self._source is None:
            raise ValueError("SpeculativeLM answers inside generate() only; call the target for a plain forward pass.")
        rows = input_ids[:, self._prompt_length :].cpu().numpy()
        nodes = [self._node(index // self._copies, row) for index, row in enumerate(rows)]
        self._nodes = [{} for _ in self._nodes]
        running: list[list[int]] = [[] for _ in self._nodes]
        for index, (row, node) in enumerate(zip(rows, nodes, strict=True)):
            self._nodes[index // self._copies][row.tobytes()] = node
            if node is not None:
                running[index // self._copies].append(node)
        # rows of one prompt may finish one by one: the answer has a row for each all the same
        width = self._copies
        padded = [(some + some[:1] * width)[:width] if some else [] for some in running]
        logits = self._source.logits(padded)
        output = logits.new_zeros((len(nodes), 1, logits.shape[-1]))
        taken = [0] * len(padded)
        for index, node in enumerate(nodes):
            if node is not None:
                b = index // width
                output[index, 0] = logits[b, taken[b]]
                taken[b] += 1
        return CausalLMOutputWithPast(logits=output.to(input_ids.device))  # type: ignore[arg-type]

    def _node(self, b: int, row: Any) -> int | None:
        """The node of a generated `row` of tokens of prompt `b`, or None if the row is finished."""
        if not len(row):
            return ROOT
        assert self._source is not None
        parent, token = self._nodes[b][row[:-1].tobytes()], int(row[-1])
        if parent is None or (self._skips and token in self._stops):
            return None
        if not 0 <= token < self._source.vocabulary:  # no search picks it: it fills up a row that a criterion ended
            if not self._skips:
                raise ValueError(
                    f"pad_token_id={token} is none of the {self._source.vocabulary} tokens, so what comes after it has "
                    "no scores to put out; give one of them, or leave output_scores and output_logits out."
                )
            return None
        return self._source.trees[b].child(parent, token)


def fill_token(request: Request) -> int:
    """What comes after a finished beam: the pad token; a pad id of 0 falls through to EOS, as in transformers."""
    return (request.pad_token or request.stop_tokens[0]) if request.stop_tokens else -1
