"""CTranslate2: its converter reads the checkpoint through transformers."""

# pyright: reportMissingImports=false
# because the library is in an environment of its own

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("ctranslate2",)


def convert(source: Path, folder: Path, end_token: int) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(folder), force=True)


def weights(folder: Path) -> Iterator[Any]:
    """The float32 variables of model.bin: after version, spec and revision the name, shape, type and data of each."""
    import numpy as np

    with (folder / "model.bin").open("rb") as file:

        def take(form: str) -> Any:
            return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]

        def text() -> str:
            return file.read(take("H")).rstrip(b"\0").decode()

        take("I")
        text()
        take("I")
        for _ in range(take("I")):
            text()
            shape = [take("I") for _ in range(take("B"))]
            kind, data = take("B"), file.read(take("I"))
            if kind == 0:
                yield np.frombuffer(data, np.float32).reshape(shape)


def load(folder: str, threads: int, end_token: int) -> Callable[[list[int], int, int], list[int]]:
    import ctranslate2

    generator = ctranslate2.Generator(
        folder, device="cpu", compute_type="float32", inter_threads=1, intra_threads=threads
    )
    vocabulary = json.loads((Path(folder) / "vocabulary.json").read_text(encoding="utf-8"))

    def decode(ids: list[int], num_beams: int, new_tokens: int) -> list[int]:
        (result,) = generator.generate_batch(
            [[vocabulary[token] for token in ids]],
            beam_size=num_beams,
            max_length=new_tokens,
            num_hypotheses=1,
            length_penalty=1.0,
            end_token=[end_token],
            include_prompt_in_result=False,
        )
        return result.sequences_ids[0]

    return decode


def facts(folder: str) -> dict[str, str]:
    import ctranslate2

    return {"compute types of this CPU": ", ".join(sorted(ctranslate2.get_supported_compute_types("cpu")))}
