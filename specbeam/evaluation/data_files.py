"""Reading examples: a user's JSON lines or CSV file, MT-Bench's questions, and data sets of the hub (`datasets`).

Errors in a file are ValueErrors that name the line.
"""

import csv
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALL_HUB = "pip install datasets"
HUB = "hub:"
DOCUMENTS = ("article", "document", "dialogue", "text")  # a reference to one of these is a summary of it
PROMPTS = ("prompt", "question")
REFERENCES = ("highlights", "summary", "reference", "target")


@dataclass(frozen=True)
class Example:
    """One prompt, its reference summary (None for open prompts) and its origin, "set/index"."""

    prompt: str
    reference: str | None
    source: str


def read_prompts(path: str | Path) -> list[Example]:
    """The prompts of a JSON lines or CSV file, with the keys or columns `prompt` and optionally `reference`.

    UTF-8, with or without a byte order mark; `source` is "prompts/" and the number of the line from 1.

    Raises ValueError naming file and line for a missing column, an empty prompt, malformed JSON or CSV, and for a
    file that does not exist, ends in neither .jsonl nor .csv, or has no prompts.
    """
    file = _file(path, "a JSON lines (.jsonl) or CSV (.csv) file with the prompts")
    readers = {".jsonl": json_lines, ".csv": _csv_rows}
    if file.suffix.lower() not in readers:
        raise ValueError(f"{file} ends in {file.suffix!r}: prompts are read from .jsonl or .csv files")
    examples = []
    for line, row in readers[file.suffix.lower()](file):
        prompt, reference = row.get("prompt"), row.get("reference")
        if "prompt" not in row:
            raise ValueError(
                f"{file}, line {line}: there is no 'prompt', only {', '.join(map(repr, row)) or 'nothing'}"
            )
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"{file}, line {line}: the prompt {prompt!r} is no text; write at least one word")
        if reference is not None and not isinstance(reference, str):
            raise ValueError(f"{file}, line {line}: the reference {reference!r} is no text; leave it out or quote it")
        examples.append(Example(prompt, (reference or "").strip() or None, f"prompts/{line}"))
    if not examples:
        raise ValueError(f"{file} holds no prompts; write one a line")
    return examples


def read_mt_bench(path: str | Path) -> list[Example]:
    """The first turn of every question of MT-Bench's `question.jsonl`; `source` is "mt_bench/" and its question_id.

    Raises ValueError naming file and line for a record without `question_id` and `turns`.
    """
    file = _file(path, "MT-Bench's question.jsonl")
    examples = []
    for line, row in json_lines(file):
        turns = row.get("turns")
        if "question_id" not in row or not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
            raise ValueError(f"{file}, line {line}: no question of MT-Bench, which has 'question_id' and 'turns'")
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


def cut_words(text: str, max_words: int | None) -> str:
    """The first `max_words` words, with what is between them."""
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    return text if max_words is None or max_words >= len(ends) else text[: ends[max_words - 1]]


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


def _lines(file: Path, newline: str | None = None) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline=newline) as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason}); save it as UTF-8") from error


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON lines file with the numbers of their lines from 1; blank lines are skipped."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number}: malformed JSON ({error.msg}, column {error.colno})") from error
        if not isinstance(row, dict):
            raise ValueError(f'{file}, line {number}: {row!r} is no JSON object like {{"prompt": "…"}}')
        yield number, row


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV file by column, with the number of the line on which each begins; the header is line 1."""
    rows = csv.reader(_lines(file, newline=""), strict=True)
    begin = 1
    try:
        header = [name.strip() for name in next(filter(None, rows), [])]
        begin = rows.line_num + 1
        for row in rows:
            if len(row) > len(header):
                raise ValueError(
                    f"{file}, line {begin}: {len(row)} cells where the header has {len(header)}; "
                    "put a text that holds commas in double quotes"
                )
            if row:
                yield begin, dict(zip(header, row))  # noqa: B905 - a short row lacks its last columns
            begin = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{file}, line {begin}: malformed CSV ({error})") from error
