"""Optimiser steps that multiply in float32 where the library's own multiply in bfloat16.

`torch.optim.Muon` orthogonalises each matrix in bfloat16 (Jordan et al. 2024), whatever the device. A processor that
has no instruction for that takes seventeen times as long for it as in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Float32Steps(TorchFunctionMode):
    """Within it, `Tensor.bfloat16()` gives a copy in float32."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)  # a copy, as Muon divides it in place
        return func(*args, **(kwargs or {}))
