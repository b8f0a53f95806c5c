"""Speed and its causes, from what decoders report of themselves: latency, passes, acceptance, memory.

Every function takes the `Stats` of several decodes, one prompt each (`[decoded.stats for decoded in …]`), and none of
them measures anything: repeats, warm-ups and the choice of a clock belong to who runs the decoders. Figures without a
value are None, never nan, so that a record can hold them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from specbeam.core.stats import Stats, Trace


def seconds(stats: Sequence[Stats]) -> list[float]:
    """The whole time of every decode, the prompt's pass included."""
    return [one.prefill_s + one.decode_s for one in _some(stats)]


def first_token_seconds(stats: Sequence[Stats], num_beams: int = 1) -> list[float]:
    """When the first token of the answer is known, for every decode.

    With one beam that is after the prompt's pass. Beam search may change its first token as long as the beams differ
    in it, and hands nothing out before it ends: there it is the whole time.
    """
    return [one.prefill_s for one in _some(stats)] if num_beams == 1 else seconds(stats)


def tokens_of_best(decoded: Sequence[Any], num_return_sequences: int = 1) -> list[int]:
    """Tokens of the best sequence of each `Decoded`: what a reader is given, however many beams were returned."""
    return [sum(len(s) for s in one.sequences[::num_return_sequences]) for one in decoded]


def latency(stats: Sequence[Stats], num_beams: int = 1, tokens: Sequence[int] | None = None) -> dict[str, float | None]:
    """Latency over prompts, the prompts' passes included.

    tokens: what each decode delivered; `Stats.new_tokens` unless given, which counts all returned sequences
        (`tokens_of_best` counts one).

    "tokens_per_second" and "ms_per_token" are totals over totals; "…_p50" and "…_p95" are quantiles over prompts
    (linear interpolation, numpy's default) of milliseconds a token, of the time to the first token
    (`first_token_seconds`) and of the whole time. Decodes without a token have no time a token.
    """
    whole, counts = seconds(stats), _counts(stats, tokens)
    first = first_token_seconds(stats, num_beams)
    each = [1000 * time / count for time, count in zip(whole, counts, strict=True) if count]
    total = sum(counts)
    return {
        "tokens_per_second": total / max(sum(whole), 1e-9),
        "ms_per_token": 1000 * sum(whole) / total if total else None,
        "ms_per_token_p50": _quantile(each, 0.5),
        "ms_per_token_p95": _quantile(each, 0.95),
        "first_token_s_p50": _quantile(first, 0.5),
        "first_token_s_p95": _quantile(first, 0.95),
        "total_s_p50": _quantile(whole, 0.5),
        "total_s_p95": _quantile(whole, 0.95),
    }


def passes_per_token(stats: Sequence[Stats], tokens: Sequence[int] | None = None) -> float | None:
    """Target passes over tokens delivered (`tokens` as for `latency`), the prompts' passes included."""
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
    """The share of drafted and verified nodes that the search then stood on. None where nothing was drafted.

    Every step beyond the first of a pass stands on drafted nodes alone, one a beam. So with one beam the figure is
    exact; with several it is a lower bound, since a step that needed a pass for one beam may have foreseen the others.
    `acceptance_by_position` counts nodes, where a trace was kept.
    """
    drafted = sum(one.drafted for one in _some(stats))
    gained = sum(count * (steps - 1) for steps, count in accepted_histogram(stats).items())
    return gained * num_beams / drafted if drafted else None


def acceptance_by_position(traces: Sequence[Trace]) -> dict[int, tuple[int, int]]:
    """Position → (nodes that the search stood on, nodes drafted), counted node by node.

    A node is at position 1 where it continues a sequence that its pass was asked for, at 2 below such a node, …
    """
    used: Counter[int] = Counter()
    drafted: Counter[int] = Counter()
    for trace in traces:
        for each in trace.rounds:
            depths = [trace.nodes[node].depth for node in each.drafted]
            # sampling drafts under a node that an earlier pass has scored, and then asks for nothing
            base = trace.nodes[each.asked[0]].depth if each.asked else min(depths, default=1) - 1
            for node, depth in zip(each.drafted, depths, strict=True):
                position = depth - base
                drafted[position] += 1
                used[position] += trace.nodes[node].asked is not None
    return {position: (used[position], drafted[position]) for position in sorted(drafted)}


def peak_kv_slots(stats: Sequence[Stats]) -> int:
    """Slots of the target's cache in use at the worst moment of any decode; a slot holds keys and values of a token."""
    return max(one.peak_kv_tokens for one in _some(stats))


def cache_bytes(model: Any, slots: int) -> int:
    """What the keys and values of so many slots take in a model's cache, in bytes.

    That is 2 × layers × key heads × head dimension × bytes of a number, for each slot. A tree has one slot for a token
    of the prompt and one for a node that is kept (`Stats.peak_kv_tokens`), however many beams there are; transformers'
    beam search keeps num_beams × (prompt + new tokens). Layers with a sliding window count in full: a tree needs them.
    """
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize * slots


def peak_memory_bytes(device: Any = "cpu") -> int | None:
    """The most memory that was in use at once, in bytes.

    On CUDA what PyTorch allocated on `device` since the start, or since `torch.cuda.reset_peak_memory_stats`. On
    others the largest resident set of this process since it began (getrusage's ru_maxrss, getrusage(2)), loading of the
    model included; None where the system has no getrusage (Windows).
    """
    if str(device).startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kibibytes but for macOS


def speed(
    stats: Sequence[Stats], num_beams: int = 1, tokens: Sequence[int] | None = None, device: Any = "cpu"
) -> dict[str, Any]:
    """All figures of this module for one method over its prompts, as a record holds them."""
    return {
        **latency(stats, num_beams, tokens),
        "passes_per_token": passes_per_token(stats, tokens),
        "steps_per_pass": steps_per_pass(stats),
        "acceptance_rate": acceptance_rate(stats, num_beams),
        "accepted": accepted_histogram(stats),
        "peak_kv_slots": peak_kv_slots(stats),
        "peak_memory_bytes": peak_memory_bytes(device),
    }


def _some(stats: Sequence[Stats]) -> Sequence[Stats]:
    if not stats:
        raise ValueError("there are no stats: decode at least one prompt")
    return stats


def _counts(stats: Sequence[Stats], tokens: Sequence[int] | None) -> list[int]:
    counts = [one.new_tokens for one in _some(stats)] if tokens is None else list(tokens)
    if len(counts) != len(stats):
        raise ValueError(f"{len(stats)} decodes and {len(counts)} counts of tokens: give one a decode")
    return counts


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None
