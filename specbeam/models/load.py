"""Load a target and a draft for it: by hub id, from a folder, or the embedded default.

`load_pair` returns what every decoder takes: models in evaluation mode without gradients, on one device or spread by
`device_map`, with the tokenizer and a matching draft.
"""

import contextlib
import os
import warnings
from typing import Any

import torch

from specbeam.compat import commit_hash, input_device
from specbeam.core.draft import Draft, NoDraft
from specbeam.decoding.decoders import Pair
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.model import ModelDraft
from specbeam.drafts.recall import NgramDraft, RecallDraft
from specbeam.drafts.text import TextDraft
from specbeam.drafts.token_mapping import TokenMapping, same_vocabulary
from specbeam.drafts.trained import SHIPPED, WEIGHTS, load_draft
from specbeam.drafts.union import UnionDraft
from specbeam.engines.choice import ENGINES, choose_engine
from specbeam.engines.packing import pack_linear, packable
from specbeam.engines.target import Target
from specbeam.engines.wrappers import has_adapters, held, unwrapped
from specbeam.files import here

from .checkpoints import check_rows, load_model, load_tokenizer, unreadable, warn_if_larger
from .embedded import NAME, embedded_folder

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
DRAFTS = {"none": NoDraft, "ngram": NgramDraft, "recall": RecallDraft}


