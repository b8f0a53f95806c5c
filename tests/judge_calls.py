"""Calls of `generate`, answered by `SpeculativeLM` beside the plain model (for `judge.py`)."""

from __future__ import annotations

import copy
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel

import specbeam as sb

# refused, and without influence on the rest of an answer
OUTPUT_FLAGS, REFUSED_OUTPUTS = ("output_attentions", "output_hidden_states"), ("attentions", "hidden_states")
# what a drop-in says it leaves out (specbeam options return_dict)
LEFT_OUT = ("past_key_values",)
COMPARED = ("sequences", "scores", "logits", "sequences_scores", "beam_indices")


class Judge:
    """Answers the calls of `generate` that a test makes, and keeps what is to be said of them.

    Attributes:
        calls: how many there were.
        refusals: option and message of each that specbeam refused by name.
        wrong: what differed from the plain model, with the call.
    """

    def __init__(self, make_draft: Callable[[Any], Any]):
        self._make_draft, self._inside = make_draft, False
        self.calls, self.refusals, self.wrong = 0, list[tuple[str, str]](), list[str]()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Every `generate` of a transformers model goes through here meanwhile; those that it calls itself do not."""
        plain: Any = vars(GenerationMixin)["generate"]

        @wraps(plain)
        def generate(model: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside or not isinstance(model, PreTrainedModel):
                return plain(model, *args, **kwargs)
            self._inside = True
            try:
                return self._answer(plain, model, args, kwargs)
            finally:
                self._inside = False

        GenerationMixin.generate = generate  # type: ignore[method-assign]
        try:
            yield
        finally:
            GenerationMixin.generate = plain  # type: ignore[method-assign]

    def _answer(self, plain: Any, model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.calls += 1
        options = [
            f"{name}={brief(value)}" for name, value in kwargs.items() if value is not None and value is not False
        ]
        told = f"{type(model).__name__}.generate({', '.join([*map(brief, args), *options])})"
        before = torch.get_rng_state()
        found, error = self._ours(model, args, kwargs)
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        theirs, raised = attempt(plain, model, *args, **kwargs)
        if raised is None and refused_by_name(error):
            option = option_of(str(error), model, kwargs)
            self.refusals.append((option, str(error)))
            asked = {name: value for name, value in kwargs.items() if name not in OUTPUT_FLAGS}
            if option in OUTPUT_FLAGS and len(asked) < len(kwargs):
                torch.set_rng_state(before)
                found, error = self._ours(model, args, asked)
                if error is None:
                    self._compare(model, found, theirs, told, without=REFUSED_OUTPUTS)
                elif refused_by_name(error):
                    self.refusals.append((option_of(str(error), model, kwargs), str(error)))
                else:
                    self.wrong.append(f"{told}: {shown(error)}")
            return theirs
        if error is not None or raised is not None:
            if type(error) is not type(raised) and not (raised is not None and refused_by_name(error)):
                self.wrong.append(f"{told}: {shown(error)}, but the plain model: {shown(raised)}")
            if raised is not None:
                raise raised
            return theirs
        torch.set_rng_state(after)
        self._compare(model, found, theirs, told)
        return found

    def _ours(self, model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Exception | None]:
        # what a call changes, the cache that it continues for one, the plain model shall find as it was
        given = {name: copied(value) for name, value in kwargs.items()}
        return attempt(lambda: sb.SpeculativeLM(model, self._make_draft(model)).generate(*args, **given))

    def _compare(self, model: Any, found: Any, theirs: Any, told: str, without: tuple[str, ...] = ()) -> None:
        """Note how our answer differs; what is left out of it is put in, for the test to go on."""
        if type(found) is not type(theirs):
            self.wrong.append(f"{told}: a {type(found).__name__}, but the plain model a {type(theirs).__name__}")
            return
        differences = []
        if not torch.is_tensor(found):
            missing = [name for name in theirs if found.get(name) is None and name not in without]
            differences += [f"{name} is missing" for name in missing if name not in LEFT_OUT]
            for name in missing:
                found[name] = theirs[name]
            differences += [f"{name} is there" for name in found if theirs.get(name) is None]
        one, other = ({"sequences": each} if torch.is_tensor(each) else each for each in (found, theirs))
        for name in (name for name in COMPARED if other.get(name) is not None):
            # in half precision the likeliest token depends on the shape of a pass: the test's own tolerance counts
            why = "" if model.dtype.itemsize < 4 else difference(one.get(name), other.get(name))
            differences += [f"{name}: {why}"] if why else []
        if differences:
            self.wrong.append(f"{told}: {'; '.join(differences)}")


def copied(value: Any) -> Any:
    if torch.is_tensor(value):
        return value.detach().clone()
    return value if isinstance(value, torch.nn.Module) else copy.deepcopy(value)


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*args, **kwargs), None
    except Exception as error:
        return None, error


def difference(found: Any, expected: Any) -> str:
    """Why two tensors, or two tuples of tensors a step, are not the same; empty where they are."""
    if isinstance(expected, tuple):
        if len(found) != len(expected):
            return f"{len(found)} steps instead of {len(expected)}"
        steps = (difference(*pair) for pair in zip(found, expected, strict=True))
        return next((f"step {i}: {why}" for i, why in enumerate(steps) if why), "")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{brief(found)} instead of {brief(expected)}"
    if not expected.is_floating_point():
        return "" if torch.equal(found, expected) else f"{found.tolist()} instead of {expected.tolist()}"
    if torch.allclose(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True):
        return ""
    return f"differs by up to {(found - expected).nan_to_num(posinf=float('inf')).abs().max().item():.3g}"


def refused_by_name(error: Exception | None) -> bool:
    """Whether specbeam itself raised this ValueError, in so many words."""
    if error is None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = Path(last.filename).is_relative_to(Path(sb.__file__).parent)
    return isinstance(error, ValueError) and own and (last.line or "").startswith("raise ")


def option_of(message: str, model: Any, kwargs: Mapping[str, Any]) -> str:
    """The first option or model input that the message names."""
    known = {*kwargs, *GenerationConfig().to_dict(), *inspect.signature(model.forward).parameters}
    known |= {*inspect.signature(model.generate).parameters} - {"kwargs", "inputs"}
    return next((word for word in re.findall(r"\w+", message) if word in known), "(no option)")


def brief(value: Any) -> str:
    if torch.is_tensor(value):
        return f"<{str(value.dtype).removeprefix('torch.')} {[*value.shape]}>"
    text = repr(value)
    return text if len(text) < 60 and "\n" not in text else f"<{type(value).__name__}>"


def shown(error: Exception | None) -> str:
    if error is None:
        return "an answer"
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}:{where.lineno})"
