"""Texts by the target itself, with its hidden states: what a draft learns from.

The target writes the questions too: given the opening of a user's turn it continues as a user would (Xu et al. 2024,
Magpie), so no set of prompts is needed. Passages to summarise can be added.

A shard is one safetensors file: `tokens` (rows, length), `ends` (rows,), the length of each text, and `features`
(rows, length, layers, hidden size), the target's hidden states at every token.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.drafts.eagle_model import EagleConfig
from specbeam.engines.attention import GROUPED
from specbeam.engines.tree_cache import TreeCache
from specbeam.files import write_atomic
from specbeam.models.stopping import stop_tokens

# Beginnings of a user's turn, written for this project. Half of the rows get none.
OPENINGS = (
    *("What is", "What are", "How does", "How do I", "Why do", "Why is", "Explain", "Explain the concept of"),
    *("Describe", "Tell me about", "Give me", "List", "Compare", "Can you", "I want to", "The future of", "In 2050,"),
    *("Once upon a time", "Write a story about", "Write a short", "Write an email", "Write a poem about"),
    *("Write a Python function", "Write a Python class", "Write a SQL query", "Write a JavaScript function"),
    *("Explain what this code does", "Fix this code:", "What is the meaning of", "What is the difference between"),
    *("Summarize", "Rewrite this", "Translate", "Calculate", "Who was", "When did", "Imagine", "Suggest"),
)
REQUESTS = (
    "Summarise the following article in one sentence.\n\n",
    "Summarise the following text in one paragraph.\n\n",
    "Summarize this passage:\n\n",
    "Write a short summary of this text.\n\n",
)
TEMPERATURES = (0.0, 0.0, 0.5, 0.8)  # of the answers, cycling over the rows; questions are drawn at 1
_LONGEST_QUESTION = 60
_TRIES = 1000  # passages to try, for each row, until one is long enough
_MARK = "\N{BLACK SQUARE}"  # a user's message, to be found again in the rendered template


@dataclass
class Row:
    """One text while it is written: forced tokens first, then the target's own."""

    forced: list[int]  # the next tokens, in order, whatever the target draws
    temperature: float
    asking: bool  # still in the user's turn
    limit: int = 0  # most tokens of the question
    question_tokens: int = 0
    done: bool = False
    tokens: list[int] = field(default_factory=list)

    def take(self, drawn: int, ends: set[int], suffix: list[int]) -> int:
        """The next token to forward, given the one that the target drew."""
        if self.done:
            return drawn
        if self.forced:
            token = self.forced.pop(0)
        elif self.asking and (drawn in ends or drawn == suffix[0] or self.question_tokens >= self.limit):
            self.asking, self.forced = False, suffix[1:]
            token = suffix[0]
        elif not self.asking and drawn in ends:
            self.done = True
            return drawn
        else:
            token = drawn
        self.question_tokens += self.asking
        self.tokens.append(token)
        return token


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    prompts: Tensor,
    rows: list[Row],
    suffix: list[int],
    ends: set[int],
    length: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Let the target continue every row of `prompts`, shape (rows, prompt length), to at most `length` tokens.

    Returns the columns of a shard. Finished rows leave the batch from time to time, which makes the rest faster.
    """
    layers = EagleConfig.for_target(model).layers
    batch, width = prompts.shape
    states = model.dtype if model.dtype != torch.float64 else torch.float32
    features = torch.zeros(batch, length, len(layers), model.config.get_text_config().hidden_size, dtype=states)
    cache = TreeCache()
    same = bool((prompts == prompts[0]).all())
    read = (prompts[:1] if same else prompts).to(model.device)
    output = model(input_ids=read, past_key_values=cache, use_cache=True, output_hidden_states=True, logits_to_keep=1)
    features[:, :width] = torch.stack([output.hidden_states[i].to(features) for i in layers], 2)
    logits = output.logits[:, -1].cpu()
    if same:
        _select(cache, torch.zeros(batch, dtype=torch.long))
        logits = logits.expand(batch, -1)
    active = list(range(batch))
    for at in range(width, length):
        temperatures = torch.tensor([[1.0 if rows[i].asking else rows[i].temperature] for i in active])
        drawn = _draw(logits, temperatures, generator).tolist()
        taken = [rows[i].take(token, ends, suffix) for i, token in zip(active, drawn, strict=True)]
        ended = sum(rows[i].done for i in active)
        if ended == len(active):
            break
        input_ids = torch.tensor(taken)[:, None]
        if ended * 8 >= len(active):
            kept = [j for j, i in enumerate(active) if not rows[i].done]
            active = [active[j] for j in kept]
            _select(cache, torch.tensor(kept))
            input_ids = input_ids[kept]
        input_ids = input_ids.to(model.device)
        output = model(input_ids=input_ids, past_key_values=cache, use_cache=True, output_hidden_states=True)
        features[active, at] = torch.stack([output.hidden_states[i][:, 0].to(features) for i in layers], 1)
        logits = output.logits[:, -1].cpu()
    tokens = torch.zeros(batch, length, dtype=torch.int32)
    tokens[:, :width] = prompts
    for b, row in enumerate(rows):
        tokens[b, width : width + len(row.tokens)] = torch.tensor(row.tokens, dtype=torch.int32)
    return {
        "tokens": tokens,
        "ends": torch.tensor([width + len(row.tokens) for row in rows], dtype=torch.int32),
        "features": features,
    }


def _draw(logits: Tensor, temperatures: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row: the likeliest where the temperature is 0, else drawn (by an exponential race)."""
    drawn = logits.argmax(-1)
    warm = (temperatures[:, 0] > 0).nonzero()[:, 0]
    if len(warm):
        chances = (logits[warm].float() / temperatures[warm]).softmax(-1)
        drawn[warm] = chances.div_(torch.empty_like(chances).exponential_(generator=generator)).argmax(-1)
    return drawn