def load_pair(
    target: str | os.PathLike | None = None,
    draft: Any = "auto",
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    device_map: Any = None,
    tp_plan: Any = None,
    revision: str | None = None,
    draft_revision: str | None = None,
    engine: str = "auto",
    packed: bool | str = "auto",
    quantization_config: Any = None,
    trust_remote_code: bool = False,
    compile: bool | dict[str, Any] = False,
    cuda_graphs: bool = False,
) -> Pair:
    """Load a target model, its tokenizer and a draft.

    target: hub id or folder of any Hugging Face causal LM, or of a PEFT adapter for one (which needs the package
        peft, and is not packed); None is the embedded SmolLM2-135M-Instruct.
    draft: "auto" (recall and n-gram lookup together, and the trained draft where the target is the embedded one),
        "trained" (that draft alone), "recall", "ngram" or "none"; a folder that `specbeam distill` wrote; the hub id
        or folder of a smaller model or adapter, which drafts through the text if its vocabulary differs from the
        target's; a loaded model with the target's ids; or any object with a draft's `expand` or `propose` method. Write
        "./recall" for a folder of that name.
    dtype: "float32", "bfloat16", "float16", "float64", a torch dtype, or "auto": as the checkpoint is stored.
    device: "auto" picks CUDA, then MPS, then CPU.
    device_map: handed to transformers' `from_pretrained` for models larger than one GPU; excludes `device`.
    tp_plan: "auto" or one of transformers' plans: the processes that torchrun started share each layer of the target
        (tensor parallelism). All of them decode the same, by default with a fixed number of drafted tokens.
    revision, draft_revision: branch, tag or commit on the hub.
    engine: what runs the passes of target and draft model: "torch", "onnx" (ONNX Runtime, for models in float32 on a
        CPU; a line says why where PyTorch has to serve) or "auto", the one that is faster here, which is measured once.
    packed: whether the linear layers of a model that PyTorch serves are packed for a few rows at a time
        (`specbeam.engines.packing`): True, which means PyTorch, False, or "auto", which packs where it can.
    quantization_config: how transformers quantizes the target (`BitsAndBytesConfig`, `TorchAoConfig`, …, or a dict); a
        quantized checkpoint needs none. Tokens equal those of `generate` with the same quantized weights. If
        activations are quantized too (bitsandbytes' 8 bits), rounding amplifies noise: `generate` then differs from
        itself under padding, and tokens may differ as much (`specbeam.evaluation.agreement` measures it).
    trust_remote_code: whether code that comes with target or draft may run (`auto_map` in config.json). A model of such
        code is tried on a tiny tree first, and read by sequences if it cannot take one.
    compile: whether to run the target through `torch.compile`, or the options for it; True is {"dynamic": True}, one
        compilation for trees of all sizes. The first passes take a minute or more, and packed weights cannot be
        compiled: on a CPU packing is faster and available at once.
    cuda_graphs: whether to record and replay the target's passes on its GPU (`specbeam.engines.cuda_graphs`).

    Raises ValueError, with the remedy in its text, for a model that cannot be found, read or decoded, for an
    unknown dtype or device, and for a draft model that shares hardly a token with the target. Warns if the draft has
    more parameters than the target, or a vocabulary of its own, and how much of the target's it covers.
    """
    if not isinstance(compile, bool | dict):
        raise ValueError(f"compile={compile!r} is none of True, False, or a dict of torch.compile's options")
    if compile is not False and packed is True:
        raise ValueError("packed weights cannot be compiled: give compile or packed=True")
    if target is not None and not isinstance(target, str | os.PathLike):
        raise ValueError(
            f"target is a {type(target).__name__}, and load_pair loads a hub id or a folder; a loaded model goes into "
            "Pair(target=model, draft=…, tokenizer=…)"
        )
    torch_dtype = _dtype(dtype)
    place = _placement(device, device_map, tp_plan)
    if packed not in (True, False, "auto"):
        raise ValueError(f'packed={packed!r} is none of True, False, "auto"')
    engine = _engine(engine, packed, compile, cuda_graphs)
    if target is None and revision is not None:
        raise ValueError(f"revision={revision!r} needs a target: the embedded {NAME} has one revision only")

    if target is None:
        source = embedded_folder()
        name, target_revision = NAME, source.name.rpartition("-")[2]
    else:
        source, name, target_revision = target, str(target), None
    model = load_model(source, "target", torch_dtype, place, revision, quantization_config, trust_remote_code)
    tokenizer = load_tokenizer(source, "target", revision, trust_remote_code)
    revisions: dict[str, str | None] = {"target": target_revision or commit_hash(model.config)}
    found = _without_loading(draft, unwrapped(model), tokenizer, trained=target is None)
    if found is None:
        at, trust = {"device": input_device(model)}, trust_remote_code
        small = load_model(draft, "draft", torch_dtype, at, draft_revision, trust_remote_code=trust)
        warn_if_larger(small, model)
        revisions["draft"] = commit_hash(small.config)
        theirs = load_tokenizer(draft, "draft", draft_revision, trust)
        found = _model_draft(small, theirs, tokenizer, engine, packed), str(draft)
    if compile is not False:
        try:
            unwrapped(model).compile(**({"dynamic": True} if compile is True else compile))
        except TypeError as error:
            raise ValueError(f"compile={compile!r}: {error}") from error
        packed = False
    if cuda_graphs:
        Target.of(model).record_passes()
    layers = getattr(found[0], "state_layers", ())
    prepared = _prepared(model, engine, packed, layers)
    for each in getattr(found[0], "drafts", found):
        if isinstance(each, EagleDraft) and each is not draft:  # a draft that was handed in stays as it is
            each.prepare(Target.of(model).onnx is not None)
    return Pair(prepared, found[0], tokenizer, f"{name} + {found[1]}", revisions)


def _without_loading(draft: Any, model: Any, tokenizer: Any, trained: bool) -> tuple[Any, str] | None:
    """A draft for which no other model has to be loaded, and its name; None for the hub id or folder of a model.

    trained: whether "auto" includes the shipped draft beside recall and n-grams.
    """
    if hasattr(draft, "expand") or hasattr(draft, "propose"):
        return draft, type(draft).__name__
    if isinstance(draft, str) and draft in DRAFTS:
        return DRAFTS[draft](), draft
    if draft == "auto":
        parts = [EagleDraft(load_draft(SHIPPED, model, packed=False))] if trained else []
        return UnionDraft([*parts, RecallDraft(), NgramDraft()]), draft
    if draft == "trained":
        return EagleDraft(load_draft(SHIPPED, model, packed=False)), draft
    if not isinstance(draft, str | os.PathLike):
        try:
            small = held(draft)
        except ValueError as error:
            shown = type(draft).__name__ if hasattr(draft, "forward") else repr(draft)
            raise ValueError(
                f"draft={shown} is no draft: give one of 'auto', 'trained', {', '.join(map(repr, DRAFTS))}, a hub id "
                f"or folder, a loaded model, or an object with an `expand` or `propose` method ({error})"
            ) from error
        check_rows(small, tokenizer)
        warn_if_larger(small, model)
        return ModelDraft(small), type(small).__name__
    if ((folder := here(draft, "draft")) / WEIGHTS).is_file():
        return EagleDraft(load_draft(folder, model, packed=False)), str(draft)
    return None


