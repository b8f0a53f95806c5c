"""A fake causal LM whose logits are an exact integer hash of what each token may see, and fake drafts."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

import specbeam as sb
from specbeam.core.tree import TokenTree
from specbeam.models.load import Pair

FEW = 23  # so few values that equal logits are common: ties have to fall as they do in transformers


class HashConfig(PretrainedConfig):
    model_type = "hash"

    def __init__(self, vocab_size: int = 24, salt: int = 1, levels: int = FEW, **kwargs: Any):
        self.vocab_size, self.salt, self.levels = vocab_size, salt, levels
        self.num_hidden_layers, self.hidden_size, self.max_position_embeddings = 1, 4, 4096
        super().__init__(**kwargs)


class HashLM(PreTrainedModel, GenerationMixin):
    """Puts (token, position) into the cache as keys and sums a mix of what the mask lets a query see.

    Integer arithmetic: the same for any batch, order of slots or number of queries, and wrong as soon as a mask, a
    position or a slot is.
    """

    config_class = HashConfig

    def __init__(self, config: HashConfig):
        super().__init__(config)
        self.anchor = nn.Parameter(torch.zeros(1))  # gives the model its dtype and device
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        pass

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        batch, queries = input_ids.shape
        if position_ids is None:
            position_ids = torch.arange(queries).expand(batch, queries)
        keys = torch.stack([input_ids, position_ids.expand(batch, queries)], -1)[:, None]
        if past_key_values is not None:
            keys, _ = past_key_values.update(keys, keys.clone(), 0)
        slots = keys.shape[2]
        if attention_mask is not None and attention_mask.dim() == 4:
            seen = attention_mask[:, 0] >= 0
        else:
            seen = torch.ones(queries, slots, dtype=torch.bool).tril(slots - queries).expand(batch, -1, -1)
            if attention_mask is not None:
                seen = seen & attention_mask[:, None].bool()
        mixed = (keys[:, 0, :, 0] + 7 + self.config.salt) * 7_368_787 + (keys[:, 0, :, 1] + 3) * 15_485_863
        mixed = (mixed * mixed % 1_000_003) * 31 % 999_983
        digest = (seen * mixed[:, None]).sum(-1)
        if logits_to_keep:
            digest = digest[:, -logits_to_keep:]
        vocabulary = torch.arange(self.config.vocab_size) * 104_729 + 12_345
        values = (digest[:, :, None] * 48_271 + vocabulary) % 999_331 * 69_621 % 999_979 % self.config.levels
        return CausalLMOutputWithPast(
            logits=values.to(self.dtype) * (6 / self.config.levels), past_key_values=past_key_values
        )


def hash_lm(vocab_size: int = 24, salt: int = 1, eos: list[int] | None = None, pad: int | None = None) -> HashLM:
    model = HashLM(HashConfig(vocab_size=vocab_size, salt=salt))
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = eos, pad
    return model.eval()


def fake_pair(target: Any, draft: sb.Draft | None = None, tokenizer: Any = None) -> Pair:
    return Pair(target=target, draft=draft or sb.NoDraft(), tokenizer=tokenizer, name="fake")


class RandomDraft(sb.Draft):
    def __init__(self, vocabulary: int, randomness: random.Random):
        self.vocabulary, self.randomness = vocabulary, randomness

    def propose(self, tree: TokenTree, node: int) -> list[sb.Proposal]:
        return [sb.Proposal(self.randomness.randrange(self.vocabulary), -3 * self.randomness.random()) for _ in "abc"]


class Oracle(sb.Draft):
    """Proposes what the target itself finds likeliest."""

    sign = 1.0

    def __init__(self, target: HashLM):
        self.target = target

    def propose(self, tree: TokenTree, node: int) -> list[sb.Proposal]:
        ids = torch.tensor([tree.prompt + tree.path(node)])
        likely = (self.sign * self.target(ids).logits[0, -1].float()).log_softmax(-1).topk(8)
        return [sb.Proposal(*pair) for pair in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)]


class Liar(Oracle):
    """Proposes what the target finds least likely."""

    sign = -1.0


def every_draft(randomness: random.Random, target: HashLM, vocabulary: int) -> list[sb.Draft]:
    salt = target.config.salt
    return [
        sb.NoDraft(),
        RandomDraft(vocabulary, randomness),
        Oracle(target),
        Liar(target),
        sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()]),
        sb.ModelDraft(hash_lm(vocabulary, salt)),
        sb.ModelDraft(hash_lm(vocabulary, salt + 1), temperature=1.0, top_k=4),
    ]


def left_padded(randomness: random.Random, vocabulary: int, most: int = 3) -> dict[str, Tensor]:
    """Up to `most` random prompts of 1 to 9 tokens."""
    lengths = [randomness.randint(1, 9) for _ in range(randomness.randint(1, most))]
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for b, length in enumerate(lengths):
        ids[b, -length:] = torch.tensor([randomness.randrange(vocabulary) for _ in range(length)])
        mask[b, -length:] = 1
    return {"input_ids": ids, "attention_mask": mask}