def _select(cache: TreeCache, rows: Tensor) -> None:
    for layer in cache.layers:
        layer.select(rows)


def template_parts(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The template's tokens before and after a user's message; without a chat template there are none after it.

    Raises ValueError for a template that leaves the message out, changes it, or repeats it.
    """
    if tokenizer.chat_template is None:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return [start], []
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
    )
    if text.count(_MARK) != 1:
        raise ValueError(
            "the chat template does not contain a user's message exactly once; set tokenizer.chat_template to None"
        )
    before, after = text.split(_MARK)
    return tuple(tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))


def questions(tokenizer: Any, count: int, draw: random.Random) -> tuple[Tensor, list[Row]]:
    """Prompts, shape (count, prompt length), and rows for texts in which the target writes question and answer."""
    before, after = template_parts(tokenizer)
    rows = []
    for index in range(count):
        opening = draw.choice(OPENINGS) if index % 2 else ""
        forced = tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
        rows.append(Row(list(forced), TEMPERATURES[index // 2 % len(TEMPERATURES)], bool(after), _LONGEST_QUESTION))
    return torch.tensor([before] * count), rows


def summaries(
    tokenizer: Any, passages: Sequence[str], count: int, length: int, draw: random.Random
) -> tuple[Tensor, list[Row]]:
    """Prompts that ask for the summary of a passage, all cut to `length` tokens, and their rows; see `questions`.

    Raises ValueError if hardly any passage is that long.
    """
    before, after = template_parts(tokenizer)
    room = length - len(before) - len(after)
    prompts, rows = [], []
    for _ in range(_TRIES * count):
        text = draw.choice(REQUESTS) + draw.choice(passages)
        message = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(message) >= room:
            prompts.append([*before, *message[:room], *after])
            rows.append(Row([], TEMPERATURES[len(rows) % len(TEMPERATURES)], asking=False))
        if len(prompts) == count:
            break
    else:
        raise ValueError(f"hardly any passage fills {room} tokens; give longer ones, of 400 tokens or so, or none")
    return torch.tensor(prompts), rows


def write_shard(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    shard: int,
    passages: Sequence[str] = (),
    *,
    rows: int = 96,
    length: int = 224,
    seed: int = 0,
) -> int:
    """Write the shard with this number unless it exists. Returns how many positions were written.

    Every fourth shard summarises passages if there are any. The same number and seed give the same shard, whatever was
    written before.
    """
    path = folder / f"{shard:05d}.safetensors"
    if path.exists():
        return 0
    model.set_attn_implementation(GROUPED)
    draw = random.Random(f"{seed}-{shard}")
    if passages and shard % 4 == 3:
        prompts, texts = summaries(tokenizer, passages, rows // 2, draw.randint(120, 360), draw)
        length = prompts.shape[1] + 80
    else:
        prompts, texts = questions(tokenizer, rows, draw)
    generator = torch.Generator().manual_seed(draw.getrandbits(48))
    _, after = template_parts(tokenizer)
    columns = write(model, prompts, texts, after, stop_tokens(model), length, generator)
    write_atomic(path, save(columns))
    return int(columns["ends"].sum())
