"""The target's own answers: what a draft learns from.

A draft has to say what the target would say, so it learns from texts that the target wrote, with what the target
thought at every position. The target writes the questions too: given the opening of a user's turn it goes on as a
user would (Xu et al. 2024, Magpie), so no set of prompts is needed. Passages to summarise can be added.

A shard is one safetensors file: `tokens` (rows, length), `ends` (rows,) where each row stops, and `features`
(rows, length, layers, hidden size), the target's hidden states at every token.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.drafts.eagle_model import EagleConfig
from specbeam.engines.attention import GROUPED
from specbeam.engines.tree_cache import TreeCache

# Ways to begin a user's turn, written for this project. Half of the rows begin with none of them.
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
TEMPERATURES = (0.0, 0.0, 0.5, 0.8)  # of the answers, row by row in turn; questions are drawn at 1
_LONGEST_QUESTION = 60
_TRIES = 1000  # passages to look at for one that is long enough
_MARK = "\N{BLACK SQUARE}"  # stands for what a user says, to find it in a rendered template


@dataclass
class Row:
    """One text in the making: forced tokens first, then the target's own."""

    forced: list[int]  # what has to come next, in order
    temperature: float
    asking: bool  # still in the user's turn
    limit: int = 0  # longest question, in tokens
    asked: int = 0
    done: bool = False
    tokens: list[int] = field(default_factory=list)

    def take(self, drawn: int, ends: set[int], suffix: list[int]) -> int:
        """The next token to forward, given the one that the target drew."""
        if self.done:
            return drawn
        if self.forced:
            token = self.forced.pop(0)
        elif self.asking and (drawn in ends or drawn == suffix[0] or self.asked >= self.limit):
            self.asking, self.forced = False, suffix[1:]
            token = suffix[0]
        elif not self.asking and drawn in ends:
            self.done = True
            return drawn
        else:
            token = drawn
        self.asked += self.asking
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

    Rows that end are taken out of the batch now and then, so that the rest goes on faster.
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
    going = list(range(batch))
    for at in range(width, length):
        warmth = torch.tensor([[1.0 if rows[i].asking else rows[i].temperature] for i in going])
        drawn = _draw(logits, warmth, generator).tolist()
        taken = [rows[i].take(token, ends, suffix) for i, token in zip(going, drawn, strict=True)]
        ended = sum(rows[i].done for i in going)
        if ended == len(going):
            break
        input_ids = torch.tensor(taken)[:, None]
        if ended * 8 >= len(going):
            kept = [j for j, i in enumerate(going) if not rows[i].done]
            going = [going[j] for j in kept]
            _select(cache, torch.tensor(kept))
            input_ids = input_ids[kept]
        input_ids = input_ids.to(model.device)
        output = model(input_ids=input_ids, past_key_values=cache, use_cache=True, output_hidden_states=True)
        features[going, at] = torch.stack([output.hidden_states[i][:, 0].to(features) for i in layers], 1)
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
    """A token a row: the likeliest where the temperature is 0, drawn elsewhere (the exponential race)."""
    drawn = logits.argmax(-1)
    warm = (temperatures[:, 0] > 0).nonzero()[:, 0]
    if len(warm):
        chances = (logits[warm].float() / temperatures[warm]).softmax(-1)
        drawn[warm] = chances.div_(torch.empty_like(chances).exponential_(generator=generator)).argmax(-1)
    return drawn


def _select(cache: TreeCache, rows: Tensor) -> None:
    for layer in cache.layers:
        layer.select(rows)


def stop_tokens(model: PreTrainedModel) -> set[int]:
    """The end-of-sequence ids of the model's generation config."""
    ends: Any = model.generation_config.eos_token_id  # type: ignore[union-attr]
    return set(ends if isinstance(ends, list) else [] if ends is None else [ends])


def template_parts(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens before and after what a user says; where there is no chat template, nothing comes after.

    Raises ValueError for a template that shows what a user says more than once, changed or not at all.
    """
    if tokenizer.chat_template is None:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return [start], []
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
    )
    if text.count(_MARK) != 1:
        raise ValueError("the chat template does not show what a user says once; set tokenizer.chat_template to None")
    before, after = text.split(_MARK)
    return tuple(tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))


def questions(tokenizer: Any, count: int, draw: random.Random) -> tuple[Tensor, list[Row]]:
    """Rows in which the target asks itself something, and their shared prompt, shape (count, prompt length)."""
    before, after = template_parts(tokenizer)
    rows = []
    for index in range(count):
        opening = draw.choice(OPENINGS) if index % 2 else ""
        forced = tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
        rows.append(Row(list(forced), TEMPERATURES[index // 2 % len(TEMPERATURES)], bool(after), _LONGEST_QUESTION))
    return torch.tensor([before] * count), rows


def summaries(tokenizer: Any, passages: Sequence[str], count: int, length: int, draw: random.Random):
    """Rows that ask for a summary of a passage, all cut to `length` tokens; see `questions`.

    Raises ValueError if hardly any passage is that long.
    """
    before, after = template_parts(tokenizer)
    room = length - len(before) - len(after)
    prompts, rows = [], []
    for _ in range(_TRIES * count):
        text = draw.choice(REQUESTS) + draw.choice(passages)
        said = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(said) >= room:
            prompts.append([*before, *said[:room], *after])
            rows.append(Row([], TEMPERATURES[len(rows) % len(TEMPERATURES)], asking=False))
        if len(prompts) == count:
            break
    else:
        raise ValueError(f"hardly any passage fills {room} tokens; give longer ones, of 400 tokens or so, or none")
    return torch.tensor(prompts), rows


def write_shards(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    shards: Sequence[int],
    passages: Sequence[str] = (),
    *,
    rows: int = 96,
    length: int = 224,
    seed: int = 0,
    done: Callable[[int, int], None] | None = None,
) -> int:
    """Write the shards with these numbers, those that are there already left as they are.

    Every fourth shard summarises passages if there are any. `done(shard, positions)` is told of each. The same
    number and seed give the same shard, whatever was written before. Returns how many positions were written.
    """
    total = 0
    folder.mkdir(parents=True, exist_ok=True)
    model.set_attn_implementation(GROUPED)
    _, after = template_parts(tokenizer)
    stops = stop_tokens(model)
    for shard in shards:
        path = folder / f"{shard:05d}.safetensors"
        if path.exists():
            continue
        draw = random.Random(f"{seed}-{shard}")
        if passages and shard % 4 == 3:
            prompts, texts = summaries(tokenizer, passages, rows // 2, draw.randint(120, 360), draw)
            longest = prompts.shape[1] + 80
        else:
            prompts, texts = questions(tokenizer, rows, draw)
            longest = length
        generator = torch.Generator().manual_seed(draw.getrandbits(48))
        found = write(model, prompts, texts, after, stops, longest, generator)
        scratch = path.with_suffix(".part")
        save_file(found, scratch)
        os.replace(scratch, path)
        count = int(found["ends"].sum())
        total += count
        if done is not None:
            done(shard, count)
    return total
