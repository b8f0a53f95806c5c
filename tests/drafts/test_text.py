"""Drafts with a vocabulary of their own: spelling between tokenizers, and drafting through the text."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from fakes import HashConfig, HashLM, fake_pair, hash_lm
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutputWithPast

import specbeam as sb
from specbeam.drafts.text import TextDraft
from specbeam.drafts.token_mapping import Spelling, same_vocabulary, token_bytes

TEXT = (
    "The international community met in Genève on Tuesday. Nobody expected an agreement, and there was none; "
    "the delegations left without a word 🙂. What remains is a résumé of 1,024 pages:\n\n  def solve(x):\n"
    "      return x ** 2  # naïve\n\nIt will be read by those who have to, and understood by fewer. "
)
MARKS = ["<unk>", "<s>", "</s>", "<|im_start|>"]


def byte_level(size: int, text: str = TEXT, marks: list[str] = MARKS) -> Any:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=marks, show_progress=False)  # type: ignore[call-arg]
    backend.train_from_iterator([text] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=marks[1], eos_token=marks[2])


def sentence_piece(size: int, marks: list[str] = MARKS) -> Any:
    """BPE with ▁ for the space and tokens for single bytes, as Llama 2 and Mistral have it."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)  # type: ignore[assignment]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[*marks, *bytes_], show_progress=False)  # type: ignore[call-arg]
    backend.train_from_iterator([TEXT.replace("🙂", "").replace("\n", " ")] * 3, trainer)
    fresh = Tokenizer(models.BPE(vocab=backend.get_vocab(), merges=[], byte_fallback=True, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=fresh, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


BYTES, PIECES = byte_level(420), sentence_piece(380)


def test_tokens_are_compared_as_the_bytes_that_they_stand_for() -> None:
    by_byte, marks = token_bytes(BYTES)
    pieces, others = token_bytes(PIECES)
    assert by_byte[BYTES.convert_tokens_to_ids("Ġthe")] == b" the" == pieces[PIECES.convert_tokens_to_ids("▁the")]
    assert pieces[PIECES.convert_tokens_to_ids("<0xF0>")] == b"\xf0"
    assert set(marks.values()) >= {"<s>", "</s>"} <= set(others.values())
    ids = BYTES(TEXT)["input_ids"]
    assert b"".join(by_byte[token] for token in ids).decode() == TEXT


def test_a_letter_is_written_as_a_letter_where_there_is_a_token_for_it() -> None:
    spelling = Spelling(BYTES, PIECES)
    for ours, theirs in (("a", "a"), ("Ġ", "▁"), ("Ċ", "<0x0A>")):
        token = BYTES.convert_tokens_to_ids(ours)
        assert spelling.in_draft(token) == (PIECES.convert_tokens_to_ids(theirs),)


@pytest.mark.parametrize(("ours", "theirs"), [(BYTES, PIECES), (PIECES, BYTES), (BYTES, byte_level(300))])
def test_a_spelled_text_is_the_same_text(ours: Any, theirs: Any) -> None:
    spelling = Spelling(ours, theirs)
    mine, others = token_bytes(ours)[0], token_bytes(theirs)[0]
    for token, text in mine.items():
        assert b"".join(others[piece] for piece in spelling.in_draft(token)) == text
    assert 0.1 < spelling.overlap < 1
    shared = [token for token in mine if spelling.is_shared(token)]
    assert len(shared) == pytest.approx(spelling.overlap * len(set(mine.values())), abs=1)
    for token in shared:
        assert spelling.in_target(spelling.in_draft(token)) == (token, 1)


def test_a_run_of_the_drafts_tokens_begins_with_the_longest_token_of_the_target() -> None:
    spelling = Spelling(BYTES, PIECES)
    piece = PIECES.convert_tokens_to_ids
    longest = max((text for text in token_bytes(BYTES)[0].values() if text.isalpha()), key=len)
    letters = [piece(chr(byte)) for byte in longest]
    assert spelling.in_target([*letters, piece("▁")]) == (spelling.in_target(letters)[0], len(letters))
    assert spelling.in_target([piece("</s>")]) == (BYTES.eos_token_id, 1)
    assert spelling.in_target([letters[0], piece("</s>")])[1] == 1


def test_marks_are_the_same_by_name_or_by_role_and_left_out_otherwise() -> None:
    other = byte_level(420, marks=["<pad>", "[BOS]", "<|im_end|>", "<unk>"])
    spelling = Spelling(BYTES, other)
    assert spelling.in_draft(BYTES.eos_token_id) == (other.eos_token_id,)
    assert spelling.in_draft(BYTES.bos_token_id) == (other.bos_token_id,)
    assert spelling.in_draft(BYTES.convert_tokens_to_ids("<unk>")) == (other.convert_tokens_to_ids("<unk>"),)
    assert spelling.in_draft(BYTES.convert_tokens_to_ids("<|im_start|>")) == ()


def test_vocabularies_are_the_same_where_the_ids_that_both_have_mean_the_same() -> None:
    assert same_vocabulary(BYTES, byte_level(420)) and not same_vocabulary(BYTES, PIECES)


def test_too_little_in_common_is_refused_with_figures() -> None:
    with pytest.raises(ValueError, match=r"tokens in common, \d\.\d% of the target's"):
        few = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, " the": 2}, unk_token="<unk>"))
        Spelling(BYTES, PreTrainedTokenizerFast(tokenizer_object=few, unk_token="<unk>"))


