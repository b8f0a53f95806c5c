"""A fake causal LM whose logits are an exact integer hash of what each token may see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

_LEVELS = 23  # so few values that equal logits are common: ties have to fall as they do in transformers


class HashConfig(PretrainedConfig):
    model_type = "hash"

    def __init__(self, vocab_size: int = 24, salt: int = 1, **kwargs: Any):
        self.vocab_size, self.salt = vocab_size, salt
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
        values = (digest[:, :, None] * 48_271 + vocabulary) % 999_331 * 69_621 % 999_979 % _LEVELS
        return CausalLMOutputWithPast(logits=values.to(self.dtype) / 4, past_key_values=past_key_values)


def hash_lm(vocab_size: int = 24, salt: int = 1, eos: list[int] | None = None, pad: int | None = None) -> HashLM:
    model = HashLM(HashConfig(vocab_size=vocab_size, salt=salt))
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = eos, pad
    return model.eval()
