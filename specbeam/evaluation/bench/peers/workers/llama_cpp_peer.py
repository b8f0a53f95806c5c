"""llama.cpp: a GGUF file of float32 weights, decoded by its server, which xllamacpp carries as a wheel.

It has no beam search. The wheel is built for AVX2 and uses nothing wider.
"""

# pyright: reportMissingImports=false
# because the library is in an environment of its own

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("xllamacpp",)
FILE = "model.gguf"
CONTEXT = 2048  # positions of its cache
STOPS = ("<|endoftext|>", "<|im_end|>")  # llama.cpp ends on tokens with such names, whatever the file says


def convert(source: Path, folder: Path, end_token: int) -> None:
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(folder / FILE, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokens(writer, json.loads((source / "tokenizer.json").read_text(encoding="utf-8")), end_token)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(source / "model.safetensors").items():
        for part, count in (("q_proj", heads), ("k_proj", key_heads)):
            if f"{part}.weight" in name:  # llama.cpp rotates neighbours, transformers the two halves of a head
                halves = tensor.reshape(count, 2, -1, tensor.shape[1])
                tensor = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))
        converted = names.get_name(name, (".weight", ".bias"))
        if converted is None:
            raise ValueError(f"llama.cpp's Llama has no place for {name}")
        writer.add_tensor(converted, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokens(writer: Any, tokenizer: dict[str, Any], end_token: int) -> None:
    vocabulary = {**tokenizer["model"]["vocab"], **{each["content"]: each["id"] for each in tokenizer["added_tokens"]}}
    special = {each["id"] for each in tokenizer["added_tokens"] if each["special"]}
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # prompts come as ids, so that this says nothing
    writer.add_token_list([f"<was {token[1:-1]}>" if token in STOPS else token for token in tokens])
    writer.add_token_types([3 if vocabulary[token] in special else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end_token)
    writer.add_add_bos_token(False)


def weights(folder: Path) -> Iterator[Any]:
    import gguf

    for tensor in gguf.GGUFReader(folder / FILE).tensors:
        yield tensor.data


def load(folder: str, threads: int, end_token: int) -> Callable[[list[int], int, int], list[int]]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(Path(folder) / FILE)
    params.n_ctx, params.n_parallel = CONTEXT, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_ram_mib = 0  # it would keep the prompts of earlier repeats
    server = xllamacpp.Server(params)

    def decode(ids: list[int], num_beams: int, new_tokens: int) -> list[int]:
        if num_beams > 1:
            raise NotImplementedError("no beam search")
        if len(ids) + new_tokens > CONTEXT:
            raise ValueError(f"prompt and new tokens do not fit into {CONTEXT} positions")
        greedy = {"samplers": ["top_k"], "top_k": 1, "return_tokens": True, "cache_prompt": False}
        asked = json.dumps({"prompt": ids, "n_predict": new_tokens, **greedy}).encode()
        request = urllib.request.Request(
            f"{server.listening_address}/completion", asked, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]

    return decode


def facts(folder: str) -> dict[str, str]:
    import xllamacpp

    return {"built with": xllamacpp.get_system_info().strip(" |")}
