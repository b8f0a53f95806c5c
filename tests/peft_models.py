"""Tiny models with adapters of PEFT, which is an optional package: import this after `needs_peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_llama

REASON = "PEFT is an optional package: pip install peft"
IDS = torch.tensor([[6, 9, 12, 7, 10], [8, 8, 11, 13, 6]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def needs_peft() -> Any:
    """The package; the tests of a module that calls this are skipped where it is missing."""
    return pytest.importorskip("peft", reason=REASON)


def randomised(model: Any, adapter: str, seed: int = 1) -> Any:
    """`model` with random weights in an adapter: a fresh one does nothing yet."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if f".{adapter}" in name or "adaption_" in name:
            parameter.data.normal_(std=0.3)
    return model.eval()


def with_lora(base: Any = None, *adapters: str, **options: Any) -> Any:
    """A PeftModel of a tiny Llama with LoRA adapters of these names, "default" at least; the first one is active."""
    peft = needs_peft()
    options = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj", "up_proj"], **options}
    model = peft.get_peft_model(tiny_llama() if base is None else base, peft.LoraConfig(**options))
    for name in adapters:
        model.add_adapter(name, peft.LoraConfig(**options))
    for seed, name in enumerate(("default", *adapters)):
        randomised(model, name, seed)
    return model.eval()


def generated(model: Any, **options: Any) -> list[list[int]]:
    """The tokens of the model's own `generate`, prompts included."""
    return model.generate(**INPUTS, **{"max_new_tokens": 10, "num_beams": 3, **options}).tolist()


def saved_lora(folder: Path, base: str) -> Any:
    """A LoRA adapter of the model in the folder `base`, saved as PEFT saves it; returns its PeftModel."""
    from transformers import AutoModelForCausalLM

    model: Any = with_lora(AutoModelForCausalLM.from_pretrained(base).eval())
    model.save_pretrained(folder)
    return model
