"""Bootstrap confidence intervals over prompts: how much a figure would change with other prompts of the same kind.

A method is measured prompt by prompt; prompts are resampled with replacement, the figure is computed from each
resample, and the interval contains the middle `level` of the results (the percentile bootstrap: Efron 1979,
"Bootstrap Methods: Another Look at the Jackknife"; for corpus figures such as BLEU: Koehn 2004, "Statistical
Significance Tests for Machine Translation Evaluation"). It covers the choice of prompts, not the noise of a clock. The
same seed gives the same interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Sequence[Any] | np.ndarray  # one a prompt


@dataclass(frozen=True)
class Interval:
    """A figure over all `n` prompts and the interval around it. For one prompt, low and high equal the figure."""

    value: float
    low: float
    high: float
    level: float = 0.95
    n: int = 0

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        if self.n == 1:
            return f"{self.value:{spec}} (one prompt)"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self)


def mean(values: Any) -> float:
    return float(np.mean(values))


def bootstrap(
    *methods: Values,
    statistic: Callable[..., float] = mean,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """`statistic(first, second, …)` of one method or of several on the same prompts, with its interval.

    methods: numbers, or rows of numbers, one a prompt; `statistic` is called with an array for each method, whose first
        axis is the prompts.

    The prompts of several methods are resampled together. This cancels differences between prompts, so that the
    interval is about the methods (Koehn 2004, section 4). For the difference of two means:
    `bootstrap(a, b, statistic=lambda a, b: mean(a) - mean(b))`.

    Raises ValueError for no values, values that are None or not finite, methods with unlike numbers of prompts, a level
    outside (0, 1), and no resamples.
    """
    columns = [_column(values, number) for number, values in enumerate(methods)]
    counts = {len(column) for column in columns}
    if len(counts) != 1:
        raise ValueError(
            f"the methods have {', '.join(str(len(c)) for c in columns)} values: give one a prompt for each"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, 0.95 for the usual interval")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1; 1000 are usual")
    n = counts.pop()
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    resampled = [statistic(*(column[chosen] for column in columns)) for chosen in draws]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(*columns)), float(low), float(high), level, n)


def bootstrap_ratio(first: Values, second: Values, **settings: Any) -> Interval:
    """Total of `first` over total of `second`; settings as for `bootstrap`.

    With a baseline's seconds first and a method's second it is the method's speed-up.

    Raises ValueError as `bootstrap` does, and if a value of `second` is not above 0.
    """
    for prompt, value in enumerate(second):
        if value is not None and value <= 0:
            raise ValueError(f"value {prompt} of the second method is {value}: a ratio needs values above 0")
    return bootstrap(first, second, statistic=lambda a, b: float(np.sum(a) / np.sum(b)), **settings)


def _column(values: Values, method: int) -> np.ndarray:
    if len(values) == 0:
        raise ValueError(f"method {method} has no values; a bootstrap needs at least one prompt")
    for prompt, value in enumerate(values):
        if value is None or not np.all(np.isfinite(value)):
            raise ValueError(
                f"value {prompt} of method {method} is {value}: leave the prompt out for all methods, and say so"
            )
    return np.asarray(values, dtype=float)
