"""Quality of texts: BLEU and ROUGE against references, and how much the beams of one prompt differ.

BLEU comes from sacrebleu, with a tokenizer for the script of the references that its signature names, and ROUGE from
rouge-score, over the words of `words.tokens`. Both take texts as composed (Unicode's NFC): a decomposed spelling is no
other text. The libraries are imported when they are first needed. Figures of single prompts are for
`intervals.bootstrap`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, zip_longest
from typing import Any

from . import words
from .data_files import Example
from .intervals import Interval, bootstrap, mean

ROUGE = ("rouge1", "rouge2", "rougeL")
ENOUGH = 0.1  # of the words: a line of Chinese or Thai is one single word to BLEU's tokenizers for other scripts


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU, 0 to 100, with sacrebleu's signature (scores are comparable under one) and its interval."""

    score: float
    signature: str
    interval: Interval


def references(examples: Sequence[Example]) -> list[str]:
    """The reference of every example. Raises ValueError naming the first that has none, and what to do."""
    for one in examples:
        if not (one.reference or "").strip():
            raise ValueError(f"example {one.source} has no reference; {_NO_REFERENCE}")
    return [one.reference or "" for one in examples]


_NO_REFERENCE = (
    "BLEU and ROUGE compare with one: take a set with summaries ('xsum', 'multi_lexsum'), give a 'reference' to every "
    "prompt, or leave these metrics out"
)


def bleu(
    outputs: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Bleu:
    """Corpus BLEU of the outputs, each against its reference or several (Papineni et al. 2002; Post 2018).

    options: as for `sacrebleu.metrics.BLEU` (`tokenize`, `lowercase`, `smooth_method`, …). By default `tokenize` is
    `bleu_tokenizer` of the references; and where none of them has the four tokens of BLEU's longest n-gram, BLEU would
    be 0 whatever the outputs are, so `effective_order` leaves the longer ones out. The signature says both.

    Empty outputs count. The interval resamples prompts and computes corpus BLEU from their counts (Koehn 2004).

    Raises ValueError for missing references and unlike numbers of outputs and references.
    """
    from sacrebleu.metrics.bleu import BLEU

    rows = _checked(outputs, references, has=_is_seen, lacks="no reference")
    outputs = [_composed(output) for output in outputs]
    if "tokenize" not in options and "trg_lang" not in options:
        options["tokenize"] = bleu_tokenizer(chain(*rows))
    metric = BLEU(**options)
    order = metric.max_ngram_order
    long = [any(len(metric.tokenizer(text.rstrip()).split()) >= order for text in row) for row in rows]
    if chooses_order := "effective_order" not in options:
        metric = BLEU(**options, effective_order=not any(long))
    # None if an output has fewer references than another: sacrebleu takes "" for a reference without words
    by_set: Any = list(zip_longest(*rows))
    score = metric.corpus_score(outputs, by_set).score

    segments = BLEU(**{**options, "effective_order": True, "smooth_method": "none"})  # only its counts are used
    sentences = [segments.sentence_score(output, row) for output, row in zip(outputs, rows, strict=True)]
    counts = [
        [*one.counts, *one.totals, one.sys_len, one.ref_len, is_long]
        for one, is_long in zip(sentences, long, strict=True)
    ]

    def of_counts(resampled: Any) -> float:
        sums: list[Any] = resampled.sum(0).astype(int).tolist()
        settings = {name: getattr(metric, name) for name in ("smooth_method", "smooth_value", "max_ngram_order")}
        settings["effective_order"] = metric.effective_order or (chooses_order and not sums[-1])
        return BLEU.compute_bleu(sums[:order], sums[order : 2 * order], *sums[2 * order : -1], **settings).score

    interval = bootstrap(counts, statistic=of_counts, level=level, resamples=resamples, seed=seed)
    return Bleu(score, str(metric.get_signature()), interval)


def bleu_tokenizer(texts: Iterable[str]) -> str:
    """The tokenizer of sacrebleu for texts of this script that needs no further package and no download.

    "13a", sacrebleu's default, for Latin script; "intl", which knows the punctuation of Unicode, for other scripts with
    spaces between words; "zh", Chinese characters one by one and the rest as in "13a"; "char" for Japanese, Thai and
    other scripts without spaces. A tenth of the words in such a script decides for it.
    """
    counts = words.kinds(texts)
    alone = counts[words.HAN] + counts[words.UNSPACED]
    if alone and alone >= ENOUGH * sum(counts.values()):
        return "zh" if counts[words.UNSPACED] < ENOUGH * alone else "char"
    return "intl" if counts[words.SPACED] > counts[words.LATIN] else "13a"


def rouge(
    outputs: Sequence[str], references: Sequence[str | Sequence[str]], *, stemmer: bool = False
) -> dict[str, list[float]]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L, 0 to 1, one a prompt, for `mean` and `bootstrap`.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", by rouge-score, over `words.tokens`, which are
    rouge-score's own for ASCII; `rouge_tokenizer` names them. Of several references the best match counts. ROUGE-L is
    that of the whole text, line breaks ignored. An output without words scores 0. ROUGE-2 of a single word, which has
    no pairs, is 1 for the same word and 0 otherwise.

    stemmer: whether to compare English words by their Porter stems.

    Raises ValueError as `bleu` does, and for a reference without a letter or digit.
    """
    from rouge_score.rouge_scorer import RougeScorer

    rows = _checked(outputs, references, has=words.tokens, lacks="no reference with a letter or digit")
    tokenizer = _RougeTokenizer(stemmer)
    scorer = RougeScorer(list(ROUGE), tokenizer=tokenizer)
    figures: dict[str, list[float]] = {kind: [] for kind in ROUGE}
    for output, row in zip(outputs, rows, strict=True):
        score = scorer.score_multi(row, output)
        for kind in ROUGE:
            figures[kind].append(float(score[kind].fmeasure))
        mine = tokenizer.tokenize(output)
        if len(mine) == 1 and any(tokenizer.tokenize(text) == mine for text in row):
            figures["rouge2"][-1] = 1.0
    return figures


def rouge_tokenizer(texts: Iterable[str]) -> str:
    """What ROUGE counts in these texts, for records and tables: words, single letters of scripts without spaces."""
    counts = words.kinds(texts)
    alone = bool(counts[words.HAN] + counts[words.UNSPACED])
    spaced = bool(counts[words.LATIN] + counts[words.SPACED])
    counted = "words and, in scripts without spaces, letters" if spaced else "letters"
    return f"{counted if alone else 'words'} (case folded, NFC)"


class _RougeTokenizer:
    """`words.tokens` for rouge-score. Stems as it does: words of more than three letters, and English ones only."""

    def __init__(self, stemmer: bool) -> None:
        self._stem: Callable[[str], str] | None = None
        if stemmer:
            from nltk.stem.porter import PorterStemmer

            self._stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        found, stem = words.tokens(text), self._stem
        return [stem(word) if stem and len(word) > 3 and word.isascii() else word for word in found]


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of one prompt's `sequences`, in (0, 1]: 1 if nothing repeats.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.3. They divide
    by the number of tokens; dividing by that of n-grams, as is usual now, makes 1 reachable. None without n-grams.

    sequences: tokens, such as a model's; a text among them counts by its `words.tokens`, in any script.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    split = [words.tokens(one) if isinstance(one, str) else one for one in sequences]
    grams = [tuple(s[i : i + n]) for s in split for i in range(len(s) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text against all others, 0 to 100: the higher, the more alike the texts of one prompt.

    Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models", section 3.2; sentence BLEU by
    sacrebleu with its default smoothing, effective order, and the `bleu_tokenizer` of the texts. None for fewer than
    two texts, and if all are empty.
    """
    from sacrebleu.metrics.bleu import BLEU

    if len(texts) < 2 or not any(map(_is_seen, texts)):
        return None
    texts = [_composed(text) for text in texts]
    metric = BLEU(effective_order=True, tokenize=bleu_tokenizer(texts))
    return mean([metric.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts)])


