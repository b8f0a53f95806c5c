"""Traces without a model: one small and known by heart, and random ones with a source's rules."""

from __future__ import annotations

import random

from specbeam.decoding.trace import Trace, TraceNode, TraceRound

WORDS = ["<prompt>", " humans", " dogs", " and", " machines", " fight", " bark", " or", " cooperate", " $5_"]
TEXTS = dict(enumerate(WORDS))


def node(token, parent, depth, score, verified, drafted=None, asked=None):
    return TraceNode(token, parent, depth, score, verified, drafted, asked)


def two_beams() -> Trace:
    """Two beams, three passes: the second foresees two steps of the winner, then the target goes another way.

    The result is humans and machines cooperate bark: never drafted, accepted, accepted, corrected (the draft said
    fight), never drafted (no node is asked after it).
    """
    nodes = [
        node(0, -1, 0, 0.0, verified=0, asked=0),
        node(1, 0, 1, -0.1, verified=1, asked=1),
        node(2, 0, 1, -0.9, verified=1, asked=1),
        node(3, 1, 2, -0.2, verified=1, drafted=1, asked=2),
        node(4, 3, 3, -0.3, verified=1, drafted=1, asked=3),
        node(5, 4, 4, -2.0, verified=1, drafted=1),
        node(6, 2, 2, -1.0, verified=1, drafted=1, asked=2),
        node(7, 1, 2, -3.0, verified=1, drafted=1),
        node(8, 4, 4, -0.4, verified=2, asked=4),
        node(2, 3, 3, -1.1, verified=1, drafted=1, asked=3),
        node(9, 4, 4, -0.8, verified=2, asked=4),
    ]
    rounds = [
        TraceRound([0], [], 0, 0.0, 1.0, steps=1),
        TraceRound([1, 2], [3, 4, 5, 6, 7, 9], 1, 0.1, 0.2, steps=3),
        TraceRound([8, 10], [], 4, 0.1, 0.2, steps=1),
    ]
    return Trace(nodes, rounds, [[0], [1, 2], [3, 6], [4, 9], [8, 10]], results=[[1, 3, 4, 8, 6]])


def random_trace(seed: int, beams: int = 3, steps: int = 6, drafted: int = 6, vocabulary: int = 9) -> Trace:
    """What a source would have recorded of a search that draws its steps at random, with a draft that does too."""
    draw = random.Random(seed)
    nodes = [TraceNode(0, -1, 0, 0.0, 0, None, 0)]
    children: list[dict[int, int]] = [{}]

    def child(parent: int, token: int) -> int:
        if token not in children[parent]:
            children[parent][token] = len(nodes)
            one = nodes[parent]
            nodes.append(TraceNode(token, parent, one.depth + 1, one.score - draw.random()))
            children.append({})
        return children[parent][token]

    rounds = [TraceRound([0], [], 0, 0.0, draw.random())]
    running, taken = [0], []
    for step in range(steps):
        missing = [n for n in running if nodes[n].verified is None]
        if missing:
            found, open_nodes = [], list(running)
            for _ in range(drafted):
                one = child(draw.choice(open_nodes), draw.randrange(vocabulary))
                if nodes[one].verified is None and one not in found and one not in missing:
                    found.append(one)
                    open_nodes.append(one)
            rounds.append(TraceRound(missing, found, step, draw.random(), draw.random()))
            for n in (*missing, *found):
                nodes[n].verified = len(rounds) - 1
            for n in found:
                nodes[n].drafted = len(rounds) - 1
        rounds[-1].steps += 1
        taken.append(running)
        for n in running:
            nodes[n].asked = step
        ways = {(draw.choice(running), draw.randrange(vocabulary)) for _ in range(beams)}
        if step < steps - 1:
            running = [child(*way) for way in sorted(ways)]
    trace = Trace(nodes, rounds, taken)
    ends = draw.sample(running, min(2, len(running)))
    trace.results = [[*(nodes[n].token for n in trace.path(end)), draw.randrange(vocabulary)] for end in ends]
    return trace
