"""Drawings of one decode's trace: the token tree, the mask of a pass, and the draft's words round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .plot_style import BLUE, GREEN, PURPLE, RED, counted, single_axes
from .stats import Trace, TraceRound

_KINDS = {  # of branches: label, colour, marker, width of the line
    "winner": ("the winner (■ its last token)", BLUE, "D", 2.6),
    "finished": ("another result", PURPLE, "v", 1.4),
    "running": ("running at the last step drawn", GREEN, "o", 1.4),
    "dropped": ("dropped or ended (× its last node)", RED, "X", 1.0),
    "vain": ("verified, never asked for", "#B8B8B8", ".", 0.6),
}


def tree_mask(labels: list[str], seen: list[list[bool]], prompt: str = "prompt") -> Figure:
    """A tree attention mask: row i shows which nodes `labels[i]` sees; the prompt is one wide first column."""
    size = len(labels)
    figure, axes = single_axes(1.8 + 0.55 * (size + 1), 0.9 + 0.42 * size)
    cells = [[True, *row] for row in seen]
    for i, row in enumerate(cells):
        for j, on in enumerate(row):
            axes.scatter(j, i, marker="s", s=150, color=BLUE if on else "#E8E8E8")
            if on:
                axes.text(j, i, "×", color="white", ha="center", va="center", fontweight="bold")
    axes.set_xticks(range(size + 1), [prompt, *labels], rotation=45, ha="left")
    axes.xaxis.tick_top()
    axes.set_yticks(range(size), labels)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_xlim(-0.6, size + 0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("sees")
    axes.set_ylabel("node")
    used = sum(map(sum, seen))
    axes.set_title(f"{counted(size, 'node')} in one pass: {used} of {size * size} pairs are open")
    return figure


def beam_tree(trace: Trace, tokenizer: Any, max_steps: int = 12) -> Figure:
    """The token tree of a decode: each column is a step, each node a token, each band a target pass.

    Branches that still run at the last step drawn, branches that died, the winner, and, faint and without a label,
    the nodes that were verified and never asked for.
    """
    last = min(max_steps, len(trace.steps) - 1)
    winner, finished = set(_winning_nodes(trace)), _result_nodes(trace)
    drawn = [
        n
        for n, node in enumerate(trace.nodes)
        if node.depth <= last and (n == 0 or node.asked is not None or node.verified is not None)
    ]
    alive = _ancestors(trace, [n for n in drawn if trace.nodes[n].asked == last])
    heights = _layout(trace, drawn, winner, alive | finished)
    rows = max(heights.values()) + 1
    kinds = {}
    for n in drawn[1:]:
        sort = "winner" if n in winner else "finished" if n in finished else "running" if n in alive else "dropped"
        kinds[n] = "vain" if trace.nodes[n].asked is None else sort
    continued = {trace.nodes[n].parent for n, kind in kinds.items() if kind != "vain"}

    figure, axes = single_axes(max(6.0, 1.5 + 1.05 * last), min(14.0, max(3.0, 1.6 + 0.32 * rows)))
    _draw_passes(axes, trace.rounds, last)
    for n, kind in sorted(kinds.items(), key=lambda item: item[1] != "vain"):
        _, colour, marker, width = _KINDS[kind]
        x, y, start = trace.nodes[n].depth, heights[n], heights[trace.nodes[n].parent]
        front = 1 + (kind != "vain") + (kind == "winner")
        axes.plot([x - 1, x - 0.72, x], [start, y, y], color=colour, linewidth=width, zorder=front)
        if kind == "dropped" and n in continued:
            marker = "o"
        axes.scatter(x, y, marker=marker, s=34 if kind == "winner" else 22, color=colour, zorder=4)
        if kind != "vain":
            _label(axes, _short(tokenizer, trace.nodes[n].token), x, y, colour, bold=kind == "winner")
    _draw_end(axes, trace, tokenizer, winner, heights, last)
    axes.scatter(0, heights[0], marker="s", s=50, color="black", zorder=4)
    axes.annotate("prompt", (0, heights[0]), xytext=(-6, 0), textcoords="offset points", ha="right", va="center")
    axes.set_ylim(rows - 0.3, -1.4)
    axes.set_xlim(-0.75, last + 1.5)
    axes.set_xticks(range(last + 1))
    axes.set_yticks([])
    axes.spines[["left"]].set_visible(False)
    axes.set_xlabel("search step (tokens after the prompt)")
    _tree_legend(figure, set(kinds.values()))
    passes = sum(1 for number, each in enumerate(trace.rounds) if number and each.first_step <= last)
    vain = sum(kind == "vain" for kind in kinds.values())
    axes.set_title(
        f"{counted(last, 'step')} in {counted(passes, 'target pass', 'es')}: {len(kinds) - vain} nodes asked for"
        + (f", {vain} verified in vain" if vain else ""),
        loc="left",
    )
    return figure


def _label(axes: Any, text: str, x: float, y: float, colour: str, bold: bool) -> None:
    """A token above the line that leads to its node."""
    axes.annotate(
        text,
        (x, y),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        fontweight="bold" if bold else "normal",
        color=colour,
        zorder=5,
        parse_math=False,
    )


def _draw_passes(axes: Any, rounds: list[TraceRound], last: int) -> None:
    """A band from the first to the last step that each pass paid for."""
    for number, each in enumerate(rounds):
        if each.first_step > last or not each.steps:
            continue
        left, right = each.first_step - 0.5, min(each.first_step + each.steps, last + 1) - 0.5
        if number % 2:
            axes.axvspan(left, right, color="#F2F0E6", zorder=0, linewidth=0)
        name = "prefill" if number == 0 else f"pass {number}"
        axes.text((left + right) / 2, -0.95, name, ha="center", va="center", fontsize=8, color="#555555")


def _draw_end(axes: Any, trace: Trace, tokenizer: Any, winner: set[int], heights: dict[int, float], last: int) -> None:
    """The winner's last token, which is no node: nothing is asked after it."""
    if not trace.results:
        return
    tip = max((n for n in winner if trace.nodes[n].depth <= last), key=lambda n: trace.nodes[n].depth, default=0)
    depth, tokens = trace.nodes[tip].depth, trace.results[0]
    if len(tokens) > depth + 1 or depth >= len(tokens):
        axes.annotate("…", (depth, heights[tip]), xytext=(6, -2), textcoords="offset points", color=BLUE)
        return
    axes.plot([depth, depth + 0.45], [heights[tip]] * 2, color=BLUE, linewidth=2.6, zorder=2)
    axes.scatter(depth + 0.45, heights[tip], marker="s", s=40, color=BLUE, zorder=4)
    axes.annotate(
        _short(tokenizer, tokens[depth]),
        (depth + 0.45, heights[tip]),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        fontweight="bold",
        color=BLUE,
        parse_math=False,
    )


