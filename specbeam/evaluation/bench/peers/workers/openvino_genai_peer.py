"""OpenVINO GenAI: a Llama graph with its cache as state, put together operation by operation.

That is the graph which optimum-intel exports. It is not used itself, as it brings many packages and asks for an older
transformers.
"""

# pyright: reportMissingImports=false
# because the library is in an environment of its own

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("openvino-genai", "openvino", "openvino-tokenizers")
MODEL = "openvino_model.xml"


def convert(source: Path, folder: Path, end_token: int) -> None:
    import openvino as ov
    import openvino_tokenizers
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    ov.save_model(_llama(config, load_file(source / "model.safetensors")), folder / MODEL, compress_to_fp16=False)
    tokenizer = AutoTokenizer.from_pretrained(source)
    there, back = openvino_tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
    ov.save_model(there, folder / "openvino_tokenizer.xml")
    ov.save_model(back, folder / "openvino_detokenizer.xml")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def weights(folder: Path) -> Iterator[Any]:
    import openvino as ov

    for node in ov.Core().read_model(folder / MODEL).get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f32:
            yield node.data


def load(folder: str, threads: int, end_token: int) -> Callable[[list[int], int, int], list[int]]:
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False  # it would keep the prompts of earlier repeats
    # without these the CPU keeps keys and values in 8 bits and may quantize activations
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    pipeline = genai.LLMPipeline(
        folder, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads, ATTENTION_BACKEND="PA", **exact
    )

    def decode(ids: list[int], num_beams: int, new_tokens: int) -> list[int]:
        config = genai.GenerationConfig(
            max_new_tokens=new_tokens,
            num_beams=num_beams,
            num_return_sequences=1,
            length_penalty=1.0,
            do_sample=False,
            eos_token_id=end_token,
        )
        config.stop_token_ids = {end_token}
        tokens = np.array([ids], np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(tokens), ov.Tensor(np.ones_like(tokens)))
        return pipeline.generate(inputs, config).tokens[0]

    return decode


