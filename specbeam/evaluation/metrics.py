"""Speed and its causes, computed from the decoders' own `Stats`: latency, passes, acceptance, memory.

The functions take the `Stats` of several decodes, one prompt each (`[decoded.stats for decoded in …]`). None of them
measures: repeats, warm-ups and the clock are the caller's. A figure without a value is None, never nan, so that a
record can hold it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from specbeam.core.stats import Stats
from specbeam.decoding.trace import Trace


def latency(stats: Sequence[Stats], num_beams: int = 1, tokens: Sequence[int] | None = None) -> dict[str, float | None]:
    """Latency over prompts, the prompts' passes included.

    tokens: the tokens that each decode delivered; by default `Stats.new_tokens`, which counts all returned sequences.

    "tokens_per_second" and "ms_per_token" are totals over totals; "…_p50" and "…_p95" are quantiles over prompts
    (linear interpolation, numpy's default) of milliseconds a token, of the time to the first token and of the whole
    time. With one beam the first token is known after the prompt's pass; beam search may change it until it ends, so
    there it takes the whole time. Decodes without a token have no time a token.
    """
    counts = _counts(stats, tokens)
    whole = [one.prefill_s + one.decode_s for one in stats]
    first = [one.prefill_s for one in stats] if num_beams == 1 else whole
    each = [1000 * time / count for time, count in zip(whole, counts, strict=True) if count]
    total = sum(counts)
    figures = {
        "tokens_per_second": total / max(sum(whole), 1e-9),
        "ms_per_token": 1000 * sum(whole) / total if total else None,
    }
    for name, values in (("ms_per_token", each), ("first_token_s", first), ("total_s", whole)):
        for percent in (50, 95):
            figures[f"{name}_p{percent}"] = float(np.percentile(values, percent)) if values else None
    return figures


def passes_per_token(stats: Sequence[Stats], tokens: Sequence[int] | None = None) -> float | None:
    """Target passes over delivered tokens (`tokens` as for `latency`), the prompts' passes included."""
    total = sum(_counts(stats, tokens))
    return sum(one.target_passes for one in stats) / total if total else None


def steps_per_pass(stats: Sequence[Stats]) -> float | None:
    """Search steps over target passes: 1 for plain greedy search, the block efficiency of Leviathan et al. 2023."""
    passes = sum(one.target_passes for one in _some(stats))
    return sum(one.steps for one in stats) / passes if passes else None


def accepted_histogram(stats: Sequence[Stats]) -> dict[int, int]:
    """How many passes committed 1, 2, 3, … steps, summed over decodes."""
    total: Counter[int] = sum((one.accepted for one in _some(stats)), Counter())
    return dict(sorted(total.items()))


def acceptance_rate(stats: Sequence[Stats], num_beams: int = 1) -> float | None:
    """The share of drafted and verified nodes that the search then continued. None if nothing was drafted.

    Every step of a pass but the first continues drafted nodes only, one for each beam. So with one beam the figure is
    exact; with several it is a lower bound: a step that needed a pass for one beam may have foreseen the others.
    `acceptance_by_position` counts the nodes of a trace.
    """
    drafted = sum(one.drafted for one in _some(stats))
    gained = sum(count * (steps - 1) for steps, count in accepted_histogram(stats).items())
    return gained * num_beams / drafted if drafted else None


def acceptance_by_position(traces: Sequence[Trace]) -> dict[int, tuple[int, int]]:
    """Position → (nodes that the search continued, nodes drafted).

    A node is at position 1 if it follows a sequence that its pass was requested for, at 2 below such a node, …
    """
    used: Counter[int] = Counter()
    drafted: Counter[int] = Counter()
    for trace in traces:
        for each in trace.rounds:
            depths = [trace.nodes[node].depth for node in each.drafted]
            # sampling drafts under a node that an earlier pass has scored, and requests none
            base = trace.nodes[each.asked[0]].depth if each.asked else min(depths, default=1) - 1
            for node, depth in zip(each.drafted, depths, strict=True):
                position = depth - base
                drafted[position] += 1
                used[position] += trace.nodes[node].asked is not None
    return {position: (used[position], drafted[position]) for position in sorted(drafted)}


def peak_kv_slots(stats: Sequence[Stats]) -> int:
    """Slots of the target's cache in use at the worst moment of any decode; a slot holds keys and values of a token."""
    return max(one.peak_kv_tokens for one in _some(stats))


def _some(stats: Sequence[Stats]) -> Sequence[Stats]:
    if not stats:
        raise ValueError("there are no stats: decode at least one prompt")
    return stats


def _counts(stats: Sequence[Stats], tokens: Sequence[int] | None) -> list[int]:
    counts = [one.new_tokens for one in _some(stats)] if tokens is None else list(tokens)
    if len(counts) != len(stats):
        raise ValueError(f"{len(stats)} decodes and {len(counts)} counts of tokens: give one a decode")
    return counts