def _tree_legend(figure: Figure, kinds: set[str]) -> None:
    """A legend below, of the kinds of branch that are there."""
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=width, label=label)
        for kind, (label, colour, marker, width) in _KINDS.items()
        if kind in kinds
    ]
    figure.legend(handles=handles, frameon=False, fontsize=8, ncols=len(handles), loc="outside lower center")


def _layout(trace: Trace, drawn: list[int], winner: set[int], alive: set[int]) -> dict[int, float]:
    """A height for each node: the best child stays level with its parent, the others come below it."""
    children: dict[int, list[int]] = {n: [] for n in drawn}
    for n in drawn:
        if n:
            children[trace.nodes[n].parent].append(n)

    def importance(n: int) -> tuple[bool, bool, bool, float]:
        node = trace.nodes[n]
        return n not in winner, n not in alive, node.asked is None, -node.score

    heights: dict[int, float] = {}
    free = 0.0
    open_nodes = [(0, True)]
    while open_nodes:  # depth first, so that a branch lies together
        n, level = open_nodes.pop()
        if not level:
            free += 1.0 if trace.nodes[n].asked is not None else 0.3
        heights[n] = heights[trace.nodes[n].parent] if level and n else free
        order = sorted(children[n], key=importance)
        open_nodes += [(child, place == 0) for place, child in reversed(list(enumerate(order)))]
    return heights


def draft_strip(trace: Trace, tokenizer: Any, rounds: int | Sequence[int] | None = None) -> str:
    """Round by round, what the draft proposed along the best sequence, and what became of it.

    A column is a token. ✓ means that the best sequence went through the drafted node, ✗ that it left the draft there;
    then `corrected` is the target's own token in that place. Where all of the draft was right, `added` is
    the token that the same pass gives on top. Nodes that an earlier pass has verified are not repeated.

    rounds: how many passes to show, or which (the prompt's is 0 and drafts nothing); None shows all.
    """
    if isinstance(rounds, int):
        rounds = range(1, min(rounds + 1, len(trace.rounds)))
    chosen = range(1, len(trace.rounds)) if rounds is None else [n for n in rounds if 0 < n < len(trace.rounds)]
    return "\n\n".join(_strip_round(trace, tokenizer, number) for number in chosen)


