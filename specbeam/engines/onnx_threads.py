"""Threads of ONNX Runtime: one pool for all sessions of the process, which rests between passes.

Target and draft take turns, so they share their threads, as many as PyTorch was told to use when the first session was
opened. Within a pass they spin, since a pass consists of hundreds of short operators; afterwards they stop at once and
leave the cores to PyTorch.
"""

from __future__ import annotations

from typing import Any

import onnxruntime
import torch

_POOL: list[int] = []  # the number of threads in the pool, once there is one


def session_options() -> Any:
    """Options of a session with as many threads as PyTorch has now.

    A session has threads of its own where the pool has another number of them, or where the user's code was first and
    made ONNX Runtime's environment without a pool.
    """
    options, threads = onnxruntime.SessionOptions(), torch.get_num_threads()
    if not _POOL:
        try:
            onnxruntime.set_global_thread_pool_sizes(threads, 1)
            _POOL.append(threads)
        except Exception:  # a class of its own, not exported
            _POOL.append(0)
    if _POOL[0] == threads:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return options
