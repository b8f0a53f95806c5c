"""Whether an exception says that memory did not suffice. It comes in several guises.

A decode goes on after it with fewer drafted nodes (`autoregressive.py`), but not where processes share the target: the
others are inside the same pass then, wait for what this one owes them, and cannot be told. All that one rank can do is
to end, with an error that says so; torchrun ends the rest. Whoever catches that error keeps the others waiting.
"""

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


def alone(error: BaseException, rank: int, tokens: int) -> BaseException:
    """The error, of the same kind, that ends `rank` where memory did not suffice for its part of a pass over `tokens`.

    Raised by one rank it ends the job; caught, it leaves the others in the pass.
    """
    return type(error)(
        f"memory did not suffice on rank {rank} for its part of a pass over {tokens} tokens. The other ranks wait "
        "for it within that pass, so it cannot be repeated with less: the job has to end. Start it again with fewer "
        "drafted tokens (num_assistant_tokens), fewer prompts or beams, shorter prompts or more ranks."
    )
