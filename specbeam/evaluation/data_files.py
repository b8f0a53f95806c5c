"""Reading examples: a user's file of prompts, MT-Bench's questions, and data sets of the hub (`datasets`).

Errors in a file are ValueErrors that name the line and what to do.
"""

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from specbeam.text import check_text

from .conversations import read_conversation
from .file_text import format_of, shown
from .json_rows import json_rows
from .table_rows import table_rows
from .words import cut_words

INSTALL_HUB = "pip install datasets"
HUB = "hub:"
DOCUMENTS = ("article", "document", "dialogue", "text")  # a reference to one of these is a summary of it
PROMPTS = ("prompt", "question")
REFERENCES = ("highlights", "summary", "reference", "target")
READERS = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), json_rows),
    **dict.fromkeys((".csv", ".tsv", ".tab"), table_rows),
}


@dataclass(frozen=True)
class Example:
    """One prompt, its reference summary (None for open prompts) and its origin, "set/index".

    prompt: a text; from a file of conversations also a list of messages. `render_prompt` takes either.
    """

    prompt: Any
    reference: str | None
    source: str


def read_prompts(path: str | Path, encoding: str | None = None) -> list[Example]:
    """The prompts of a file with the keys or columns `prompt` and optionally `reference`, in letters of either case.

    JSON: an object a line, or one list of them (.jsonl, .ndjson, .json); a table with a header (.csv, .tsv), its cells
    divided by commas, semicolons, tabs or bars. Each may be packed as .gz. In place of the prompt, objects may have
    `messages`, a conversation in OpenAI's chat format (`conversations.read_conversation`).

    encoding: of the file, if it is none of Unicode's: those are recognised, others are not guessed.

    `source` is "prompts/" and the number of the line from 1, or of the prompt where several stand on one line.

    Raises ValueError naming file, line and remedy for whatever cannot be read or can be read in two ways.
    """
    file = _file(path, "a JSON lines (.jsonl) or CSV (.csv) file with the prompts")
    if format_of(file) not in READERS:
        raise ValueError(
            f"{file} ends in {file.suffix!r}: prompts are read from .jsonl or .csv files (also from .ndjson, .json, "
            ".tsv and .tab, each packed as .gz or not)"
        )
    rows = READERS[format_of(file)](file, encoding)
    lines, examples = [], []
    for line, row in rows:
        lines.append(line)
        examples.append(_example(row, f"{file}, line {line}", f"prompts/{line}"))
    if not examples:
        raise ValueError(f"{file} holds no prompts; write one a line")
    if len(set(lines)) < len(lines):
        return [replace(one, source=f"prompts/{number}") for number, one in enumerate(examples, 1)]
    return examples


def _example(row: dict[str, Any], where: str, source: str) -> Example:
    given = {name: _field(row, name, where) for name in ("prompt", "messages", "reference")}
    prompt, reference = given["prompt"], given["reference"]
    if prompt is None and given["messages"] is not None:
        unread = [name for name in ("tools", "functions") if row.get(name)]
        if unread:
            raise ValueError(f"{where}: {unread[0]!r} beside 'messages' is not read; leave it out")
        prompt, answer = read_conversation(given["messages"], where)
        if answer and reference is not None:
            raise ValueError(f"{where}: there are an answer in 'messages' and a 'reference'; keep one")
        return Example(prompt, answer or _reference(reference, where), source)
    if prompt is not None and given["messages"] is not None:
        raise ValueError(f"{where}: there are a 'prompt' and 'messages'; keep one")
    if not any(_is(key, "prompt") for key in row):
        keys = ", ".join(map(shown, [*row][:8])) or "nothing"
        raise ValueError(f"{where}: there is no 'prompt', only {keys}; rename the key or column that holds it")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"{where}: the prompt {shown(prompt)} is no text; write at least one word")
    check_text(prompt, f"{where}: the prompt")
    return Example(prompt, _reference(reference, where), source)


def _is(key: str, name: str) -> bool:
    return key.strip().casefold() == name


def _field(row: dict[str, Any], name: str, where: str) -> Any:
    """The value under a key in letters of either case; None if there is none, or NaN, as pandas writes it."""
    keys = [key for key in row if _is(key, name)]
    if len(keys) > 1:
        raise ValueError(f"{where}: the keys {', '.join(map(repr, keys))} differ in case only; keep one")
    value = row[keys[0]] if keys else None
    return None if isinstance(value, float) and math.isnan(value) else value


