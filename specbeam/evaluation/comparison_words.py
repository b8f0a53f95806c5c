"""Sentences about a comparison, derived from its figures: there is a branch for every possible outcome.

Takes the rows of `comparison_summary.summarise`, or the data of `comparison.compare`. Intervals alone decide whether
there is a difference: none is claimed if the interval contains "no difference".
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from specbeam.pictures.drawing import counted

from .comparison import BEAM, GREEDY, HYBRID

Row = Mapping[str, Any]
Bounds = Mapping[str, Any] | None  # an interval as a record holds it
UNDECIDED = "no difference that these prompts show"
FEWEST = 5  # four prompts fall on one side by chance in one of eight cases, so their interval decides nothing


def shown(figure: Any, spec: str = ".2f") -> str:
    """A figure or an interval as text without line breaks; "–" for None. One prompt has no interval."""
    if figure is None:
        return "–"
    if not isinstance(figure, Mapping):
        return format(figure, spec)
    text = format(figure["value"], spec)
    return text if figure["n"] < 2 else f"{text} [{figure['low']:{spec}},\u00a0{figure['high']:{spec}}]"


def verdict(interval: Bounds, higher: str, lower: str, neutral: float = 1.0) -> str:
    """`higher` or `lower` if the interval lies on one side of `neutral`, else that there is no difference."""
    if interval is None:
        return "not measured"
    if interval["n"] < FEWEST:
        return f"not decided by {counted(interval['n'], 'prompt')}"
    if interval["low"] > neutral:
        return higher
    return lower if interval["high"] < neutral else UNDECIDED


def differing(compared: Mapping[str, Any], best_only: bool = True) -> dict[str, list[str]]:
    """Exact methods whose tokens differ from their plain method's → sources of the prompts. Empty if all are equal."""
    exact = {method["name"] for method in compared["methods"] if method["exact"]}
    which: dict[str, list[str]] = {}
    for run in compared["runs"]:
        if run["method"] in exact and not run["equal" if best_only else "all_equal"]:
            which.setdefault(run["method"], []).append(compared["prompts"][run["prompt"]]["source"])
    return which


def equality_words(compared: Mapping[str, Any], method: str) -> str:
    """Whether an exact method returned its plain method's tokens, and if not, on which prompts."""
    plain = next(one["plain"] for one in compared["methods"] if one["name"] == method)
    runs = [run for run in compared["runs"] if run["method"] == method]
    wrong, behind = (differing(compared, only).get(method, []) for only in (True, False))
    if not behind:
        returned = ", every returned beam included" if len(runs[0]["sequences"]) > 1 else ""
        return f"All {len(runs)} outputs of {method} are those of {plain}{returned}."
    if not wrong:
        also = f"beams behind the best differ on {', '.join(behind)}"
        return f"All {len(runs)} outputs of {method} are those of {plain}; {also}."
    lost = [_nats_below_plain(compared, run, plain) for run in runs if not run["equal"]]
    span = f"{lost[0]:.1e}" if len(lost) == 1 else f"{min(lost):.1e} to {max(lost):.1e}"
    return (
        f"**{len(wrong)} of {len(runs)} outputs of {method} differ from those of {plain}**: {', '.join(wrong)}. Their "
        f"log-probability is {span} nats below."
    )


def promise(row: Row) -> str:
    """What a method promises, to be shown beside its name: "exact (beam)", "exact (greedy)", "inexact" or "random"."""
    return f"exact ({row['plain']})" if row["label"] == "exact" else row["label"]


def frontier(rows: Sequence[Row], against: str = BEAM, cost: str = "gap") -> list[Row]:
    """The Pareto frontier, fastest first: rows for which no other is as fast and as cheap, and better in one of these.

    against: the method that speeds are measured against. cost: a figure of which less is better.
    """
    points = [row for row in rows if row["speedup"].get(against) and row.get(cost)]

    def beaten(row: Row) -> bool:
        mine = row["speedup"][against]["value"], -row[cost]["value"]
        others = [(one["speedup"][against]["value"], -one[cost]["value"]) for one in points]
        return any(a >= mine[0] and b >= mine[1] and (a, b) != mine for a, b in others)

    return sorted((row for row in points if not beaten(row)), key=lambda row: -row["speedup"][against]["value"])


def pareto_sentence(rows: Sequence[Row]) -> str:
    """What giving up beam search's result buys, for the rows of one set.

    Considers the methods on the frontier that are shown to be faster than the exact hybrid.
    """
    exact = next(row for row in rows if row["method"] == HYBRID)
    own = f"the exact {HYBRID} (× {exact['speedup'][BEAM]['value']:.2f} the speed of {BEAM} search)"
    if (few := exact["speedup"][BEAM]["n"]) < FEWEST:
        return f"{counted(few, 'prompt')} cannot show what is faster than {own}"
    quicker = [
        row
        for row in frontier(rows)
        if row["method"] not in (BEAM, HYBRID) and verdict(row["speedup"][HYBRID], "faster", "slower") == "faster"
    ]
    if not quicker:
        return f"nothing that leaves {BEAM} search's result is shown to be faster than {own}"
    cheapest, fastest = min(quicker, key=lambda row: row["gap"]["value"]), quicker[0]
    text = f"what is faster than {own} has a score that is {_price(cheapest)}"
    return text if fastest is cheapest else f"{text}, up to {_price(fastest)}"


