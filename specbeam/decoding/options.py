"""What becomes of every option of transformers' `generate`: the one table of them, and the check that keeps to it.

An option is *honoured* (it means what it means in transformers), *refused* (with a ValueError that says why and what to
do instead), or has *no effect*: it tunes how transformers works inside, and the tokens do not depend on it. It may
stand in the call, in a `GenerationConfig` handed over, or among the checkpoint's saved defaults.

`greedy`, `beam`, `speculative` and `speculative_beam` return a `Decoded`; `SpeculativeLM.generate` returns what
transformers does, so it honours more.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS

HONOURED, REFUSED, NO_EFFECT = "honoured", "refused", "no effect"


@dataclass(frozen=True)
class Option:
    """What an option does here.

    Attributes:
        decoders: what the four decoders do with it.
        drop_in: what `SpeculativeLM.generate` does with it.
        note: why it is refused and what to do instead, or why it has no effect.
        off: values that ask for nothing, besides None and False.
    """

    name: str
    decoders: str = HONOURED
    drop_in: str = HONOURED
    note: str = ""
    off: tuple[Any, ...] = ()


def _honoured(names: str, note: str = "") -> list[Option]:
    return [Option(name, note=note) for name in names.split()]


def _no_effect(names: str, note: str) -> list[Option]:
    return [Option(name, NO_EFFECT, NO_EFFECT, note) for name in names.split()]


def _refused(names: str, note: str, *off: Any) -> list[Option]:
    return [Option(name, REFUSED, REFUSED, note, off) for name in names.split()]


_DRAFT = "transformers' assisted generation brings a draft of its own; give one to load_pair or SpeculativeLM instead"
_ASSISTED = "it tunes transformers' assisted generation, whose draft is refused"
_ONE_BEAM_SEARCH = "this is another search than beam search, and transformers has moved it to its hub; leave it out"
_CACHE = "the cache is a token tree of specbeam's own, and the tokens are the same"
_STEPS = "a pass over a tree belongs to many steps at once; use the target's own generate"
_DICT = "a Decoded has its own fields; use SpeculativeLM.generate for the outputs of transformers"

TABLE: tuple[Option, ...] = (
    *_honoured("inputs input_ids", "the prompts, shape (batch, length)"),
    *_honoured("attention_mask", "inferred from the pad token where it is missing, as in transformers"),
    *_honoured("generation_config logits_processor stopping_criteria prefix_allowed_tokens_fn"),
    *_honoured("negative_prompt_ids negative_prompt_attention_mask guidance_scale"),
    *_honoured("streamer", "with one beam; transformers and specbeam refuse it for several"),
    *_honoured("tokenizer", "for stop strings and token healing; the decoders use the pair's unless told otherwise"),
    *_honoured("max_length max_new_tokens min_length min_new_tokens max_time stop_strings"),
    *_honoured("early_stopping length_penalty"),
    *_honoured("do_sample", "several beams with sampling are for SpeculativeLM.generate"),
    *_honoured("num_beams", "greedy and speculative refuse more than one"),
    *_honoured("num_return_sequences"),
    *_honoured("temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff"),
    *_honoured("repetition_penalty encoder_repetition_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size"),
    *_honoured("bad_words_ids renormalize_logits forced_bos_token_id forced_eos_token_id remove_invalid_values"),
    *_honoured("exponential_decay_length_penalty suppress_tokens begin_suppress_tokens sequence_bias"),
    *_honoured("token_healing watermarking_config pad_token_id bos_token_id eos_token_id"),
    *_honoured("num_assistant_tokens", "most drafted tokens a pass and prompt; they never change the result"),
    *(Option(name, REFUSED, HONOURED, _DICT) for name in ("output_scores", "output_logits")),
    Option(
        "return_dict_in_generate",
        REFUSED,
        HONOURED,
        _DICT + "; their past_key_values stays None there, since no cache belongs to a single sequence",
    ),
    *_refused("output_attentions output_hidden_states", _STEPS),
    *_refused("assistant_model assistant_tokenizer prompt_lookup_num_tokens assistant_early_exit use_mtp", _DRAFT),
    *_no_effect("num_assistant_tokens_schedule assistant_confidence_threshold max_matching_ngram_size", _ASSISTED),
    *_no_effect("assistant_lookbehind target_lookbehind assistant_ensemble_weight speculation_type", _ASSISTED),
    *_refused("is_assistant", "transformers sets it for a draft model's own generate; leave it out"),
    *_refused("num_beam_groups", _ONE_BEAM_SEARCH, 1),
    *_refused("diversity_penalty penalty_alpha", _ONE_BEAM_SEARCH, 0),
    *_refused("dola_layers constraints force_words_ids", _ONE_BEAM_SEARCH),
    *_refused("custom_generate", "it puts another decoding loop in place of specbeam's; use the target's own generate"),
    *_no_effect("trust_remote_code", "it is for custom_generate, which is refused"),
    *_refused("low_memory", "transformers refuses it as well since its beam search was rewritten; leave it out"),
    *_refused("synced_gpus", "ranks that wait for each other would need passes without a search; leave it out"),
    *_refused("past_key_values cache_params", "the cache is a token tree of specbeam's own; give the whole prompt"),
    *_refused("inputs_embeds", "a token tree is made of token ids; give input_ids, or use the target's own generate"),
    *_refused("mm_encoder_outputs encoder_outputs decoder_input_ids", "give the inputs that they were made from"),
    *_no_effect("use_cache max_cache_len cache_config", _CACHE),
    Option(
        "cache_implementation",
        REFUSED,
        REFUSED,
        "a quantized cache changes the logits; leave it out. The others have no effect: " + _CACHE,
        tuple(kind for kind in ALL_CACHE_IMPLEMENTATIONS if kind != "quantized"),
    ),
    *_no_effect("prefill_chunk_size", "long prompts are read in parts of specbeam's own choice"),
    *_no_effect("compile_config disable_compile", "load_pair(compile=…) compiles the target"),
    *_no_effect("continuous_batching_config", "it is for transformers' generate_batch"),
    *_no_effect("decoder_start_token_id", "it is for encoder-decoders"),
    *_no_effect("transformers_version", "it says which version wrote the configuration"),
)
OPTIONS: Mapping[str, Option] = {option.name: option for option in TABLE}


def rows(word: str = "") -> list[tuple[str, str, str, str]]:
    """The table by name: option, what the decoders do, what the drop-in does, and why; only lines with `word`."""
    lines = [(option.name, option.decoders, option.drop_in, option.note) for option in TABLE]
    return sorted(line for line in lines if word.lower() in " ".join(line).lower())


SAVED = "the checkpoint's generation config"
COUNTS = ("max_new_tokens", "num_beams", "num_return_sequences", "num_assistant_tokens")
# of these, what transformers' loop would do with a cache of its own
OFF_IN_LOOPS = {"use_cache": False, "cache_implementation": None, "cache_config": None, "prefill_chunk_size": None}


def source_of(
    name: str, options: Mapping[str, Any], config: GenerationConfig | None, saved: GenerationConfig | None = None
) -> tuple[Any, str]:
    """The value that `name` has, and where it stands, in transformers' order: the call, the config, the checkpoint."""
    if name in options:
        return options[name], "the call"
    for where, given in (("generation_config", config), (SAVED, saved)):
        value = getattr(given, name, None)
        if value is not None:
            return value, where
    return None, "nowhere"


