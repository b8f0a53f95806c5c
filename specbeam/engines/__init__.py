"""How a target is forwarded: everything that knows a loaded model, and no search.

May import `core`, `files` and `compat`. Read in this order:

    families       what differs among the causal LMs of transformers, as data
    tree_cache     keys and values by slot, with room to grow
    attention      grouped-query attention for a few rows, and ALiBi by position
    torch_engine   any model whose attention takes a 4-D mask; also the masks
    sequences      the engine for models that cannot take a tree
    rope           frequencies that depend on the length of the text: which depths share a pass
    cuda_graphs, graph_engine   passes recorded and replayed on a GPU
    onnx_attention, onnx_export, onnx_rewrite, onnx_graph   a pass as a graph of ONNX Runtime
    onnx_threads, onnx_session, onnx_cache, onnx_engine   running it over its cache
    onnx_check, onnx_store, onnx_passes   comparing it with PyTorch, keeping it, and giving out engines
    probe          tries a model of an unknown family on a tiny tree
    draft_size     how many nodes to draft, from foresight and latency
    latency        measures and remembers a target's latency curve
    memory, ranks  lack of memory; processes that share a target
    wrappers       from a model as people hold it (adapters, compiled, data-parallel) to the causal LM inside
    choice         which engine a target gets, what was asked for or the faster one
    target         puts all this together for one loaded model: `Target.of(model).decoding(...)` is a source
    packing        linear layers laid out for a few rows at a time on a CPU
"""

import os

# The wheels of ONNX Runtime report to their maker what they run, from their import on. "0" lets them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
