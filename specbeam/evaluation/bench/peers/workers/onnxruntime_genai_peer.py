"""ONNX Runtime GenAI: its model builder writes the ONNX graph from the checkpoint."""

# pyright: reportMissingImports=false
# because the library is in an environment of its own

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime-genai", "onnxruntime")


def convert(source: Path, folder: Path, end_token: int) -> None:
    options = ["-m", str(source), "-o", str(folder), "-p", "fp32", "-e", "cpu", "-c", str(folder / "cache")]
    given, sys.argv = sys.argv, ["builder", *options]  # the builder is made for the command line only
    try:
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = given


def weights(folder: Path) -> Iterator[Any]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder / "model.onnx").graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield numpy_helper.to_array(tensor)


def load(folder: str, threads: int, end_token: int) -> Callable[[list[int], int, int], list[int]]:
    import onnxruntime_genai as og

    config = og.Config(folder)
    session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    ends = {"eos_token_id": end_token, "pad_token_id": end_token}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}, **ends}}))
    model = og.Model(config)

    def decode(ids: list[int], num_beams: int, new_tokens: int) -> list[int]:
        params = og.GeneratorParams(model)
        params.set_search_options(
            max_length=len(ids) + new_tokens,
            num_beams=num_beams,
            num_return_sequences=1,
            length_penalty=1.0,
            early_stopping=False,
            do_sample=False,
            past_present_share_buffer=num_beams == 1,  # beams have to be reordered, which a shared buffer cannot
        )
        generator = og.Generator(model, params)
        generator.append_tokens(ids)
        while not generator.is_done():
            generator.generate_next_token()
        return list(generator.get_sequence(0))[len(ids) :]

    return decode
