"""A pair for tests of the web page: quick, exact, held up at will, and it writes markup."""

from __future__ import annotations

import threading
from typing import Any

from fakes import Oracle, fake_pair, hash_lm
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from specbeam.models.load import Pair

WORDS = ["<unk>", "<script>window.hacked=1</script>", "<img/src=x/onerror=window.hacked=1>", "${window.hacked=1}"]
WORDS += ["{{value}}", "</div></svg>", "&lt;", "👩‍👩‍👧", "\u202eolleh", "שלום", "§w", "'\""]
WORDS += [f"w{number}" for number in range(24 - len(WORDS))]


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


class Brake:
    """Holds every pass of a model while `open` is not set, and otherwise for `seconds`."""

    def __init__(self, target: Any):
        self.open, self.passes, self.seconds = threading.Event(), 0, 0.0
        self.open.set()
        self.reached = threading.Event()  # a pass waits
        target.register_forward_pre_hook(self._wait)

    def _wait(self, *_: Any) -> None:
        self.passes += 1
        if not self.open.is_set():
            self.reached.set()
            assert self.open.wait(30)
        if self.seconds:
            threading.Event().wait(self.seconds)


def braked_pair() -> tuple[Pair, Brake]:
    target = hash_lm(vocab_size=len(WORDS))
    pair = fake_pair(target, Oracle(hash_lm(vocab_size=len(WORDS))), tokenizer())  # a draft that no brake holds
    return pair, Brake(target)