def _reference(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{where}: the reference {shown(value)} is no text; leave it out or quote it")
    check_text(value, f"{where}: the reference")
    return value.strip() or None


def read_mt_bench(path: str | Path, encoding: str | None = None) -> list[Example]:
    """The first turn of every question of MT-Bench's `question.jsonl`; `source` is "mt_bench/" and its question_id.

    Raises ValueError naming file and line for a record without `question_id` and `turns`.
    """
    file = _file(path, "MT-Bench's question.jsonl")
    examples = []
    for line, row in json_rows(file, encoding):
        turns = row.get("turns")
        if "question_id" not in row or not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
            raise ValueError(f"{file}, line {line}: no question of MT-Bench, which has 'question_id' and 'turns'")
        check_text(turns[0], f"{file}, line {line}: the question")
        examples.append(Example(turns[0], None, f"mt_bench/{row['question_id']}"))
    if not examples:
        raise ValueError(f"{file} holds no questions")
    return examples


def hub_examples(
    name: str,
    n: int | None,
    seed: int,
    max_words: int | None,
    *,
    config: str | None = None,
    split: str = "test",
    revision: str | None = None,
    prompt_column: str | None = None,
    reference_column: str | None = None,
    instruction: str | None = None,
) -> list[Example]:
    """Examples of a data set of the Hugging Face hub, or of a folder of data files; `n` drawn (or fewer), or all.

    config, split, revision: as for `datasets.load_dataset`.
    prompt_column, reference_column: by default the first of the usual names (`DOCUMENTS`, `PROMPTS`, `REFERENCES`).
    instruction: precedes every prompt; by default a request for a summary if documents come with one, else empty.

    Records without a text are dropped.

    Raises ValueError with the remedy if `datasets` is missing, the data set cannot be loaded, or no column fits.
    """
    rows = _load_dataset(name, config, split, revision)
    prompt_column = _column(rows.column_names, prompt_column, (*DOCUMENTS, *PROMPTS), "prompt_column")
    reference_column = _column(rows.column_names, reference_column, REFERENCES, "reference_column")
    if prompt_column is None:
        known = ", ".join((*DOCUMENTS, *PROMPTS))
        raise ValueError(
            f"{name!r} has the columns {', '.join(rows.column_names)}, and none of {known}; give prompt_column="
        )
    if instruction is None:
        summarising = prompt_column in DOCUMENTS and reference_column is not None
        instruction = f"Summarise the following {prompt_column}.\n\n" if summarising else ""

    order = list(range(len(rows)))
    if n is not None:
        random.Random(seed).shuffle(order)
    examples = []
    for index in order:
        if len(examples) == n:
            break
        row = rows[index]
        prompt, reference = row[prompt_column], row[reference_column] if reference_column else None
        for column, value in ((prompt_column, prompt), (reference_column, reference)):
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name!r}, row {index}: column {column!r} holds {value!r}, which is no text")
        if prompt and prompt.strip():
            text = cut_words(prompt.strip(), max_words)
            examples.append(
                Example(instruction + text, (reference or "").strip() or None, f"{HUB}{name}/{split}/{index}")
            )
    if not examples:
        raise ValueError(f"{name!r}, split {split!r}: no record has a text in its column {prompt_column!r}")
    return examples


def _load_dataset(name: str, config: str | None, split: str, revision: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"{HUB}{name} is read by the package `datasets`; run: {INSTALL_HUB}") from error
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # they would stay in a notebook's output
    try:
        return datasets.load_dataset(name, config, split=split, revision=revision)
    except (ConnectionError, TimeoutError) as error:
        raise ValueError(
            f"the data set {name!r} is not on this machine and the hub cannot be reached ({_first_line(error)}); try "
            f"again with a network, or give a folder with its files ({HUB}FOLDER) or a file of prompts ('prompts')"
        ) from error
    except Exception as error:  # of many types, for an unknown name, configuration, split, revision or file format
        raise ValueError(
            f"the data set {name!r} cannot be loaded with {config=}, {split=} and {revision=}: {_first_line(error)}"
        ) from error
    finally:
        if not bars:
            datasets.enable_progress_bars()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _column(there: list[str], given: str | None, guesses: tuple[str, ...], option: str) -> str | None:
    if given is not None and given not in there:
        raise ValueError(f"{option}={given!r} is no column; there are {', '.join(map(repr, there))}")
    return given or next((name for name in guesses if name in there), None)


def _file(path: str | Path, what: str) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"path={str(path)!r} is no file; give {what}")
    return Path(path)