def _model_draft(small: Any, theirs: Any, tokenizer: Any, engine: str, packed: bool | str) -> Draft:
    """The draft of a model with the tokenizer `theirs`; it drafts through text unless both use the same ids."""
    if same_vocabulary(tokenizer, theirs) and not unreadable(small, tokenizer):
        return ModelDraft(_prepared(small, engine, packed))
    mapping = TokenMapping(tokenizer, theirs)
    warnings.warn(
        f"the draft has a vocabulary of its own: {mapping.overlap:.0%} of the target's tokens are tokens of the draft "
        "too. It drafts through the text, which gives the same results and foresees less than a draft of the target's "
        "own family.",
        stacklevel=3,
    )
    return TextDraft(_prepared(small, engine, packed), mapping)


def _engine(engine: str, packed: bool | str, compile: Any, cuda_graphs: bool) -> str:
    """The engine to choose, checked against options that are PyTorch's own."""
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r} is none of {', '.join(map(repr, ENGINES))}")
    theirs = [
        name for name, on in (("packed", packed is True), ("compile", compile), ("cuda_graphs", cuda_graphs)) if on
    ]
    if theirs and engine == "onnx":
        raise ValueError(f"{theirs[0]} is an option of PyTorch's passes: leave it out, or give engine='torch'")
    return "torch" if theirs else engine


def _prepared(model: Any, engine: str, packed: bool | str, state_layers: tuple[int, ...] = ()) -> Any:
    """The model with its engine chosen, and packed if PyTorch serves it."""
    if has_adapters(model) or not choose_engine(Target.of(model), engine, state_layers):
        return _pack(model, packed)
    return model


def _dtype(dtype: str | torch.dtype) -> Any:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    raise ValueError(f"dtype={dtype!r} is none of 'auto', {', '.join(map(repr, DTYPES))}, or a torch dtype")


def _placement(device: str | torch.device, device_map: Any, tp_plan: Any) -> dict[str, Any]:
    """One of {"tp_plan": …}, {"device_map": …} and {"device": …}, checked against what this machine has."""
    if tp_plan is not None:
        if device_map is not None or str(device) != "auto":
            raise ValueError("tp_plan places the target; leave device and device_map out")
        if "RANK" not in os.environ:
            raise ValueError(f"tp_plan={tp_plan!r} needs several processes: start them with torchrun --nproc_per_node")
        return {"tp_plan": tp_plan}
    if device_map is not None:
        if str(device) != "auto":
            raise ValueError(f"device={str(device)!r} and device_map={device_map!r} exclude each other: give one")
        return {"device_map": device_map}
    if str(device) == "auto":
        if torch.cuda.is_available():
            return {"device": torch.device("cuda")}
        return {"device": torch.device("mps" if torch.backends.mps.is_available() else "cpu")}
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled with CUDA
        first = str(error).splitlines()[0]
        raise ValueError(f'device={str(device)!r} cannot be used here ({first}); device="auto" picks one') from error
    return {"device": chosen}


def _pack(model: Any, packed: bool | str) -> Any:
    """Pack the model if asked to; with "auto" if it can be packed. Adapters read the weights that packing frees."""
    if packed is not False and has_adapters(model):
        if packed is True:
            raise ValueError("a model with adapters cannot be packed: leave packed out, or merge_and_unload them first")
        return model
    if packed is True:
        return pack_linear(model)
    if packed == "auto" and packable(model):
        with contextlib.suppress(ValueError):  # some architectures cannot be packed
            return pack_linear(model)
    return model
