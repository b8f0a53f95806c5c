"""The processor, as far as it decides how libraries compare: its name, vector units and cores."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

UNITS = ("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")

_BFLOAT16 = ("avx512_bf16", "amx_tile")


def multiplies_bfloat16() -> bool:
    """Whether the processor does so itself; where it does not, bfloat16 takes several times as long as float32."""
    return any(unit in cpu()["vector_units"] for unit in _BFLOAT16)


def cpu(described: str | None = None) -> dict[str, Any]:
    """`described` is the text of Linux' /proc/cpuinfo; other systems tell only the kind of processor and its cores."""
    if described is None:
        file = Path("/proc/cpuinfo")
        described = file.read_text(errors="replace") if file.exists() else ""
    entries: dict[str, set[str]] = {}
    for line in described.splitlines():
        name, _, value = line.partition(":")
        entries.setdefault(name.strip(), set()).add(value.strip())
    flags = {flag for name in ("flags", "Features") for value in entries.get(name, ()) for flag in value.split()}
    return {
        "name": next(iter(entries.get("model name", ())), platform.processor() or platform.machine()),
        "vector_units": [unit for unit in UNITS if unit in flags],
        "logical_cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
