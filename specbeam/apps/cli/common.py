"""Two names for `apps.demo`, which will take them from where they live: `describe_decode` and `plain`."""

from typing import Any

from specbeam.experiments.record_models import describe_decode as as_dict
from specbeam.experiments.records import plain

__all__ = ["as_dict", "finite"]


def finite(value: Any) -> Any:
    return plain(value, "record", nan_as_null=True)
