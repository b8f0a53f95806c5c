"""Rows of a comparison, written by hand."""

from typing import Any

from specbeam.evaluation.comparison import BEAM, GREEDY, HYBRID, SAMPLING

MARGIN = f"{HYBRID}, margin 1"


def interval(value: float, low: float | None = None, high: float | None = None, n: int = 50) -> dict[str, Any]:
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high, "n": n}


def row(method: str, speed: float, gap: float, faster: bool = True, name: str = "news", **given: Any) -> dict[str, Any]:
    label = "random" if method == SAMPLING else "inexact" if "," in method else "exact"
    against_hybrid = interval(1.5, 1.2, 1.8) if faster else interval(1.01, 0.9, 1.1)
    made: dict[str, Any] = {"set": name, "method": method, "label": label, "steps_per_pass": 1.5, "empty": 0}
    made |= {"plain": GREEDY if "beam" not in method else BEAM, "num_beams": 4 if "beam" in method else 1}
    made |= {"speedup": {BEAM: interval(speed, speed - 0.1, speed + 0.1), HYBRID: against_hybrid}, "worst_prompt": 0.8}
    made["speedup"][GREEDY] = interval(speed, speed - 0.1, speed + 0.1)
    made |= {"gap": interval(gap, gap - 0.01, gap + 0.01), "rougeL": None, "perplexity": interval(2.0)}
    return made | given