def speed_words(row: Row, against: str) -> str:
    """ "faster than beam search (× 1.20 [1.10, 1.30])", or whatever the interval allows to say."""
    interval = row["speedup"].get(against)
    if interval is None:
        return "not measured"
    other = f"{BEAM} search" if against == BEAM else against
    word = verdict(interval, "faster than", "slower than")
    if word == UNDECIDED:
        return f"neither faster nor slower than {other} as far as these prompts show (× {shown(interval)})"
    if word not in ("faster than", "slower than"):
        return f"at × {shown(interval)} the speed of {other}, which is {word}"
    return f"{word} {other} (× {shown(interval)})"


def steps_words(hybrid: Row, single: Row) -> str:
    """How many steps a pass yields for several beams and for one sequence, compared."""
    several, one = hybrid["steps_per_pass"], single["steps_per_pass"]
    word = "fewer than" if several < one else "more than" if several > one else "as many as"
    beams = counted(hybrid["num_beams"], "beam")
    return f"{beams} got {several:.2f} steps out of a pass, {word} one sequence with {one:.2f}"


def quality_words(row: Row) -> str:
    """How a method's ROUGE-L compares with that of greedy decoding."""
    gain = row.get("rougeL_gain")
    if gain is None:
        return "cannot be compared by ROUGE: not every prompt has a reference with words in it"
    word = verdict(gain, "above", "below", 0.0)
    difference = f"({shown(gain, '+.3f')})"
    if word == UNDECIDED:
        return f"has a ROUGE-L neither above nor below that of {GREEDY} as far as these prompts show {difference}"
    if word not in ("above", "below"):
        return f"has a ROUGE-L that differs from that of {GREEDY} by {shown(gain, '+.3f')}, which is {word}"
    return f"has a ROUGE-L {word} that of {GREEDY} {difference}"


def main_set(rows: Sequence[Row]) -> str:
    """The set to draw figures of: the first with references, else the first."""
    return next((row["set"] for row in rows if row.get("rougeL")), rows[0]["set"])


def conclusion(compared: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """The results in sentences, a line each: equality, then speed and quality for each set."""
    exact = [one["name"] for one in compared["methods"] if one["exact"] and one["name"] != one["plain"]]
    lines = [equality_words(compared, name) for name in exact]
    for name in dict.fromkeys(row["set"] for row in rows):
        mine = {row["method"]: row for row in rows if row["set"] == name}
        for method in exact:
            row = mine[method]
            worst = f"on its worst prompt × {row['worst_prompt']:.2f}"
            lines.append(f"On {name}, {method} is {speed_words(row, row['plain'])}; {worst}.")
        if BEAM in mine and GREEDY in mine:
            lines.append(f"On {name}, {BEAM} search {quality_words(mine[BEAM])}. {_likelier(mine[BEAM], mine[GREEDY])}")
        if BEAM in mine and HYBRID in mine:
            lines.append(f"On {name}, {pareto_sentence(list(mine.values()))}.")
        drawn = [row for row in mine.values() if row["label"] == "random" and BEAM in row["speedup"]]
        lines += [f"On {name}, {row['method']} is {speed_words(row, BEAM)}." for row in drawn]
        first = next(iter(mine.values()))
        if first.get("rouge_tokenizer"):
            lines.append(f"On {name}, ROUGE counts {first['rouge_tokenizer']}; BLEU is `{first['bleu_signature']}`.")
    empty = sum(row["empty"] for row in rows)
    return [*lines, f"{empty} of {len(compared['runs'])} outputs were empty."]


def as_it_stands(text: str) -> str:
    """A model's text for a Markdown table, with all markup escaped and line breaks shown as ⏎."""
    # entities keep these from starting emphasis, code, links, formulas and columns
    entities = {ord(character): f"&#{ord(character)};" for character in "\\`*_{}[]$|~#"}
    return html.escape(text, quote=False).translate(entities).replace("\n", " ⏎ ")


def _likelier(beam: Row, greedy: Row) -> str:
    gap = greedy["gap"]
    if gap is None or beam["perplexity"] is None or greedy["perplexity"] is None:
        return ""
    word = verdict(gap, "lower", "higher", 0.0)
    word = word if word in ("lower", "higher") else f"not told apart ({word})"
    both = f"{beam['perplexity']['value']:.2f} for {BEAM} search, {greedy['perplexity']['value']:.2f} for {GREEDY}"
    return f"The score of {GREEDY}'s text is {word}; perplexity is {both}."


def _price(row: Row) -> str:
    value = row["gap"]["value"]
    side = "lower" if value >= 0 else "higher"
    return f"{abs(value):.3f} {side} at × {row['speedup'][BEAM]['value']:.2f} ({row['method']}, {promise(row)})"


def _nats_below_plain(compared: Mapping[str, Any], run: Mapping[str, Any], plain: str) -> float:
    other = next(one for one in compared["runs"] if one["method"] == plain and one["prompt"] == run["prompt"])
    return other["nats"] - run["nats"]
