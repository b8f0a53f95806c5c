"""Load a checkpoint with transformers, and report clearly why one cannot be used.

transformers reports a missing folder, a truncated file or a missing network at length and in ways that are hard
to act on. Here the source is checked first, and every failure becomes a ValueError with a remedy.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from specbeam.compat import is_causal_lm
from specbeam.drafts.token_mapping import same_vocabulary
from specbeam.files import here

from .adapters import CONFIG as ADAPTER
from .adapters import adapter_config, base_of, has_tokenizer, refuse_unservable_adapter, require_peft, with_adapter
from .embedded import safetensors_intact


def load_model(
    source: str | os.PathLike,
    role: str,
    dtype: Any,
    place: dict[str, Any],
    revision: str | None,
    quantization_config: Any = None,
    trust_remote_code: bool = False,
) -> Any:
    """A causal LM in evaluation mode without gradients, or a PeftModel of one for an adapter's folder or hub id.

    role: "target" or "draft", for error messages.
    place: one of {"device": …}, {"device_map": …} and {"tp_plan": …}.
    quantization_config: for `from_pretrained`; a quantized checkpoint needs none.
    trust_remote_code: whether code in the checkpoint may run.

    Raises ValueError with a remedy.
    """
    if quantization_config is not None and not isinstance(quantization_config, QuantizationConfigMixin | dict):
        raise ValueError(
            f"quantization_config={quantization_config!r} is no configuration; give one of transformers', such as "
            "BitsAndBytesConfig(load_in_8bit=True) or TorchAoConfig(…), or its dict"
        )
    name = _checked_source(source, role)
    with _readable_errors(source, role), _quiet():
        adapter = adapter_config(name, revision)
    if adapter is not None:
        if "tp_plan" in place:
            raise ValueError(f"{role} {name!r} is an adapter, which tp_plan cannot share out; leave tp_plan out")
        with _readable_errors(source, role):
            refuse_unservable_adapter(name, role, revision)
        base, at = base_of(adapter, name, role), adapter.get("revision")
        model = load_model(base, f"base model of the {role}", dtype, place, at, quantization_config, trust_remote_code)
        with _readable_errors(source, role), _quiet():
            return with_adapter(model, name, role, revision).eval().requires_grad_(False)
    if (Path(name) / ADAPTER).is_file():
        require_peft(name, role)  # without it transformers would leave the adapter out
    with _readable_errors(source, role), _quiet():
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        kind = getattr(config, "model_type", type(config).__name__)
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"{role} {str(source)!r} is an encoder-decoder model ({kind}); only decoder-only causal LMs "
                "such as Llama, Qwen or GPT-2 can be decoded here"
            )
        own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
        if not is_causal_lm(config) and not own_code:
            raise ValueError(
                f"{role} {str(source)!r} ({kind}) is not a causal LM that transformers can load; "
                "give one that AutoModelForCausalLM accepts, such as a Llama, Qwen or GPT-2"
            )
        quantized = quantization_config is not None or getattr(config, "quantization_config", None) is not None
        options = _placement_options(place, quantized)
        options |= {"revision": revision, "trust_remote_code": trust_remote_code}
        if quantization_config is not None:
            options["quantization_config"] = quantization_config
        try:
            model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **options)
        except (ValueError, ImportError, OSError):
            raise
        except Exception as error:  # the files are intact, so the quantizer has failed
            if not quantized:
                raise
            raise ValueError(f"quantizing failed with {type(error).__name__}: {_first_line(error)}") from error
    if "device" in place and not quantized:
        model = model.to(place["device"])
    return model.eval().requires_grad_(False)


def _placement_options(place: dict[str, Any], quantized: bool) -> dict[str, Any]:
    """The placement as arguments of `from_pretrained`.

    A quantized model is loaded straight onto its device: several formats exist on one kind of device only.
    """
    if "tp_plan" in place:
        return {"distributed_config": DistributedConfig(tp_plan=place["tp_plan"])}
    if "device" in place and quantized:
        return {"device_map": {"": place["device"]}}
    return {"device_map": place.get("device_map")}


def load_tokenizer(source: str | os.PathLike, role: str, revision: str | None, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model; of an adapter its own if it has one, else that of its base model."""
    name = _checked_source(source, role)
    with _readable_errors(source, f"the tokenizer of {role}"):
        adapter = adapter_config(name, revision)
        if adapter is not None and not (Path(name).is_dir() and not has_tokenizer(name)):
            with contextlib.suppress(OSError, ValueError):
                return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        if adapter is not None:
            name, revision = base_of(adapter, name, role), adapter.get("revision")
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


