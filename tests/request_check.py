"""A random request by every entrance beside the model's own `generate`: results, what is shown, and errors."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from equivalence import LETTERS
from request_cases import HASH, Case
from request_models import InPlace, Reach, Shown, draft_of
from request_options import OUTPUTS
from torch import Tensor
from transformers import StopStringCriteria

import specbeam as sb
from specbeam.decoding.options import COUNTS, NO_EFFECT, OPTIONS, REFUSED

FIELDS = ("sequences", "scores", "logits", "sequences_scores", "beam_indices")


class Difference(AssertionError):
    """Ours and transformers' differ; `kind` says in what, without the values."""

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass
class Outcome:
    """What a call returned or raised, and what it showed to what the user handed over."""

    result: Any = None
    error: Exception | None = None
    shown: Any = None

    @classmethod
    def of(cls, case: Case, run: Callable[..., Any], **more: Any) -> Outcome:
        options, config = case.options()
        options |= more
        kept = None if config is None else repr(config.to_dict())  # which may hold tensors
        outcome = cls()
        torch.manual_seed(case.seed)
        try:
            outcome.result = run(options, config)
        except Exception as error:
            outcome.error = error
        if config is not None and repr(config.to_dict()) != kept:
            raise Difference("the generation config was changed")
        watching = [one for name in ("logits_processor", "stopping_criteria") for one in options.get(name) or ()]
        streamer = options.get("streamer")
        outcome.shown = {
            "processors": [one.shown for one in watching],
            "streamer": (streamer.shown, streamer.ended) if isinstance(streamer, Shown) else None,  # type: ignore[attr-defined]
        }
        return outcome


def run_case(case: Case) -> str:
    """Raises a Difference where ours is not transformers'; returns how far the comparison came."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _compared(case)


def _compared(case: Case) -> str:
    model = case.lm()
    lm = sb.SpeculativeLM(model, draft_of(case.draft, model, case.seed), case.budget)
    Reach.seen = False
    theirs = _theirs(case)
    if Reach.seen:
        return "skipped: transformers' own logits are NaN"
    with case.saved():
        ours = Outcome.of(case, _generates(lm.generate, case))
        told = _errors("drop-in", case, theirs, ours)
        if not told:
            _results(case, theirs.result, ours.result)
            if theirs.shown != ours.shown:
                raise Difference("drop-in: shown", f"{ours.shown} for {theirs.shown}")
    return _decoders(case) or told or "compared"


def _theirs(case: Case, **more: Any) -> Outcome:
    """What the model's own `generate` does, without options that have no effect here where they trip it up."""
    with case.saved():
        theirs = Outcome.of(case, _generates(case.lm().generate, case), **more)
    bare = case.without(*_inside())
    if theirs.error is None or bare.items == case.items:
        return theirs
    with bare.saved():
        return Outcome.of(bare, _generates(case.lm().generate, bare), **more)


def _inside() -> list[str]:
    return [option.name for option in OPTIONS.values() if option.drop_in == NO_EFFECT]


def _generates(generate: Callable[..., Any], case: Case) -> Callable[..., Any]:
    """Calls `generate` the way that the case says."""

    def run(options: dict[str, Any], config: Any) -> Any:
        inputs, positions = dict(case.inputs), []
        ids = inputs.pop("input_ids")
        if case.how == "position":
            positions = [ids, config, options.pop("logits_processor", None), options.pop("stopping_criteria", None)]
            return generate(*positions, **inputs, **options)
        if config is not None:
            options = {**options, "generation_config": config}
        return generate(**{"inputs" if case.how == "inputs" else "input_ids": ids}, **inputs, **options)

    def keeping(options: dict[str, Any], config: Any) -> Any:
        return run(dict(options), config)

    return keeping


def _errors(entrance: str, case: Case, theirs: Outcome, ours: Outcome) -> str:
    """What was raised, if anything was; a Difference where one of the two was right not to."""
    if theirs.error is None and ours.error is None:
        return ""
    if ours.error is None:
        raise Difference(f"{entrance}: serves what transformers does not", repr(theirs.error))
    if theirs.error is not None:
        if isinstance(ours.error, ValueError) or type(ours.error) is type(theirs.error):
            return "both raise"
        raise Difference(f"{entrance}: {type(ours.error).__name__}", f"{ours.error!r} for {theirs.error!r}")
    if not refuses(entrance, case, ours.error):
        kind = re.sub(r"[\d\[\]().,'-]+", "", str(ours.error))[:40]
        raise Difference(
            f"{entrance}: {type(ours.error).__name__} {kind}", f"{ours.error!r}, which transformers serves"
        )
    return "refused"


