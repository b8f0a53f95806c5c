"""Shared by the tests of training."""

import pytest
from tiny_models import clock

from specbeam.training import training


@pytest.fixture(autouse=True)
def seconds_are_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step takes a second of its clock."""
    monkeypatch.setattr(training, "time", clock())
