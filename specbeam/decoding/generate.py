"""SpeculativeLM: all of transformers' `generate`, answered from a token tree.

The loop is transformers' own. It hands the full sequences to `forward` at every step (use_cache=False); each row is
found again in the tree, and its logits are there already or come with the next pass. So every option of `generate`
means what it always means, and the tokens are those of the target alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    MaxLengthCriteria,
    MaxTimeCriteria,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from specbeam.compat import GenerationLoops
from specbeam.core.beam import fill_token
from specbeam.core.draft import Draft
from specbeam.core.scorer import Request
from specbeam.core.source import Source
from specbeam.core.stats import Stats
from specbeam.core.tree import ROOT
from specbeam.drafts.model import ModelDraft
from specbeam.drafts.union import guarded
from specbeam.engines.target import Target


class SpeculativeLM(GenerationLoops):
    """A drop-in for `target` whose `generate` needs fewer target passes.

    Args:
        target: any causal LM whose attention takes a tree mask.
        draft: a `Draft`, or a causal LM with the target's vocabulary.
        num_assistant_tokens: most drafted tokens a pass and prompt; None chooses.

    Raises:
        ValueError: for targets that cannot be served, naming the reason.
    """

    main_input_name = "input_ids"

    def __init__(
        self, target: PreTrainedModel, draft: Draft | PreTrainedModel, num_assistant_tokens: int | None = None
    ):
        Target.of(target)
        self.target = target
        self.draft = ModelDraft(draft) if isinstance(draft, PreTrainedModel) else draft
        self.num_assistant_tokens = num_assistant_tokens
        self.config, self.generation_config = target.config, target.generation_config
        self.stats: Stats | None = None
        self._opened: Source | None = None  # within `generate`
        self._source: Source | None = None  # once it has started

    def __getattr__(self, name: str) -> Any:
        if name == "target":  # not there yet while a copy is being made
            raise AttributeError(name)
        return getattr(self.target, name)

    def generate(self, inputs: Tensor | None = None, **options: Any) -> Any:  # type: ignore[override]
        """transformers' `generate`: same arguments, same result, and `self.stats` afterwards."""
        for name in (
            "assistant_model",
            "inputs_embeds",
            "past_key_values",
            "custom_generate",
            "prefill_chunk_size",
        ):
            if options.get(name) is not None:
                raise ValueError(
                    f"SpeculativeLM cannot serve {name}; the draft and the cache are its own. Leave it out."
                )
        for name in ("output_attentions", "output_hidden_states"):
            if options.get(name):
                raise ValueError(
                    f"SpeculativeLM cannot serve {name}=True: a tree pass holds many steps. Use the target."
                )
        prompts = inputs if inputs is not None else options.get("input_ids")
        if prompts is not None:
            config: GenerationConfig | None = options.get("generation_config")
            Target.of(self.target).check_request(prompts, {**(config.to_diff_dict() if config else {}), **options})
        target = Target.of(self.target)
        with target.decoding(guarded(self.draft, target.ranks), self.num_assistant_tokens) as source:
            self._opened, self.stats = source, source.stats
            try:
                result = super().generate(inputs, **{**options, "use_cache": False})  # type: ignore[misc]
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

    def begin(self, input_ids: Tensor, **options: Any) -> None:
        """Start the source on the prompts that `input_ids` repeats for every beam or returned sequence."""
        config: GenerationConfig = options["generation_config"]
        self._copies = max(config.num_beams, config.num_return_sequences)
        mask, prompts = options.get("attention_mask"), input_ids[:: self._copies]
        mask = torch.ones_like(prompts) if mask is None else mask[:: self._copies]
        request = Request.of(prompts, mask, config, self._copies)
        self._stops = request.stop_tokens
        # a finished row is padded and its logits are thrown away, unless they are part of the output
        self._skips = config.num_beams == 1 and not (config.output_scores or config.output_logits)
        # padding comes after an EOS, or where a criterion of the user's ended a sequence without one
        usual = (MaxLengthCriteria, MaxTimeCriteria, EosTokenCriteria)
        by_user = any(not isinstance(criterion, usual) for criterion in options["stopping_criteria"])
        filler = fill_token(request) if config.num_beams > 1 else request.pad_token
        self._filler = filler if by_user and filler not in self._stops else None
        self._prompt_length = prompts.shape[1]
        self._nodes: list[dict[bytes, int | None]] = [{} for _ in prompts]  # of every row
        assert self._opened is not None
        self._opened.start(request)
        self._source = self._opened

    def __call__(self, *args: Any, **kwargs: Any) -> CausalLMOutputWithPast:
        return self.forward(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits after the last token of full sequences, shape (rows, 1, vocabulary). Called by `generate` only."""
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
        parent = self._nodes[b][row[:-1].tobytes()]
        if parent is None or (self._skips and int(row[-1]) in self._stops):
            return None
        return self._source.trees[b].child(parent, int(row[-1]))