def _checked_source(source: str | os.PathLike, role: str) -> str:
    """The name to hand to transformers: a folder's is absolute, for the records, and it is checked first."""
    text = os.fspath(source)
    folder = here(text, role)
    if folder.is_file():
        raise ValueError(f"{role} {text!r} is a file; give the folder that holds config.json and the weights")
    if not text or not folder.is_dir():
        if isinstance(source, Path) or text.startswith((".", "~", "/", "\\")) or text.count("/") > 1 or not text:
            raise ValueError(f"{role} folder {text!r} does not exist; check the path, or give a hub id such as 'gpt2'")
        return text
    if not any((folder / file).is_file() for file in ("config.json", ADAPTER)):
        raise ValueError(f"{role} folder {text!r} has no config.json; give the folder that save_pretrained wrote")
    damaged = [file.name for file in sorted(folder.glob("*.safetensors")) if not safetensors_intact(file)]
    with contextlib.suppress(OSError, ValueError, KeyError):
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        damaged += sorted({name for name in index["weight_map"].values() if not (folder / name).is_file()})
    if damaged:
        raise ValueError(
            f"{role} folder {text!r} is truncated: {', '.join(damaged)} missing or cut off; copy or download it again"
        )
    return str(folder)


@contextlib.contextmanager
def _readable_errors(source: str | os.PathLike, role: str) -> Iterator[None]:
    """Turn errors of transformers and of the hub client into a ValueError that names the source and a remedy."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{role} {str(source)!r} brings code of its own (auto_map in its configuration), which is run only "
                "where you trust it: load_pair(…, trust_remote_code=True)"
            ) from error
        if str(source) in str(error):  # it already names the model
            raise
        raise ValueError(f"{role} {str(source)!r} cannot be loaded: {_first_line(error)}") from error
    except ImportError as error:  # quantized weights need packages of their own
        text = " ".join(str(error).split())
        if error.name and "pip install" not in text:
            text += f"; run: pip install {error.name.partition('.')[0]}"
        raise ValueError(f"{role} {str(source)!r} cannot be loaded: {text}") from error
    except Exception as error:
        if os.path.isdir(os.path.expanduser(source)):
            remedy = "check that the folder is complete, or copy or download it again"
        else:
            remedy = (
                "no such folder exists, so it was looked up on the Hugging Face hub: check the name, the "
                "network and whether the model asks for a login, or give the path of a folder with the model"
            )
        raise ValueError(f"{role} {str(source)!r} cannot be loaded ({_first_line(error)}); {remedy}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Disable transformers' progress bars, which would stay in a notebook's output."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def check_vocabulary(target_tokenizer: Any, draft_tokenizer: Any) -> None:
    """Raise ValueError, with examples, unless the tokenizers have the `same_vocabulary`."""
    if same_vocabulary(target_tokenizer, draft_tokenizer):
        return
    target_tokens = {index: token for token, index in target_tokenizer.get_vocab().items()}
    draft_tokens = {index: token for token, index in draft_tokenizer.get_vocab().items()}
    shared = sorted(target_tokens.keys() & draft_tokens.keys())
    differing = [index for index in shared if target_tokens[index] != draft_tokens[index]]
    examples = ", ".join(f"{index}: {target_tokens[index]!r} / {draft_tokens[index]!r}" for index in differing[:5])
    raise ValueError(
        f"draft and target do not share a vocabulary: {len(differing)} of {len(shared)} ids stand for "
        f"different tokens, for example (id: target / draft) {examples}. Take a draft of the target's own "
        'family, or draft="auto", which needs no model'
    )


def check_rows(draft: PreTrainedModel, tokenizer: Any) -> None:
    """Raise ValueError unless a draft with the target's ids has an embedding for each of the target's tokens."""
    beyond = unreadable(draft, tokenizer)
    if beyond:
        raise ValueError(
            f"the draft knows {_rows(draft)} tokens and the target {len(tokenizer.get_vocab())}: it cannot read "
            f"{', '.join(map(repr, beyond[:5]))}. Give the draft as its folder or hub id, so that its tokenizer is "
            'known; or take a draft of the target\'s own family, or draft="auto", which needs no model'
        )


def unreadable(draft: PreTrainedModel, tokenizer: Any) -> list[str]:
    """The target's tokens for which a draft with the same ids has no embedding, sorted by id."""
    rows, vocabulary = _rows(draft), tokenizer.get_vocab()
    return sorted((token for token, index in vocabulary.items() if index >= rows), key=vocabulary.__getitem__)


def _rows(model: PreTrainedModel) -> int:
    weight: Any = model.get_input_embeddings().weight
    return weight.shape[0]


def warn_if_larger(draft: PreTrainedModel, target: PreTrainedModel) -> None:
    if draft.num_parameters() > target.num_parameters():
        warnings.warn(
            f"the draft has {draft.num_parameters():,} parameters, the target {target.num_parameters():,}: "
            "drafting will cost more than it saves. Are they swapped?",
            stacklevel=3,
        )