def refuses(entrance: str, case: Case, error: Exception) -> bool:
    """Whether `error` is a refusal that is documented, of something that the case asks for."""
    message = str(error)
    if not isinstance(error, ValueError):
        return False
    if named := re.match(r"(\w+)(=.*)?, from .*, cannot be served", message, re.DOTALL):
        option, value = OPTIONS[named[1]], case.value(named[1])
        state = option.drop_in if entrance == "drop-in" else option.decoders
        return state == REFUSED and (isinstance(value, Tensor) or value not in (None, False, *option.off))
    if named := re.match(r"(\w+) must be a whole number", message):
        values = [item.value for item in case.items if item.name == named[1]]
        return named[1] in COUNTS and any(type(value) is not int or value < 1 for value in values)
    if "num_assistant_tokens must not be negative" in message:
        return case.value("num_assistant_tokens", 0) < 0
    if message.startswith("eos_token_id must be made of token ids"):
        return any(isinstance(item.value, float) for item in case.items if item.name == "eos_token_id")
    if "hides all of prompt" in message:
        ids, mask = case.inputs["input_ids"], case.inputs.get("attention_mask")
        return not (ids != case.value("pad_token_id", 0) if mask is None else mask).any(1).all()
    if "beam sampling is served by" in message:
        return entrance != "drop-in" and bool(case.value("do_sample")) and case.value("num_beams") > 1
    if message.startswith("pad_token_id="):
        pad = case.value("pad_token_id")
        return case.has(*OUTPUTS) and not 0 <= pad < case.lm().config.vocab_size
    if message.startswith("use_cache=False"):
        return case.model == "longrope" and case.value("use_cache") is False
    if message.startswith("eos_token_id is an empty list"):
        return not _eos(case)
    if "pad tokens on its right" in message:
        ids, mask = case.inputs["input_ids"], case.inputs.get("attention_mask")
        return bool((((ids != case.value("pad_token_id", 0)) if mask is None else mask)[:, -1] == 0).any())
    if "is read by sequences" in message:  # where a long-rope text crosses its switch
        ids, mask = case.inputs["input_ids"], case.inputs.get("attention_mask")
        seen = (ids != case.value("pad_token_id", 0)).long() if mask is None else mask
        uneven = bool((seen.diff(dim=1) < 0).any())
        return case.model == "longrope" and ("position_ids" in case.inputs or uneven)
    return False


def _results(case: Case, theirs: Any, ours: Any) -> None:
    if type(theirs) is not type(ours):
        raise Difference("drop-in: type of the result", f"{type(ours)} for {type(theirs)}")
    if isinstance(theirs, Tensor):
        return _same(case, "drop-in: sequences", theirs, ours)
    for name in FIELDS:
        wanted: Any = getattr(theirs, name, None)
        found: Any = getattr(ours, name, None)
        if (wanted is None) != (found is None):
            raise Difference(f"drop-in: {name}", f"{found} for {wanted}")
        if wanted is None:
            continue
        if isinstance(wanted, Tensor):
            wanted, found = (wanted,), (found,)
        if len(wanted) != len(found):
            raise Difference(f"drop-in: {name}, length", f"{len(found)} for {len(wanted)}")
        for one, other in zip(wanted, found, strict=True):
            _same(case, f"drop-in: {name}", one, other)
    return None


def _same(case: Case, kind: str, wanted: Tensor, found: Tensor) -> None:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        raise Difference(f"{kind}, shape", f"{found.shape} {found.dtype} for {wanted.shape} {wanted.dtype}")
    exact = case.model == HASH or not wanted.is_floating_point()
    same = torch.equal if exact else _close
    if not same(wanted.nan_to_num(77.0), found.nan_to_num(77.0)):
        raise Difference(kind, f"{found.tolist()} for {wanted.tolist()}")


def _close(wanted: Tensor, found: Tensor) -> bool:
    return torch.allclose(wanted, found, rtol=1e-4, atol=1e-4)


