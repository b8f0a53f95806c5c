"""The interleaved measurement: each contender once a prompt, in an order that rotates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..cases import Case, to_warm_up
from .contenders import Contender
from .process import PeerError, Unsupported

WARM_UP_TOKENS = 8
PAUSE_S = 0.05  # before a turn, in which the threads of whoever came before go to sleep


@dataclass(frozen=True)
class Answer:
    """The best sequence of one prompt, prompt excluded."""

    sequence: list[int]
    seconds: float


@dataclass
class Turns:
    """What was measured: repeats -> prompts by (case, contender), and why something was not."""

    answers: dict[tuple[str, str], list[list[Answer]]] = field(default_factory=dict)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def whole(self, case: Case, name: str) -> dict[int, list[Answer]]:
        """The repeats in which every prompt was answered."""
        repeats = enumerate(self.answers[case.label, name])
        return {repeat: prompts for repeat, prompts in repeats if len(prompts) == len(case.inputs)}


def take_turns(
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    repeats: int,
    new_tokens: int,
    done: Callable[[int, Case], None] | None = None,
) -> Turns:
    """Warm everybody up with a few short decodes, then decode every prompt `repeats` times by each contender in turn.

    The order rotates from prompt to prompt, so that nobody always comes after the same one. Who fails is left out from
    then on, and what was measured before stays. `done(repeat, case)` is called after each case.
    """
    turns = Turns()
    playing = {each.name: each.decode for each in contenders if each.decode is not None}
    for case in cases:
        for each in contenders:
            turns.answers[case.label, each.name] = []
            if each.decode is None:
                turns.reasons[case.label, each.name] = each.reason

    def ask(case: Case, name: str, place: int, tokens: int) -> Answer | None:
        if name not in playing or (case.label, name) in turns.reasons:
            return None
        time.sleep(PAUSE_S)
        try:
            return Answer(*playing[name](case.inputs[place], case.num_beams, tokens))
        except Unsupported as error:
            turns.reasons[case.label, name] = str(error)
        except PeerError as error:
            del playing[name]
            for other in cases:
                turns.reasons.setdefault((other.label, name), str(error))
        return None

    for case in to_warm_up(cases):
        for name in list(playing):
            ask(case, name, 0, min(new_tokens, WARM_UP_TOKENS))
    orders = _rotating([each.name for each in contenders])
    for repeat in range(repeats):
        for case in cases:
            for each in contenders:
                turns.answers[case.label, each.name].append([])
            for place in range(len(case.inputs)):
                for name in next(orders):
                    answer = ask(case, name, place, new_tokens)
                    if answer is not None:
                        turns.answers[case.label, name][repeat].append(answer)
            if done is not None:
                done(repeat, case)
    return turns


def _rotating(names: Sequence[str]) -> Iterator[list[str]]:
    turn = 0
    while True:
        yield [*names[turn % len(names) :], *names[: turn % len(names)]]
        turn += 1