def mean_edit_distance(sequences: Sequence[Sequence[Hashable]]) -> float | None:
    """Mean edit distance over all pairs of one prompt's sequences, each divided by the longer length, in [0, 1].

    By NLTK: how many tokens must be inserted, deleted or replaced to turn one into the other (Levenshtein 1966). 0 if
    all are the same; None for fewer than two sequences. A text counts by its characters, as composed.
    """
    from nltk.metrics.distance import edit_distance

    items = [_composed(one) if isinstance(one, str) else one for one in sequences]
    distances = [edit_distance(a, b) / max(len(a), len(b), 1) for a, b in combinations(items, 2)]
    return mean(distances) if distances else None


def diversity(sequences: Sequence[Sequence[Hashable]], texts: Sequence[str]) -> dict[str, float | None]:
    """How the returned beams of one prompt differ, given as tokens and as texts.

    "distinct_1", "distinct_2" and "edit_distance" grow with diversity, "self_bleu" falls.
    """
    if len(sequences) != len(texts):
        raise ValueError(f"{len(sequences)} sequences and {len(texts)} texts: give the text of every sequence")
    return {
        "distinct_1": distinct_n(sequences, 1),
        "distinct_2": distinct_n(sequences, 2),
        "self_bleu": self_bleu(texts),
        "edit_distance": mean_edit_distance(sequences),
    }


def mean_over_prompts(each: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of every figure over the prompts that have it; None if no prompt has it."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for one in each for name in one):
        values = [value for one in each if (value := one.get(name)) is not None]
        means[name] = mean(values) if values else None
    return means


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_seen(text: str) -> bool:
    """Whether anything of the text can be seen: not so for spaces, control and format characters alone."""
    return any(not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf") for letter in text)


def _checked(
    outputs: Sequence[str],
    references: Sequence[str | Sequence[str] | None],
    has: Callable[[str], Any],
    lacks: str,
) -> list[list[str]]:
    """The references of every output, composed and without those that have nothing to compare with."""
    if not outputs:
        raise ValueError("there are no outputs to compare with references; decode at least one prompt")
    if len(outputs) != len(references):
        raise ValueError(f"{len(outputs)} outputs and {len(references)} references: give one reference an output")
    rows = []
    for index, given in enumerate(references):
        row = [given] if given is None or isinstance(given, str) else list(given)
        row = [_composed(text) for text in row if text is not None and has(text)]
        if not row:
            raise ValueError(f"example {index} of {len(outputs)}, counted from 0, has {lacks}; {_NO_REFERENCE}")
        rows.append(row)
    return rows