def _strip_round(trace: Trace, tokenizer: Any, number: int) -> str:
    each = trace.rounds[number]
    best = [0, *_winning_nodes(trace)]
    tokens = trace.results[0] if trace.results else [trace.nodes[n].token for n in best[1:]]
    drafted = set(each.drafted)
    known = _first_new(trace, best, each, number)
    head = (
        f"pass {number}, step {each.first_step}: {counted(len(each.asked), 'node')} asked for, "
        f"{len(each.drafted)} drafted, {counted(each.steps, 'step')} paid for"
    )
    columns, depth = [], known
    earlier = (trace.nodes[best[depth]].verified or 0) < number
    if earlier and (depth + 1 >= len(best) or best[depth + 1] not in drafted):
        return f"{head}\n  (the best sequence was verified this far before; the pass is for other beams)"
    while depth + 1 < len(best) and best[depth + 1] in drafted:
        depth += 1
        columns.append((_short(tokenizer, trace.nodes[best[depth]].token), "✓", ""))
    here = best[depth] if depth < len(best) else None
    own = _short(tokenizer, tokens[depth]) if depth < len(tokens) else ""
    wrong = [] if here is None else _draft_chain(trace, drafted, here)
    name = "corrected" if wrong else "added"
    if wrong and own:
        columns.append((_short(tokenizer, trace.nodes[wrong[0]].token), "✗", own))
        columns += [(_short(tokenizer, trace.nodes[n].token), "", "") for n in wrong[1:]]
    elif own:
        columns.append(("", "", own))
    widths = [max(map(len, column)) for column in columns]
    lines = [head]
    for row, label in enumerate(("draft", "target", name)):
        cells = [column[row].ljust(width) for column, width in zip(columns, widths, strict=True)]
        line = " ".join(cells).rstrip()
        lines.append(f"  {label:<10} {line or '-'}")
    return "\n".join(lines)


def _first_new(trace: Trace, best: list[int], each: TraceRound, number: int) -> int:
    """The depth on the best path from which this round's own drafts go on."""
    depth = min(each.first_step, len(best) - 1)
    while depth + 1 < len(best):
        verified = trace.nodes[best[depth + 1]].verified
        if verified is None or verified >= number:
            break
        depth += 1
    return depth


def _draft_chain(trace: Trace, drafted: set[int], node: int) -> list[int]:
    """The first drafted child of `node`, its first drafted child, and so on: nodes are made likeliest first."""
    first: dict[int, int] = {}
    for n in sorted(drafted):
        first.setdefault(trace.nodes[n].parent, n)
    chain = []
    while (following := first.get(node)) is not None:
        chain.append(following)
        node = following
    return chain


def _winning_nodes(trace: Trace) -> list[int]:
    """The nodes of the best result from the root (exclusive), as far as there are nodes for it."""
    if not trace.results:
        return trace.path(trace.steps[-1][0]) if trace.steps else []
    return _nodes_of(trace, trace.results[0])


def _result_nodes(trace: Trace) -> set[int]:
    """The nodes of all results but the best."""
    return {n for tokens in trace.results[1:] for n in _nodes_of(trace, tokens)}


def _nodes_of(trace: Trace, tokens: Sequence[int]) -> list[int]:
    """The nodes of a sequence from the root (exclusive), as far as there are nodes for it."""
    child = {(node.parent, node.token): n for n, node in enumerate(trace.nodes)}
    nodes, here = [], 0
    for token in tokens:
        found = child.get((here, token))
        if found is None:
            break
        nodes.append(found)
        here = found
    return nodes


def _ancestors(trace: Trace, nodes: Sequence[int]) -> set[int]:
    return {above for node in nodes for above in trace.path(node)}


def _short(tokenizer: Any, token: int, most: int = 12) -> str:
    """A token as a reader sees it: without its leading space, line breaks as ⏎, long ones cut."""
    text = tokenizer.decode([token])
    text = text.strip() or text.replace("\n", "⏎").replace(" ", "␣") or "∅"
    return text if len(text) <= most else text[: most - 1] + "…"
