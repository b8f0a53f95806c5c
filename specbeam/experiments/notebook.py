"""The helpers that notebooks share: their parameters, tables, time in turns, and transformers' tokens to compare with.

from specbeam.experiments.notebook import in_turns, parameters_of, reference, render_all, table, timed
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from IPython.display import Markdown

from specbeam.models.prompts import render_prompt

from .parameters import read_parameters

T = TypeVar("T")
Key = TypeVar("Key")


def parameters_of(notebook: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the notebook with this name in the working folder, with the values that this run gave them.

    `variables` are the notebook's `globals()`. Raises ValueError when the notebook has no parameters cell.
    """
    return {name: variables[name] for name in read_parameters(f"{notebook}.ipynb")}


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markdown:
    """Rows as a Markdown table, or a line that says that there are none.

    Cells may be Markdown, but no HTML: `<` is shown as it is. The items of a list are shown below each other.
    """
    lines = [header, ["---"] * len(header), *rows]
    if len(lines) == 2:
        return Markdown("*Nothing to show here.*")
    return Markdown("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "<br>".join(map(_escaped, value))
    code = re.match(r"`[^`]+`(?!`)", str(value))  # code at the beginning of a cell needs no escapes but that of the bar
    end = code.end() if code else 0
    return _one_line(str(value)[:end]) + _escaped(str(value)[end:])


def _escaped(value: Any) -> str:
    return _one_line(str(value)).replace("<", "&lt;")


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def timed(run: Callable[..., T], *arguments: Any, **options: Any) -> tuple[T, float]:
    """The result of `run(*arguments, **options)`, and its seconds."""
    began = time.perf_counter()
    result = run(*arguments, **options)
    return result, time.perf_counter() - began


def in_turns(
    runs: Mapping[Key, Callable[[], T]], repeats: int, order: random.Random | None = None
) -> dict[Key, list[tuple[T, float]]]:
    """Result and seconds of every run, for each repeat. The runs take turns, so that slow spells hit all of them.

    With `order`, the order within each repeat is drawn from it.
    """
    measured: dict[Key, list[tuple[T, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        names = list(runs) if order is None else order.sample(list(runs), len(runs))
        for name in names:
            measured[name].append(timed(runs[name]))
    return measured


def render_all(pair: Any, texts: Sequence[str], system: str | None = None, debug: bool = False) -> list[Any]:
    """Each text as a prompt of its own (`render_prompt`), as a BatchEncoding on the device of the pair's target."""
    return [render_prompt(pair.tokenizer, text, system=system, debug=debug).to(pair.target.device) for text in texts]


def reference(model: Any, inputs: Mapping[str, Any], num_beams: int = 1, **options: Any) -> list[int]:
    """The new tokens that transformers' own `generate` returns for one prompt, without sampling: the best sequence."""
    output = model.generate(**inputs, num_beams=num_beams, do_sample=False, **options)
    return output[0, inputs["input_ids"].shape[1] :].tolist()