def _llama(config: dict[str, Any], tensors: dict[str, Any]) -> Any:
    """The graph as OpenVINO GenAI expects it: of ids, mask, positions and `beam_idx`, which reorders the cache."""
    import numpy as np
    import openvino as ov
    from openvino import opset6, opset13
    from openvino.op.util import Variable, VariableInfo

    op: Any = opset13
    heads, key_heads, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    if not config["tie_word_embeddings"]:
        raise ValueError("this graph is written for a head that is tied to the embedding")

    def whole(*values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def real(value: float) -> Any:
        return op.constant(np.float32(value))

    def linear(x: Any, name: str) -> Any:
        return op.matmul(x, op.constant(tensors[f"{name}.weight"]), False, True)

    def norm(x: Any, name: str) -> Any:
        mean = op.reduce_mean(op.power(x, real(2)), whole(-1), keep_dims=True)
        scaled = op.multiply(x, op.divide(real(1), op.sqrt(op.add(mean, real(config["rms_norm_eps"])))))
        return op.multiply(op.constant(tensors[f"{name}.weight"]), scaled)

    def length_of(x: Any, axis: int) -> Any:
        return op.gather(op.shape_of(x), whole(axis), op.constant(np.int64(0)))

    def scalar(x: Any) -> Any:
        return op.squeeze(x, whole(0))

    def split(x: Any, name: str, count: int) -> Any:
        """(batch, heads, tokens, head size)"""
        return op.transpose(op.reshape(linear(x, name), whole(0, 0, count, size), True), whole(0, 2, 1, 3))

    inputs = [op.parameter([-1, -1], np.int64) for _ in range(3)] + [op.parameter([-1], np.int32)]
    for node, name in zip(inputs, ("input_ids", "attention_mask", "position_ids", "beam_idx"), strict=True):
        node.set_friendly_name(name)
        node.output(0).get_tensor().set_names({name})
    ids, mask, positions, beams = inputs

    inverse = 1 / config["rope_parameters"]["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float32) / size)
    frequencies = op.constant(inverse.astype(np.float32).reshape(1, -1, 1))
    angles = op.matmul(frequencies, op.convert(op.unsqueeze(positions, whole(1)), "f32"), False, False)
    angles = op.concat([op.transpose(angles, whole(0, 2, 1))] * 2, -1)
    cosine, sine = op.unsqueeze(op.cos(angles), whole(1)), op.unsqueeze(op.sin(angles), whole(1))

    def rotate(x: Any) -> Any:
        first = op.slice(x, whole(0), whole(size // 2), whole(1), whole(3))
        second = op.slice(x, whole(size // 2), whole(2**63 - 1), whole(1), whole(3))
        turned = op.concat([op.multiply(second, real(-1)), first], -1)
        return op.add(op.multiply(x, cosine), op.multiply(turned, sine))

    sinks = []

    def cached(x: Any, name: str) -> Any:
        info = VariableInfo()
        info.data_shape, info.data_type = ov.PartialShape([-1, key_heads, -1, size]), ov.Type.f32
        info.variable_id = name
        variable = Variable(info)
        shape = op.concat([length_of(ids, 0), whole(key_heads, 0, size)], 0)
        past = opset6.read_value(op.broadcast(real(0), shape), variable)
        joined = op.concat([op.gather(past, beams, op.constant(np.int64(0))), x], 2)
        sinks.append(opset6.assign(joined, variable))
        return joined

    def for_every_head(x: Any) -> Any:
        shape = op.concat([length_of(ids, 0), whole(key_heads, heads // key_heads), length_of(x, 2), whole(size)], 0)
        spread = op.broadcast(op.unsqueeze(x, whole(2)), shape, "BIDIRECTIONAL")
        return op.reshape(spread, whole(0, heads, -1, size), True)

    def causal(keys: Any) -> Any:
        """0 where a token sees a key, else a large negative number: (batch, 1, tokens, keys)."""
        there, new, one = length_of(keys, 2), length_of(ids, 1), op.constant(np.int64(1))
        places = op.range(op.constant(np.int64(0)), scalar(there), one, "i64")
        rows = op.range(scalar(op.subtract(there, new)), scalar(there), one, "i64")
        before = op.less_equal(op.unsqueeze(places, whole(0)), op.unsqueeze(rows, whole(1)))
        kept = op.convert(op.unsqueeze(mask, whole(1, 2)), "boolean")
        return op.select(op.logical_and(op.unsqueeze(before, whole(0, 1)), kept), real(0), real(-65504))

    embedding = op.constant(tensors["model.embed_tokens.weight"])
    x, bias = op.gather(embedding, ids, op.constant(np.int64(0))), None
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        y = norm(x, f"{at}.input_layernorm")
        query = rotate(split(y, f"{at}.self_attn.q_proj", heads))
        key = rotate(split(y, f"{at}.self_attn.k_proj", key_heads))
        key = cached(key, f"past_key_values.{layer}.keypresent.{layer}.key")
        value = split(y, f"{at}.self_attn.v_proj", key_heads)
        value = cached(value, f"past_key_values.{layer}.valuepresent.{layer}.value")
        bias = causal(key) if bias is None else bias
        seen = op.scaled_dot_product_attention(query, for_every_head(key), for_every_head(value), bias)
        seen = op.reshape(op.transpose(seen, whole(0, 2, 1, 3)), whole(0, 0, heads * size), True)
        x = op.add(x, linear(seen, f"{at}.self_attn.o_proj"))
        y = norm(x, f"{at}.post_attention_layernorm")
        gated = op.multiply(op.swish(linear(y, f"{at}.mlp.gate_proj")), linear(y, f"{at}.mlp.up_proj"))
        x = op.add(x, linear(gated, f"{at}.mlp.down_proj"))
    logits = op.matmul(norm(x, "model.norm"), embedding, False, True)
    logits.output(0).get_tensor().set_names({"logits"})
    return ov.Model([op.result(logits)], sinks, inputs, "llama")