def check_options(
    options: Mapping[str, Any], config: GenerationConfig | None, saved: GenerationConfig | None, drop_in: bool
) -> dict[str, Any]:
    """The options of a call with plain numbers in place of numpy's; raises ValueError for one that is refused.

    Args:
        options: those of the call, the inputs of the model among them.
        config: the `generation_config` of the call.
        saved: the checkpoint's defaults.
        drop_in: whether they are for `SpeculativeLM.generate`.
    """
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    if config is not None and not isinstance(config, GenerationConfig):
        raise ValueError(f"generation_config must be a GenerationConfig, got {type(config).__name__}.")
    for option in TABLE:
        value, where = source_of(option.name, options, config, saved)
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{option.name} is NaN, from {where}; give a number, or leave it out.")
        if (option.drop_in if drop_in else option.decoders) != REFUSED or value is None or value is False:
            continue
        if not any(_alike(value, off) for off in option.off):
            shown = f"{option.name}={value!r}" if isinstance(value, bool | int | float | str) else option.name
            raise ValueError(f"{shown}, from {where}, cannot be served: {option.note}.")
    for name in COUNTS:
        value, where = source_of(name, options, config, saved)
        if value is None:
            continue
        least = 0 if name == "num_assistant_tokens" else 1
        try:
            count = -1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            count = -1
        if count < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}, from {where}.")
        if where == "the call":
            options[name] = count
    eos, where = source_of("eos_token_id", options, config, saved)
    ids = eos.flatten().tolist() if isinstance(eos, Tensor) else eos if isinstance(eos, list | tuple) else [eos]
    if wrong := [one for one in ids if one is not None and not isinstance(one, int)]:
        raise ValueError(f"eos_token_id must be made of token ids, got {wrong[0]!r}, from {where}.")
    return options


