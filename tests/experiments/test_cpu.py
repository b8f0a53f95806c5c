"""What the processor is, read from a description of one."""

import pytest

from specbeam.experiments import cpu as module
from specbeam.experiments.cpu import cpu, multiplies_bfloat16


def test_the_processor_is_described():
    found = cpu("processor : 0\nmodel name : Some CPU\nflags : fpu avx avx2 fma sse\n\nprocessor : 1\n")
    assert found["name"] == "Some CPU" and found["vector_units"] == ["avx", "avx2", "fma"]
    assert cpu("")["vector_units"] == [] and cpu("")["name"]


@pytest.mark.parametrize(
    ("flags", "itself"),
    [("avx2 fma", False), ("avx2 avx512f avx512_vnni", False), ("avx512f avx512_bf16", True), ("amx_tile", True)],
)
def test_a_processor_multiplies_bfloat16_where_it_has_an_instruction_for_it(monkeypatch, flags, itself):
    monkeypatch.setattr(module, "cpu", lambda: cpu(f"flags : {flags}"))
    assert multiplies_bfloat16() is itself
