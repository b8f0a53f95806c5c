"""Threads of ONNX Runtime: as many as PyTorch has, at rest between passes.

Target and draft take turns. Each has threads of its own, which spin within a pass, since a pass consists of hundreds of
short operators, and stop at once at its end: no thread of one takes time from the other, or from PyTorch. A pool for
the whole process would be the same in effect, and forbid all other code in it to have sessions with their own threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import onnxruntime
import torch
from threadpoolctl import ThreadpoolController


def open_runtime(graph: bytes, options: Any = None) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        graph: as ONNX serialises it.
        options: further `SessionOptions`, which are changed.
    """
    options = options or onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class of its own
        if "global thread pool" not in str(error):
            raise
        options.use_per_session_threads = False  # somebody has made such a pool, and then all have to use it
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def torch_on_one_thread() -> AbstractContextManager[Any]:
    """Within it PyTorch uses one thread here: more would spin after every operator, and take a core from a pass.

    OpenMP keeps the number for each thread that calls it; `torch.set_num_threads` would change it for all.
    """
    return _openmp().limit(limits=1)


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
