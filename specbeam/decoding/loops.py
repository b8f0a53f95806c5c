"""TargetLoops: one way into transformers' `generate` for the four decoders and for `SpeculativeLM`.

transformers resolves every option (the call over a generation config over the checkpoint's saved defaults), makes the
processors and criteria, and then calls a loop of ours. So an option means here what it means there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from specbeam.compat import LOOP_ARGUMENTS, PREFILL_ONLY, GenerationLoops, own_helpers
from specbeam.core.scorer import TOKEN_TYPES, Request
from specbeam.engines.rope import longest_text
from specbeam.engines.target import Target
from specbeam.engines.wrappers import held, unwrapped

from .options import OFF_IN_LOOPS, check_options, check_prompts, check_seen, source_of

SIGNATURE = inspect.signature(vars(GenerationMixin)["generate"])
# arguments of a loop that are none of the model's inputs
_NO_INPUTS = LOOP_ARGUMENTS | {"attention_mask", "position_ids", "use_cache", "logits_to_keep", "tokenizer"}
# inputs that say something of the images, videos or sounds in the prompt
_OF_MEDIA = ("pixel", "image", "video", "audio", "vision", "input_features", "input_values", "feature", "spatial")


class TargetLoops(GenerationLoops):
    """Has all that `target` has, and a `generate` whose loop is `run_loop`."""

    def __init__(self, target: Any):
        self.held: Any = held(target)  # adapters are switched there
        self.target: Any = unwrapped(target)
        self.main_input_name = getattr(self.target, "main_input_name", "input_ids")
        vars(self).update(own_helpers(self.target))

    def __getattr__(self, name: str) -> Any:
        if name in ("held", "target"):  # not there yet while a copy is being made
            raise AttributeError(name)
        value = getattr(self.held, name)
        return partial(self._chained, value) if getattr(value, "__self__", None) is self.held else value

    def _chained(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """What a method of the target returns; `model.eval()` returns the model, and so this."""
        result = method(*args, **options)
        return self if result is self.held else result

    @property
    def forward(self) -> Callable[..., Any]:
        """`answer`, with the signature of the target's forward pass: `generate` reads the known inputs off it."""
        forward: Any = partial(self.answer)
        forward.__signature__ = inspect.signature(self.target.forward)
        return forward

    def answer(self, input_ids: Tensor, **inputs: Any) -> Any:
        """What transformers' own loop gets for full sequences, if it is run."""
        raise NotImplementedError

    def heal_tokens(self, input_ids: Tensor, tokenizer: Any = None) -> Tensor:  # type: ignore[override]
        """The prompts with their last tokens healed, which the target does: no decode of ours has begun yet."""
        return self.target.heal_tokens(input_ids, tokenizer)

    def resolve(self, arguments: dict[str, Any], defaults: Mapping[str, Any], drop_in: bool) -> dict[str, Any]:
        """Arguments for `generate`, checked, with `defaults` for what neither call, config nor checkpoint says.

        Raises:
            ValueError: for what is refused or makes no sense, naming value and remedy.
        """
        config: GenerationConfig | None = arguments.pop("generation_config", None)
        saved = self.generation_config
        options = check_options(arguments, config, saved, drop_in)
        self.use_cache = source_of("use_cache", options, config, saved)[0] is not False
        prompts = [options[name] for name in ("inputs", "input_ids") if options.get(name) is not None]
        if len(prompts) == 1:
            usual = {"inputs", "input_ids", "attention_mask", "position_ids", "token_type_ids"}
            only_text = not any(isinstance(value, Tensor) for name, value in options.items() if name not in usual)
            check_prompts(self.target, prompts[0], options.get("attention_mask"), only_text)
        self.given = partial(source_of, options=options, config=config, saved=saved)
        added = {name: value for name, value in defaults.items() if self.given(name)[0] is None}
        if "max_new_tokens" in added and self.given("max_length")[0] is not None:
            del added["max_new_tokens"]
        if config is None:
            return {**options, **added, **OFF_IN_LOOPS}
        # not as arguments of the call: transformers complains of those beside a config
        config = copy.deepcopy(config)
        for name, value in {**added, **OFF_IN_LOOPS}.items():
            setattr(config, name, value)
        options = {name: value for name, value in options.items() if name not in OFF_IN_LOOPS}
        again = {name: None for name in OFF_IN_LOOPS if getattr(saved, name, None) and getattr(config, name) is None}
        return {**options, **again, "generation_config": config}

    def request(self, input_ids: Tensor, copies: int, options: Mapping[str, Any]) -> Request:
        """The request of a loop's arguments, whose rows come `copies` times each.

        Raises:
            ValueError: for an input of the model that would be needed again after the prompt.
        """
        inputs = {name: value for name, value in options.items() if name not in _NO_INPUTS and value is not None}
        inputs = {name: value for name, value in inputs.items() if value is not False}
        for name, value in inputs.items():
            known = name in PREFILL_ONLY or name in TOKEN_TYPES or name.startswith(_OF_MEDIA)
            if isinstance(value, Tensor) and not known:
                raise ValueError(
                    f"{name} cannot be served: what a tree pass would have to know of it for tokens after the prompt "
                    "is not known. Leave it out, or use the target's own generate."
                )
            inputs[name] = value[::copies] if isinstance(value, Tensor) else value
        prompts = input_ids[::copies]
        mask, positions = options.get("attention_mask"), options.get("position_ids")
        mask = torch.ones_like(prompts) if mask is None else mask[::copies]
        if mask.shape != prompts.shape:
            raise ValueError(
                f"the prompts have {prompts.shape[1]} tokens and attention_mask {mask.shape[1]}: token healing has "
                "changed their length, which transformers does not serve either; leave token_healing out."
            )
        check_seen(mask)  # transformers may have inferred it from the pad token
        if positions is not None:
            batch = positions.dim() - 2  # images have positions of shape (3, batch, length)
            rows = positions.shape[batch]
            positions = positions.movedim(batch, 0)[:: copies if rows == len(input_ids) else rows]
            positions = positions.expand(len(prompts), *positions.shape[1:]).movedim(0, batch)
        config: Any = options["generation_config"]
        eos = config.eos_token_id
        eos = eos.tolist() if isinstance(eos, Tensor) else eos
        stops = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
        if copies > 1 and eos is not None and not stops:
            raise ValueError(
                "eos_token_id is an empty list, which transformers' beam search has no filler for; leave it out, or "
                "give -1 for a text that never ends by itself."
            )
        pad = config.pad_token_id if config.pad_token_id is not None else (*stops, 0)[0]
        new = config.max_length - prompts.shape[1]
        rope, reach = Target.of(self.target).traits.rope, None
        if rope is not None:
            longest = longest_text(mask, positions)
            reach = partial(rope.reach, longest)
            if not self.use_cache and longest + new - 1 > rope.switch:
                raise ValueError(
                    f"use_cache=False reads the text anew at every step, and beyond {rope.switch} tokens "
                    f"{type(self.target).__name__} then gives other logits than with a cache; leave use_cache out."
                )
        return Request(prompts, mask, new, copies, stops, int(pad), positions, inputs, reach)
