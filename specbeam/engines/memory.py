"""Lack of memory: telling it from other errors, and going on with fewer drafted nodes.

Not where processes share the target: the others are inside the same pass then, wait for what this one owes them, and
cannot be told. All that one rank can do is to end, with an error that says so; torchrun ends the rest. Whoever catches
that error keeps the others waiting.
"""

from __future__ import annotations

import warnings

import torch

from specbeam.core.expand import DraftSize
from specbeam.core.source import Nodes

from .ranks import Ranks

# what PyTorch's allocators say in a plain RuntimeError; as in accelerate's `should_reduce_batch_size`, and MPS
_SAYINGS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "Failed to allocate memory",  # ONNX Runtime
    "bad allocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",
)


def ran_out(error: BaseException) -> bool:
    """Whether `error` means that memory did not suffice, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)


def recover_memory(draft_size: DraftSize, ranks: Ranks | None, error: Exception, nodes: Nodes, drafted: Nodes) -> None:
    """What a source does about a pass that failed: where memory did not suffice, it drafts half as many nodes.

    Other errors are raised as they are, and so is one of memory where nothing is drafted or `ranks` share the model.
    """
    if not ran_out(error):
        raise error
    most, tokens = max(map(len, drafted)), sum(map(len, nodes))
    if ranks is not None:
        raise type(error)(
            f"memory did not suffice on rank {ranks.own} for its part of a pass over {tokens} tokens. The other ranks "
            "wait for it within that pass, so it cannot be repeated with less: the job has to end. Start it again with "
            "fewer drafted tokens (num_assistant_tokens), fewer prompts or beams, shorter prompts or more ranks."
        ) from error
    if not most:
        raise type(error)(
            f"memory did not suffice for a pass over {tokens} tokens, none of them drafted. Shorten the prompts, or "
            "decode with fewer of them, fewer beams or a narrower dtype."
        ) from error
    draft_size.most = most // 2
    for more in drafted:
        del more[draft_size.most :]
    warnings.warn(
        f"memory did not suffice for a pass over {tokens} tokens: at most {draft_size.most} are drafted a prompt from "
        f"here on. The result is the same; num_assistant_tokens={draft_size.most} saves the attempt.",
        stacklevel=2,
    )
