"""Quality of texts: BLEU and ROUGE against references, and how much the beams of one prompt differ.

BLEU comes from sacrebleu and ROUGE from rouge-score, with the settings that their signatures name. The libraries are
imported when they are first needed. Figures of single prompts are for `intervals.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import Any

from .data_files import Example
from .intervals import Interval, bootstrap, mean

ROUGE = ("rouge1", "rouge2", "rougeL")


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

    options: as for `sacrebleu.metrics.BLEU` (`tokenize`, `lowercase`, `smooth_method`, …). Empty outputs count.
    The interval resamples prompts and computes corpus BLEU from their counts (Koehn 2004).

    Raises ValueError for missing references and unlike numbers of outputs and references.
    """
    from sacrebleu.metrics.bleu import BLEU

    rows = _checked(outputs, references)
    metric = BLEU(**options)
    # None if an output has fewer references than another: sacrebleu takes "" for a reference without words
    by_set: Any = list(zip_longest(*rows))
    score = metric.corpus_score(list(outputs), by_set).score

    segments = BLEU(**{**options, "effective_order": True, "smooth_method": "none"})  # only its counts are used
    sentences = [segments.sentence_score(output, row) for output, row in zip(outputs, rows, strict=True)]
    counts = [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in sentences]

    def of_counts(resampled: Any) -> float:
        sums: list[Any] = resampled.sum(0).astype(int).tolist()
        order = metric.max_ngram_order
        names = ("smooth_method", "smooth_value", "effective_order", "max_ngram_order")
        settings = {name: getattr(metric, name) for name in names}
        return BLEU.compute_bleu(sums[:order], sums[order : 2 * order], *sums[2 * order :], **settings).score

    interval = bootstrap(counts, statistic=of_counts, level=level, resamples=resamples, seed=seed)
    return Bleu(score, str(metric.get_signature()), interval)


def rouge(
    outputs: Sequence[str], references: Sequence[str | Sequence[str]], *, stemmer: bool = False
) -> dict[str, list[float]]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L, 0 to 1, one a prompt, for `mean` and `bootstrap`.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", by rouge-score. Of several references the best
    match counts. ROUGE-L is that of the whole text, line breaks ignored. An empty output scores 0.

    stemmer: whether to compare words by their Porter stems.

    Raises ValueError as `bleu` does.
    """
    from rouge_score.rouge_scorer import RougeScorer

    rows = _checked(outputs, references)
    scorer = RougeScorer(list(ROUGE), use_stemmer=stemmer)
    scores = [scorer.score_multi(row, output) for output, row in zip(outputs, rows, strict=True)]
    return {kind: [float(score[kind].fmeasure) for score in scores] for kind in ROUGE}


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of one prompt's `sequences`, in (0, 1]: 1 if nothing repeats.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", section 5.3. They divide
    by the number of tokens; dividing by that of n-grams, as is usual now, makes 1 reachable. None without n-grams.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    grams = [tuple(s[i : i + n]) for s in sequences for i in range(len(s) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU of each text against all others, 0 to 100: the higher, the more alike the texts of one prompt.

    Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models", section 3.2; sentence BLEU by
    sacrebleu with its default smoothing and effective order. None for fewer than two texts.
    """
    from sacrebleu.metrics.bleu import BLEU

    if len(texts) < 2:
        return None
    metric = BLEU(effective_order=True)
    return mean([metric.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts)])


def mean_edit_distance(sequences: Sequence[Sequence[Hashable]]) -> float | None:
    """Mean edit distance over all pairs of one prompt's sequences, each divided by the longer length, in [0, 1].

    By NLTK: how many tokens must be inserted, deleted or replaced to turn one into the other (Levenshtein 1966). 0 if
    all are the same; None for fewer than two sequences.
    """
    from nltk.metrics.distance import edit_distance

    distances = [edit_distance(a, b) / max(len(a), len(b), 1) for a, b in combinations(sequences, 2)]
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


def _checked(outputs: Sequence[str], references: Sequence[str | Sequence[str] | None]) -> list[list[str]]:
    """The references of every output, without empty ones."""
    if not outputs:
        raise ValueError("there are no outputs to compare with references; decode at least one prompt")
    if len(outputs) != len(references):
        raise ValueError(f"{len(outputs)} outputs and {len(references)} references: give one reference an output")
    rows = []
    for index, given in enumerate(references):
        row = [given] if given is None or isinstance(given, str) else list(given)
        row = [text for text in row if text is not None and text.strip()]
        if not row:
            raise ValueError(f"example {index} of {len(outputs)}, counted from 0, has no reference; {_NO_REFERENCE}")
        rows.append(row)
    return rows