class Reciter(HashLM):
    """Knows one text by heart: after any part of it comes what follows there, the longest token first."""

    def __init__(self, tokenizer: Any):
        super().__init__(HashConfig(vocab_size=len(tokenizer)))
        self.texts = token_bytes(tokenizer)[0]
        self.eos, self.text = tokenizer.eos_token_id, TEXT.encode()
        self.ids = {text: token for token, text in self.texts.items()}
        self.generation_config.eos_token_id = self.eos
        self.eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        output = super().forward(input_ids, attention_mask, **kwargs)
        keys = kwargs["past_key_values"].layers[0].keys
        batch, queries = input_ids.shape
        slots = keys.shape[2]
        if attention_mask is not None and attention_mask.dim() == 4:
            seen = attention_mask[:, 0] >= 0
        else:
            seen = torch.ones(queries, slots, dtype=torch.bool).tril(slots - queries).expand(batch, -1, -1)
            if attention_mask is not None:
                seen = seen & attention_mask[:, None].bool()
        logits: Any = output.logits
        offset = queries - logits.shape[1]
        for b in range(batch):
            for q in range(logits.shape[1]):
                visible = keys[b, 0][seen[b, q + offset]]
                order = visible[:, 1].argsort(stable=True)
                ids = visible[order, 0].tolist()
                said = b"".join(self.texts.get(token, b"") for token in ids)
                logits[b, q, self.next(said)] = 12.0
        return CausalLMOutputWithPast(logits=logits, past_key_values=kwargs["past_key_values"])

    def next(self, said: bytes) -> int:
        rest = self.text[self.text.find(said[-8:]) + min(8, len(said)) :]
        for length in range(len(rest), 0, -1):
            if rest[:length] in self.ids:
                return self.ids[rest[:length]]
        return self.eos


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(("ours", "theirs"), [(BYTES, PIECES), (PIECES, BYTES)])
def test_a_draft_that_knows_the_text_foresees_the_target_in_other_tokens(ours: Any, theirs: Any, beams: int) -> None:
    target = Reciter(ours)
    draft = TextDraft(Reciter(theirs), Spelling(ours, theirs))
    ids = torch.tensor([[ours.bos_token_id, *ours(TEXT[:60])["input_ids"]]])
    decode = sb.speculative if beams == 1 else sb.speculative_beam
    options: dict[str, Any] = {"max_new_tokens": 48, "num_assistant_tokens": 12, "num_beams": beams}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = decode(fake_pair(target, draft, ours), {"input_ids": ids}, **options)
    plain = (sb.greedy if beams == 1 else sb.beam)(
        fake_pair(target), {"input_ids": ids}, max_new_tokens=48, num_beams=beams
    )
    assert decoded.sequences == plain.sequences
    said = b"".join(token_bytes(ours)[0][token] for token in decoded.sequences[0])
    assert said in TEXT.encode()
    assert decoded.stats.steps_per_pass > (2.5 if beams == 1 else 1)  # the other beams are noise, which nobody foresees
    assert 0.2 < draft.prompt_overlap <= 1 and draft.passes > 0