def _alike(value: Any, off: Any) -> bool:
    """Whether they are equal, and of one kind: 0.0 is 0, and False is not."""
    number = isinstance(value, int | float) and isinstance(off, int | float) and not isinstance(value, bool)
    return (number or isinstance(value, type(off))) and value == off


def check_prompts(model: PreTrainedModel, input_ids: Any, attention_mask: Any, only_text: bool = True) -> None:
    """Raises ValueError naming value and remedy for prompts that `generate` or a pass would trip over.

    Args:
        input_ids: shape (batch, length).
        attention_mask: the same shape, or None.
        only_text: whether every id is that of a token; those of an image may lie beyond the vocabulary.
    """
    if not isinstance(input_ids, Tensor) or input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        kind = input_ids.dtype if isinstance(input_ids, Tensor) else type(input_ids).__name__
        raise ValueError(f"input_ids must be a tensor of whole numbers, got {kind}; use render_prompt or a tokenizer.")
    if input_ids.dim() != 2:
        raise ValueError(
            f"input_ids has shape {(*input_ids.shape,)} and needs (batch, length); for one prompt input_ids[None]."
        )
    if input_ids.numel() == 0:
        raise ValueError(f"input_ids has shape {(*input_ids.shape,)}: the prompt is empty; give at least one token.")
    known = _vocabulary(model)
    if only_text and known is not None:
        lowest, highest = int(input_ids.min()), int(input_ids.max())
        if lowest < 0 or highest >= known:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f"input_ids holds {wrong}, but {type(model).__name__} knows the tokens 0 to {known - 1}; "
                "use the tokenizer of this model."
            )
    if attention_mask is None:
        return
    if not isinstance(attention_mask, Tensor) or attention_mask.shape != input_ids.shape:
        shape = (*attention_mask.shape,) if isinstance(attention_mask, Tensor) else type(attention_mask).__name__
        raise ValueError(f"attention_mask is {shape} and must have the shape of input_ids, {(*input_ids.shape,)}.")
    check_seen(attention_mask)


def check_seen(attention_mask: Tensor) -> None:
    """Raises ValueError for a mask, of shape (batch, length), that hides all of a prompt."""
    empty = [row for row, seen in enumerate(attention_mask.bool().any(1).tolist()) if not seen]
    if empty:
        raise ValueError(
            f"attention_mask hides all of prompt {empty[0] + 1}: it is empty; give at least one token, and a mask "
            "where the prompt is made of pad tokens."
        )


def _vocabulary(model: PreTrainedModel) -> int | None:
    """How many tokens the model has embeddings of, where it says so."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:
        return None
