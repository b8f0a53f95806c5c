"""A decode in words, for a pipe and for a terminal."""

from typing import Any


def heading(decoded: Any, rank: int) -> str:
    """The line above one of several returned sequences."""
    return f"[{rank + 1}] score {decoded.scores[rank]:.4f}"


def summary(pair: Any, method: str, decoded: Any) -> str:
    """One line on how much work a decode took."""
    stats = decoded.stats
    label = method if decoded.exact else f"{method}, not exact ({stats.relaxed_steps} relaxed steps)"
    accepted = ", ".join(f"{count} × {steps}" for steps, count in sorted(stats.accepted.items()))
    passes = f"{stats.steps} steps in {stats.target_passes} target passes"
    return (
        f"{pair.name}, {label}: {passes} ({stats.steps_per_pass:.2f} steps a pass; "
        f"passes × steps committed: {accepted or 'none'}), {stats.tokens_per_second:.1f} tokens/s, "
        f"{stats.decode_s:.2f} s after a prefill of {stats.prefill_s:.2f} s"
    )