def test_looking_ahead_finds_tokens_that_are_several_of_the_drafts() -> None:
    ours, theirs = byte_level(420), byte_level(300)
    ids = torch.tensor([ours(TEXT[:60])["input_ids"]])
    passes = {}
    for ahead in (0, 2):
        draft = TextDraft(Reciter(theirs), Spelling(ours, theirs), ahead=ahead)
        decoded = sb.speculative(
            fake_pair(Reciter(ours), draft), {"input_ids": ids}, max_new_tokens=40, num_assistant_tokens=8
        )
        passes[ahead] = decoded.stats.target_passes
    assert passes[2] < passes[0] <= 40


@pytest.mark.parametrize("ahead", [0, 1])
def test_any_pair_of_models_and_tokenizers_gives_what_the_target_gives(ahead: int) -> None:
    """Random models, so the draft is always wrong; batches, beams, ends of sequence, sampling."""
    spelling = Spelling(BYTES, PIECES)
    for seed in range(12):
        randomness = random.Random(seed)
        target = hash_lm(len(BYTES), seed, [2, *range(5, 60)], 0)
        target.config.levels = 49_999
        draft = TextDraft(hash_lm(len(PIECES), seed), spelling, ahead=ahead)
        rows = [[randomness.randrange(len(BYTES)) for _ in range(randomness.randint(1, 9))] for _ in range(3)]
        width = max(map(len, rows))
        inputs = {
            "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in rows]),
            "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        }
        pair, beams = fake_pair(target, draft), 1 + 2 * (seed % 2)
        decode, plain = (sb.speculative, sb.greedy) if beams == 1 else (sb.speculative_beam, sb.beam)
        found = decode(pair, inputs, max_new_tokens=10, num_assistant_tokens=9, num_beams=beams)
        assert found.sequences == plain(pair, inputs, max_new_tokens=10, num_beams=beams).sequences
        if beams == 1:
            sampled = sb.speculative(pair, inputs, max_new_tokens=10, do_sample=True)
            assert all(len(sequence) <= 10 for sequence in sampled.sequences)


def test_what_several_readings_begin_with_adds_up() -> None:
    spelling = Spelling(BYTES, BYTES)
    draft = TextDraft(hash_lm(len(BYTES)), spelling)
    piece = BYTES.convert_tokens_to_ids
    t, h, th = piece("t"), piece("h"), piece("th")
    chains = [[sb.Proposal(t, -1.0), sb.Proposal(h, -0.5)], [sb.Proposal(th, -3.0)], [sb.Proposal(h, -2.0)]]
    found = {one.token: one.log_prob for one in draft._read(chains)}
    p = {token: torch.tensor(log_prob).exp().item() for token, log_prob in found.items()}
    e = torch.tensor([-1.5, -3.0, -1.0, -2.0]).exp().tolist()
    assert p == pytest.approx({th: e[0] + e[1], t: e[2] - e[0], h: e[3]}, rel=1e-5)
    assert draft._read([]) == []


def test_a_negative_look_ahead_is_refused() -> None:
    with pytest.raises(ValueError, match="ahead must not be negative"):
        TextDraft(hash_lm(len(BYTES)), Spelling(BYTES, BYTES), ahead=-1)