def _decoders(case: Case) -> str:
    """One of the decoders beside `generate`, whose outputs it needs; it refuses to be asked for those."""
    dice, beams = random.Random(case.seed), case.value("num_beams")
    if case.value("max_new_tokens") is None and case.value("max_length") is None:
        return ""  # another length is the decoders' own default
    several = isinstance(beams, int | np.integer) and beams > 1
    names = ["beam", "speculative_beam"] if several else ["greedy", "speculative"]
    names = dice.sample(names if several or beams is None else [*sb.METHODS], 1)
    if any(case.value(name) for name in OUTPUTS):
        with case.saved():
            ours = Outcome.of(case, _decodes(case, names[0]))
        if not isinstance(ours.error, ValueError):
            raise Difference("decoders: an output is not refused", repr(ours.error))
        case = case.without(*OUTPUTS)
    more: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    if case.has("stop_strings", "token_healing") and case.tokenizer() is not None and not case.has("tokenizer"):
        more["tokenizer"] = LETTERS  # they know their tokenizer
    told, theirs = "", _theirs(case, **more)
    with case.saved():
        if getattr(theirs.result, "sequences_scores", torch.zeros(1)).isnan().any():
            return "skipped: transformers' own scores are NaN"
        for name in names:
            ours = Outcome.of(case, _decodes(case, name))
            if told := _errors(name, case, theirs, ours):
                continue
            if name.startswith("speculative") and case.value("do_sample"):
                continue  # other draws of the same distribution
            if several:
                _beams(case, name, theirs.result, ours.result)
            else:
                _one_beam(case, name, theirs.result, ours.result)
            # what is finished before the others holds filler that nobody reads
            batch = len(case.inputs["input_ids"])
            if (batch == 1 if several else _fills_up(case) or len(theirs.result.sequences) == 1) and (
                theirs.shown != ours.shown
            ):
                raise Difference(f"{name}: shown", f"{ours.shown} for {theirs.shown}")
    return told


def _decodes(case: Case, name: str) -> Callable[..., Any]:
    def run(options: dict[str, Any], config: Any) -> Any:
        more = {} if config is None else {"generation_config": config}
        if name.startswith("speculative") and "num_assistant_tokens" not in options:
            more["num_assistant_tokens"] = case.budget
        return sb.METHODS[name](case.pair(), case.inputs, **options, **more)

    return run


def _eos(case: Case) -> set[int]:
    eos = case.value("eos_token_id", case.lm().generation_config.eos_token_id)
    eos = eos.tolist() if isinstance(eos, Tensor) else eos
    return set() if eos is None else {eos} if isinstance(eos, int) else set(eos)


def _fills_up(case: Case) -> bool:
    """Whether transformers pads a row that has ended: only where there is an end-of-sequence token."""
    return bool(_eos(case)) or not case.has("stopping_criteria", "stop_strings")


def _end(case: Case, row: Tensor, prompt: int) -> int:
    """How many tokens of a row of greedy search or sampling come before its padding."""
    eos, strings, criteria = _eos(case), case.value("stop_strings"), case.value("stopping_criteria")
    stopping = [StopStringCriteria(LETTERS, strings)] if strings else []
    stopping += criteria() if criteria is not None else []
    for end in range(prompt + 1, len(row) + 1):
        if int(row[end - 1]) in eos or any(bool(one(row[None, :end], None)) for one in stopping):  # type: ignore[arg-type]
            return end - prompt
    return len(row) - prompt


def _prompt(case: Case) -> int:
    """How many tokens of a row are its prompt: healing may change that."""
    ids = case.inputs["input_ids"]
    if case.value("token_healing"):
        ids = case.lm().heal_tokens(ids, case.value("tokenizer", LETTERS))
    return ids.shape[1]


def _one_beam(case: Case, name: str, theirs: Any, ours: sb.Decoded) -> None:
    prompt = _prompt(case)
    if len(ours.sequences) != len(theirs.sequences):
        raise Difference(f"{name}: how many sequences")
    plain = not any(kind is InPlace for kind, _ in getattr(case.value("logits_processor"), "made", ()))
    for i, (row, sequence) in enumerate(zip(theirs.sequences, ours.sequences, strict=True)):
        end = _end(case, row, prompt)
        if sequence != row[prompt : prompt + end].tolist():
            raise Difference(f"{name}: sequences", f"{sequence} for {row[prompt:].tolist()}, {end} of them")
        steps = torch.stack([step[i] for step in theirs.logits[:end]]).log_softmax(-1)
        total = steps.gather(1, row[prompt : prompt + end, None]).sum().item()
        if plain and abs(total - ours.scores[i]) > 1e-3 * (1 + abs(total)):
            raise Difference(f"{name}: scores", f"{ours.scores[i]} for {total}")


def _beams(case: Case, name: str, theirs: Any, ours: sb.Decoded) -> None:
    prompt = _prompt(case)
    wanted = [[origin for origin in row if origin >= 0] for row in theirs.beam_indices.tolist()]
    rows = [row[: len(one)] for row, one in zip(theirs.sequences[:, prompt:].tolist(), wanted, strict=True)]
    if ours.sequences != rows:
        raise Difference(f"{name}: sequences", f"{ours.sequences} for {rows}")
    if ours.beam_indices != wanted:
        raise Difference(f"{name}: beam_indices", f"{ours.beam_indices} for {wanted}")
    _same(
        case, f"{name}: scores", theirs.sequences_scores, torch.tensor(ours.scores, dtype=theirs.sequences_scores.dtype)
    )
