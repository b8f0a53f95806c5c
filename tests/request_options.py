"""Random values of every option of `generate`: what is asked of a request, sensibly or not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from equivalence import LETTERS
from request_models import HEALING, Allowed, Counting, Ends, InPlace, New, Pure, Streamed
from tiny_models import tiny_llama
from transformers import LogitsProcessorList, StoppingCriteriaList, SynthIDTextWatermarkingConfig, WatermarkingConfig

Draw = Callable[[random.Random, int, int], Any]  # dice, vocabulary, prompt length


def _tokens(dice: random.Random, vocabulary: int, most: int) -> list[int]:
    return [dice.randrange(vocabulary) for _ in range(dice.randint(1, most))]


def _words(dice: random.Random, vocabulary: int, most: int = 3) -> list[list[int]]:
    return [_tokens(dice, vocabulary, 2) for _ in range(dice.randint(1, most))]


def _bias(dice: random.Random, vocabulary: int) -> Any:
    pairs = {tuple(word): dice.uniform(-4, 4) for word in _words(dice, vocabulary)}
    return pairs if dice.random() < 0.5 else [[list(word), bias] for word, bias in pairs.items()]


def _watermark(dice: random.Random) -> Any:
    if dice.random() < 0.5:
        scheme = dice.choice(["lefthash", "selfhash"])
        return WatermarkingConfig(bias=dice.choice([0.5, 2.5]), seeding_scheme=scheme, context_width=dice.randint(1, 2))
    return SynthIDTextWatermarkingConfig(
        ngram_len=dice.randint(2, 4), keys=[654, 400, 836, 123], context_history_size=8
    )


def _eos(dice: random.Random, v: int) -> Any:
    return dice.choice([None, dice.randrange(v), dice.sample(range(v), 2), dice.sample(range(v), 4)])


# options that shape the scores or the end of any search
SCORES: dict[str, Draw] = {
    "repetition_penalty": lambda d, v, p: d.choice([0.8, 1.0, 1.3, 2.0]),
    "encoder_repetition_penalty": lambda d, v, p: d.choice([0.7, 1.0, 1.4]),
    "no_repeat_ngram_size": lambda d, v, p: d.randint(0, 3),
    "encoder_no_repeat_ngram_size": lambda d, v, p: d.randint(0, 2),
    "bad_words_ids": lambda d, v, p: _words(d, v),
    "suppress_tokens": lambda d, v, p: _tokens(d, v, 5),
    "begin_suppress_tokens": lambda d, v, p: _tokens(d, v, 5),
    "forced_bos_token_id": lambda d, v, p: d.randrange(v),
    "forced_eos_token_id": lambda d, v, p: d.choice([d.randrange(v), d.sample(range(v), 2)]),
    "sequence_bias": lambda d, v, p: _bias(d, v),
    "exponential_decay_length_penalty": lambda d, v, p: (d.randint(0, 4), d.uniform(0.8, 1.8)),
    "renormalize_logits": lambda d, v, p: d.random() < 0.8,
    "remove_invalid_values": lambda d, v, p: d.random() < 0.8,
    "min_length": lambda d, v, p: d.randint(0, p + 6),
    "min_new_tokens": lambda d, v, p: d.randint(0, 6),
    "guidance_scale": lambda d, v, p: d.choice([1.0, 0.5, 1.5, 3.0]),
    "watermarking_config": lambda d, v, p: _watermark(d),
    "eos_token_id": lambda d, v, p: _eos(d, v),
    "pad_token_id": lambda d, v, p: d.choice([None, 0, d.randrange(v), d.randrange(v)]),
    "bos_token_id": lambda d, v, p: d.randrange(v),
    "max_time": lambda d, v, p: d.choice([0.0, 1000.0]),
    "length_penalty": lambda d, v, p: d.choice([-1.0, 0.0, 0.5, 1.0, 2.0]),
    "early_stopping": lambda d, v, p: d.choice([True, False, "never"]),
}
SAMPLING: dict[str, Draw] = {
    "temperature": lambda d, v, p: d.choice([0.5, 1.0, 1.7]),
    "top_k": lambda d, v, p: d.choice([0, 1, 3, 200]),
    "top_p": lambda d, v, p: d.choice([0.3, 0.9, 1.0]),
    "top_h": lambda d, v, p: d.choice([0.2, 0.6]),
    "min_p": lambda d, v, p: d.choice([0.05, 0.3]),
    "typical_p": lambda d, v, p: d.choice([0.4, 0.9, 1.0]),
    "epsilon_cutoff": lambda d, v, p: d.choice([0.0, 0.02, 0.2]),
    "eta_cutoff": lambda d, v, p: d.choice([0.0, 0.02, 0.3]),
}
OUTPUTS = ("return_dict_in_generate", "output_scores", "output_logits")
# only arguments of the call
BY_CALL: dict[str, Draw] = {
    "logits_processor": lambda d, v, p: New(
        *[(d.choice([Pure, InPlace, Counting]), ()) for _ in range(d.randint(1, 2))], alone=False
    ),
    "stopping_criteria": lambda d, v, p: New((Ends, (n := d.randint(5, 19), d.randrange(n)))),
    "prefix_allowed_tokens_fn": lambda d, v, p: New((Allowed, (v, d.randrange(5))), alone=True),
    "streamer": lambda d, v, p: New((Streamed, ()), alone=True),
    "num_assistant_tokens": lambda d, v, p: d.choice([0, 1, 4, 20]),
}
# these tune how transformers works inside
INSIDE: dict[str, Draw] = {
    "use_cache": lambda d, v, p: d.random() < 0.5,
    "cache_implementation": lambda d, v, p: d.choice(["dynamic", "dynamic_full"]),
    "disable_compile": lambda d, v, p: True,
    "max_cache_len": lambda d, v, p: 40,
    "prefill_chunk_size": lambda d, v, p: d.choice([2, 50]),
    "num_assistant_tokens_schedule": lambda d, v, p: "constant",
    "assistant_confidence_threshold": lambda d, v, p: 0.2,
    "assistant_lookbehind": lambda d, v, p: 4,
    "max_matching_ngram_size": lambda d, v, p: 2,
    "is_assistant": lambda d, v, p: False,
    "transformers_version": lambda d, v, p: "5.0.0",
}
LENGTHS: dict[str, Draw] = {
    "max_new_tokens": lambda d, v, p: d.randint(1, 9),
    "max_length": lambda d, v, p: p + d.randint(1, 9),
}
# options that are refused here, in values that ask for something, or for nothing
REFUSABLE: dict[str, Draw] = {
    "output_attentions": lambda d, v, p: d.random() < 0.5,
    "output_hidden_states": lambda d, v, p: d.random() < 0.5,
    "assistant_model": lambda d, v, p: d.choice([None, tiny_llama(layers=1)]),
    "prompt_lookup_num_tokens": lambda d, v, p: 3,
    "assistant_early_exit": lambda d, v, p: 1,
    "use_mtp": lambda d, v, p: d.random() < 0.5,
    "num_beam_groups": lambda d, v, p: d.choice([1, 2]),
    "diversity_penalty": lambda d, v, p: d.choice([0.0, 0.5]),
    "penalty_alpha": lambda d, v, p: d.choice([0.0, 0.6]),
    "dola_layers": lambda d, v, p: "low",
    "constraints": lambda d, v, p: ["a"],
    "force_words_ids": lambda d, v, p: [[7]],
    "low_memory": lambda d, v, p: d.random() < 0.5,
    "cache_implementation": lambda d, v, p: "quantized",
    "custom_generate": lambda d, v, p: "somebody/something",
    "inputs_embeds": lambda d, v, p: torch.zeros(1, p, 32),
    "past_key_values": lambda d, v, p: "a cache",
}
# values that make no sense, and options that do not exist; transformers takes some of them
SENSELESS: dict[str, Draw] = {
    "max_new_tokens": lambda d, v, p: d.choice([0, -3, 2.5, "4", np.int64(3), torch.tensor(3), True]),
    "max_length": lambda d, v, p: d.choice([0, p, 1, p + 0.5, np.int32(p + 3)]),
    "num_beams": lambda d, v, p: d.choice([0, -1, 1.5, np.int64(2), True]),
    "num_return_sequences": lambda d, v, p: d.choice([0, 5, 7, np.int64(1), 1.0]),
    "temperature": lambda d, v, p: d.choice([0.0, -1.0, "warm"]),
    "top_p": lambda d, v, p: d.choice([-0.5, 1.5]),
    "top_k": lambda d, v, p: d.choice([-1, 1.5]),
    "early_stopping": lambda d, v, p: d.choice(["always", 3]),
    "repetition_penalty": lambda d, v, p: d.choice([0.0, -1.0, 1]),
    "no_repeat_ngram_size": lambda d, v, p: d.choice([-1, 1.5]),
    "bad_words_ids": lambda d, v, p: d.choice([[], [[]], [3], [[-2]], [[v + 3]]]),
    "suppress_tokens": lambda d, v, p: d.choice([[], [v + 5], [-1]]),
    "sequence_bias": lambda d, v, p: d.choice([{}, {(): 1.0}, [[[1], 2]], {(v + 2,): 1.0}]),
    "eos_token_id": lambda d, v, p: d.choice([-1, v + 3, [], 1.5, torch.tensor([1, 2])]),
    "pad_token_id": lambda d, v, p: d.choice([-1, -100, v + 5]),
    "forced_eos_token_id": lambda d, v, p: d.choice([v + 3, [], -1]),
    "exponential_decay_length_penalty": lambda d, v, p: d.choice([(1,), 3]),
    "length_penalty": lambda d, v, p: d.choice(["long", None]),
    "stop_strings": lambda d, v, p: d.choice(["", [], "a"]),  # without a tokenizer, perhaps
    "watermarking_config": lambda d, v, p: {"bias": 1.0},
    "guidance_scale": lambda d, v, p: d.choice([0.0, -1.0]),
    "num_beamz": lambda d, v, p: 3,
    "pixel_values": lambda d, v, p: torch.zeros(1, 3, 4, 4),
    "logits_processor": lambda d, v, p: New((LogitsProcessorList, ()), alone=True),
    "stopping_criteria": lambda d, v, p: New((StoppingCriteriaList, ()), alone=True),
    "token_healing": lambda d, v, p: True,
    "num_assistant_tokens": lambda d, v, p: d.choice([-1, 1.5]),
}


def stop_strings(dice: random.Random) -> dict[str, Any]:
    """Strings that end a text, and the tokenizer that knows them."""
    strings = dice.choice(["b", ["ab", "c", "xa"], ["q", "aa"]])
    return {"stop_strings": strings, "tokenizer": LETTERS}


def token_healing() -> dict[str, Any]:
    """Healing, with a tokenizer of 40 tokens."""
    return {"token_healing": True, "tokenizer": HEALING}
