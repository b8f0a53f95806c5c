"""Values of a parameter of which every test run takes a part, and `make test-all` the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """The values as pytest's parameters, those that are not `quick` marked slow."""
    return [pytest.param(value, marks=() if quick(value) else pytest.mark.slow) for value in values]
