"""The decoders that the benchmark compares: transformers' `generate` on one target or two, and ours.

Ours run on the target as `load_pair` returns it. Where that is packed for PyTorch, it helps transformers too, so
transformers runs on both: the target as it comes, and ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from specbeam.core.stats import Stats
from specbeam.decoding.decoders import Decoded, beam, greedy, speculative, speculative_beam
from specbeam.drafts.recall import NgramDraft, RecallDraft
from specbeam.drafts.union import UnionDraft
from specbeam.engines.packing import PackedLinear
from specbeam.engines.target import Target
from specbeam.models.checkpoints import check_vocabulary
from specbeam.models.load import Pair, load_pair
from specbeam.models.stopping import cut_after_stop, stop_tokens

from .cases import ALL, ASSISTED, LOOKUP, NO_DRAFT, PACKED, PLAIN, TRAINED, UNTRAINED, Run, Runner

LOOKUP_TOKENS = 10  # prompt_lookup_num_tokens in the example of transformers' documentation


@dataclass(frozen=True)
class Contenders:
    """The loaded models. `plain` is `main` if its target is not packed; then there is one baseline only."""

    main: Pair
    plain: Pair
    ours: dict[str, Pair]  # row -> pair with its draft
    assistant: Any = None
    remarks: list[str] = field(default_factory=list)  # on rows that were left out

    @property
    def packed(self) -> bool:
        return self.plain is not self.main

    @property
    def engine(self) -> str:
        """What our passes run in."""
        return Target.of(self.main.target).runtime + (", packed" if self.packed else "")

    @property
    def default(self) -> str:
        """Our row with the draft that was asked for."""
        return list(self.ours)[-1]


def load_contenders(
    target: str | None = None,
    draft: str = "auto",
    *,
    dtype: str = "auto",
    device: str = "auto",
    engine: str = "auto",
    packed: bool | str = "auto",
    assistant: str | None = None,
) -> Contenders:
    """Load the models; arguments as for `load_pair`.

    draft: "auto" also compares its parts; any other gets one row with its name.
    assistant: hub id or folder of a smaller model for transformers' assisted generation.

    Raises ValueError as `load_pair` does. Without a trained draft for the target, "auto" leaves out that row.
    """
    load: Callable[..., Pair] = partial(load_pair, dtype=dtype, device=device, engine=engine, packed=packed)
    main = load(target, draft=draft)
    plain = load(target, draft="none", engine="torch", packed=False) if _is_packed(main.target) else main
    untrained = replace(main, draft=UnionDraft([RecallDraft(), NgramDraft()]))
    ours, remarks = {UNTRAINED: untrained}, []
    if draft != "auto":
        ours[draft.rstrip("/").rpartition("/")[2]] = main
    else:
        try:
            ours[TRAINED] = replace(main, draft=load(target, draft="trained").draft)
        except ValueError as error:
            remarks.append(f"without the row {TRAINED!r}: {error}")
        if _parts(main.draft) == _parts(untrained.draft):
            del ours[UNTRAINED]
            remarks.append(f"without the row {UNTRAINED!r}: the row {ALL!r} has just these drafts")
        ours[ALL] = main
    helper = None
    if assistant is not None:
        small = load(assistant, draft="none", engine="torch")
        check_vocabulary(main.tokenizer, small.tokenizer)
        helper = small.target
    return Contenders(main, plain, ours, helper, remarks)


def make_runners(who: Contenders, max_new_tokens: int) -> dict[str, Runner]:
    """The runners by the name of their row, baselines first: each decodes one prompt, or a batch."""
    target = who.main.target
    runners = {PLAIN: _transformers(who.plain.target, max_new_tokens)}
    if who.packed:
        runners[PACKED] = _transformers(target, max_new_tokens)
    runners[LOOKUP] = _transformers(target, max_new_tokens, prompt_lookup_num_tokens=LOOKUP_TOKENS)
    if who.assistant is not None:
        runners[ASSISTED] = _transformers(target, max_new_tokens, assistant_model=who.assistant)
    runners[NO_DRAFT] = _ours(who.main, greedy, beam, max_new_tokens)
    for name, pair in who.ours.items():
        runners[name] = _ours(pair, speculative, speculative_beam, max_new_tokens)
    return runners


def _transformers(target: Any, max_new_tokens: int, **options: Any) -> Runner:
    settings = {"max_new_tokens": max_new_tokens, "do_sample": False, "return_dict_in_generate": True, **options}
    stops = stop_tokens(target)

    def run(inputs: Mapping[str, Any], num_beams: int) -> Run:
        with _watched(target) as passes, _watched(options.get("assistant_model")) as draft_passes:
            began = _now(target)
            output = target.generate(**inputs, num_beams=num_beams, **settings)
            taken = _now(target) - began
        rows, width = inputs["input_ids"].shape
        tokens = [token for row in output.sequences[:, width:].tolist() for token in cut_after_stop(row, stops)]
        stats = Stats(
            steps=len(passes) if num_beams * rows > 1 else len(tokens),
            new_tokens=len(tokens),
            target_passes=len(passes),
            target_tokens=sum(count for count, _ in passes),
            draft_passes=len(draft_passes),
            target_s=sum(seconds for _, seconds in passes),
            draft_s=sum(seconds for _, seconds in draft_passes),
        )
        # The cache holds num_beams x (prompt + new tokens) except for the last token, which is never forwarded.
        # Speculation crops its cache, so that its final size does not tell the largest.
        slots = None if options else rows * num_beams * output.past_key_values.get_seq_length()
        return Run(taken, tokens, stats, slots, passes[0][0], timed=target.device.type == "cpu")

    return run


def _ours(pair: Pair, one: Callable[..., Decoded], several: Callable[..., Decoded], max_new_tokens: int) -> Runner:
    def run(inputs: Mapping[str, Any], num_beams: int) -> Run:
        decode = one if num_beams == 1 else partial(several, num_beams=num_beams)
        began = _now(pair.target)
        decoded = decode(pair, inputs, max_new_tokens=max_new_tokens, do_sample=False)
        taken, forwarded = _now(pair.target) - began, inputs["input_ids"].numel()
        tokens = [token for sequence in decoded.sequences for token in sequence]
        return Run(taken, tokens, decoded.stats, decoded.stats.peak_kv_tokens, forwarded)

    return run


@contextmanager
def _watched(model: Any) -> Iterator[list[tuple[int, float]]]:
    """Collects the tokens and seconds of every forward pass of the model; nothing for None.

    On asynchronous devices these are the seconds until the pass is launched, not until it is done: waiting for it would
    slow the baseline down.
    """
    passes: list[tuple[int, float]] = []
    if model is None:
        yield passes
        return

    def before(module: Any, arguments: Any, given: Mapping[str, Any]) -> None:
        passes.append((given["input_ids"].numel(), -time.perf_counter()))

    def after(module: Any, arguments: Any, output: Any) -> None:
        tokens, began = passes[-1]
        passes[-1] = tokens, began + time.perf_counter()

    with model.register_forward_pre_hook(before, with_kwargs=True), model.register_forward_hook(after):
        yield passes


def _now(model: Any) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()


def _is_packed(model: Any) -> bool:
    return any(isinstance(module, PackedLinear) for module in model.modules())


def _parts(draft: Any) -> list[type]:
    return [type(part) for part in getattr(draft, "drafts", [draft])]
