"""Whether an exception says that memory did not suffice. It comes in several guises."""

from __future__ import annotations

import torch

# what PyTorch's allocators say in a plain RuntimeError; as in accelerate's `should_reduce_batch_size`, and MPS
_SAYINGS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",
)


def ran_out(error: BaseException) -> bool:
    """Whether `error` means that memory did not suffice, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)
