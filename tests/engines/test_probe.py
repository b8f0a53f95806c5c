"""A model that nobody has tried: one that does not heed a tree's mask or positions is decoded by sequences, by name."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from typing import Any

import pytest
import torch
from fakes import HashConfig, HashLM, fake_pair, hash_lm
from tiny_models import tiny_llama
from torch import Tensor
from transformers import LlamaForCausalLM

import specbeam as sb
from specbeam.engines.families import why_no_tree
from specbeam.engines.packing import pack_linear
from specbeam.engines.sequences import SequenceEngine
from specbeam.engines.target import Target
from specbeam.engines.torch_engine import TorchEngine
from specbeam.evaluation.tiny_families import FAMILIES, tiny_model

INPUTS = {
    "input_ids": torch.tensor([[0, 0, 3, 1, 4], [2, 7, 1, 8, 2]]),
    "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
}


class Counted(HashLM):
    """Heeds everything, and counts its passes."""

    passes = 0

    def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.passes += 1
        return super().forward(input_ids, *args, **kwargs)


class Strange(HashLM):
    """Looks at what it is given before the plain model does; the signature tells `generate` what that may be."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> Any:
        begin = past_key_values.get_seq_length() if past_key_values is not None else 0
        mask, places = self.changed(attention_mask, position_ids, input_ids, begin)
        return super().forward(input_ids, mask, places, past_key_values, **kwargs)

    def changed(self, mask: Tensor | None, places: Tensor | None, ids: Tensor, begin: int) -> Any:
        raise NotImplementedError


class Maskless(Strange):
    """Makes a causal mask of its own, whatever 4-D mask it is given."""

    def changed(self, mask: Tensor | None, places: Tensor | None, ids: Tensor, begin: int) -> Any:
        return None if mask is not None and mask.dim() == 4 else mask, places


class Placeless(Strange):
    """Counts positions by what lies in its cache, whatever `position_ids` say."""

    def changed(self, mask: Tensor | None, places: Tensor | None, ids: Tensor, begin: int) -> Any:
        return mask, torch.arange(begin, begin + ids.shape[1]).expand_as(ids)


class Flat(Strange):
    """Cannot do with a mask of four dimensions."""

    def changed(self, mask: Tensor | None, places: Tensor | None, ids: Tensor, begin: int) -> Any:
        if mask is not None and mask.dim() != 2:
            raise IndexError("too many dimensions\nand more")
        return mask, places


def probed(model: Any) -> str | None:
    return Target.of(model).probe()


def made(kind: type[HashLM]) -> Any:
    return kind(HashConfig(salt=5)).eval()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", [Maskless, Placeless, Flat])
def test_a_model_that_does_not_heed_a_tree_is_read_by_sequences(kind: type[HashLM], beams: int) -> None:
    model, decoder = made(kind), sb.speculative_beam if beams > 1 else sb.speculative
    options: dict[str, Any] = {"num_beams": beams} if beams > 1 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class is warned of once, and the order of these tests is free
        for prompt in ([[3, 1, 4]], [[7, 7, 2, 9, 5]]):
            inputs = {"input_ids": torch.tensor(prompt)}
            found = decoder(fake_pair(model, sb.RecallDraft()), inputs, max_new_tokens=12, **options)
            wanted = model.generate(**inputs, do_sample=False, max_new_tokens=12, num_beams=beams)
            assert found.sequences[0] == wanted[0, len(prompt[0]) :].tolist()
    assert isinstance(Target.of(model).engine(), SequenceEngine)


def test_over_a_tree_such_a_model_would_have_been_wrong() -> None:
    """What the probe is for: the same decode, the probe left out."""
    inputs = {"input_ids": torch.tensor([[3, 1, 4]])}
    for kind in (Maskless, Placeless):
        model = made(kind)
        Target.of(model)._probed = True
        found = sb.speculative_beam(fake_pair(model, sb.RecallDraft()), inputs, num_beams=3, max_new_tokens=12)
        wanted = model.generate(**inputs, do_sample=False, max_new_tokens=12, num_beams=3)
        assert found.sequences[0] != wanted[0, 3:].tolist()


def test_the_warning_names_the_class_and_what_differs() -> None:
    class Deaf(Maskless):
        pass

    class Rigid(Flat):
        pass

    deaf, scorer_of = made(Deaf), lambda model: Target.of(model).engine()
    with pytest.warns(UserWarning, match=r"Deaf cannot verify.*tree.*off by \d+ %.*4-D mask.*position_ids.*slower"):
        scorer_of(deaf)
    with pytest.warns(UserWarning, match=r"Rigid cannot verify.*fails \(IndexError: too many dimensions\)"):
        scorer_of(made(Rigid))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer_of(deaf)  # once a model


def test_a_model_that_heeds_it_stays_on_the_tree_and_is_probed_once() -> None:
    model = made(Counted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = Target.of(model).engine()
        assert type(engine) is TorchEngine and 0 < model.passes <= 3
        before = model.passes
        Target.of(model).engine()
        Target.of(model).engine((1,))
        assert model.passes == before
        pair = fake_pair(model, sb.RecallDraft())
        found = sb.speculative_beam(pair, INPUTS, num_beams=3, max_new_tokens=12)
    assert found.sequences == sb.beam(fake_pair(hash_lm(24, 5)), INPUTS, num_beams=3, max_new_tokens=12).sequences


def test_what_was_found_out_is_true_of_one_model_and_goes_with_it() -> None:
    good, bad = made(Counted), made(Maskless)
    assert probed(good) is None and "off by" in str(probed(bad))
    assert why_no_tree(bad) is None  # its family says nothing
    twin = copy.deepcopy(bad)
    assert Target.of(twin) is not Target.of(bad) and Target.of(bad) is Target.of(bad)
    assert Target.of(pickle.loads(pickle.dumps(twin))).model is not twin
    gone = weakref.ref(bad)
    del bad
    gc.collect()
    assert gone() is None


def test_families_that_are_tested_anyhow_are_not_probed() -> None:
    passes: list[str] = []
    own = type("Own", (LlamaForCausalLM,), {"__module__": "elsewhere"})
    stranger = tiny_llama()
    stranger.__class__ = own
    for model in [*map(tiny_model, FAMILIES), pack_linear(tiny_llama(torch.float32, size=64)), stranger]:
        model.register_forward_pre_hook(lambda module, _: passes.append(type(module).__name__))
        assert (probed(model) is None) == (why_no_tree(model) is None)
    assert set(passes) == {"Own"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_noise_of_a_dtype_is_no_difference(dtype: torch.dtype) -> None:
    class Own(LlamaForCausalLM):  # a class from elsewhere: the same layers, but nobody has tried it
        pass

    model = tiny_llama(dtype)
    model.__class__ = Own
    assert probed(model) is None and Target.of(model)._probed


def test_random_states_are_as_they_were_and_so_is_what_is_drawn() -> None:
    class Drawing(Counted):
        def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            torch.rand(3)
            return super().forward(input_ids, *args, **kwargs)

    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert probed(made(Drawing)) is None
    assert torch.equal(torch.get_rng_state(), before)


def test_without_memory_or_numbers_there_is_no_verdict_yet() -> None:
    class Cramped(Counted):
        roomy = False

        def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            if not self.roomy and kwargs.get("past_key_values") is not None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(input_ids, *args, **kwargs)

    model = made(Cramped)
    assert probed(model) is None and not Target.of(model)._probed
    model.roomy = True
    assert probed(model) is None and Target.of(model)._probed

    class Nothing(Counted):
        def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            output = super().forward(input_ids, *args, **kwargs)
            output.logits = output.logits * float("nan")  # type: ignore[operator]
            return output

    model = made(Nothing)
    assert probed(model) is None and not Target.of(model)._probed


@pytest.mark.parametrize("size", [2, 3, 4, 15, 16, 17, 100])
def test_vocabularies_of_every_size_have_a_tree_to_be_tried_on(size: int) -> None:
    assert probed(hash_lm(size, 3)) is None
    bad = Maskless(HashConfig(vocab_size=size, salt=3)).eval()
    assert probed(bad) is not None


def test_impossible_tokens_are_no_difference() -> None:
    class Masked(Counted):
        def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            output = super().forward(input_ids, *args, **kwargs)
            output.logits[..., 4:] = -torch.inf  # type: ignore[index]
            return output

    model = made(Masked)
    assert probed(model) is None and Target.of(model)._probed
