"""The style sheet of all SVG pictures, and the prefix of its classes. Text only."""

from __future__ import annotations

import hashlib

from .palette import PAPER, STATES

MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SANS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
TEXT, SMALL = 11, 9  # px of the fonts


def _variables(dark: bool) -> str:
    paper = {name: pair[dark] for name, pair in PAPER.items()}
    for name, state in STATES.items():
        look = state.dark if dark else state.light
        paper |= {f"{name}-fill": look.fill, f"{name}-edge": look.border, f"{name}-ink": look.ink}
    return (
        "".join(f"--{name}:{value};" for name, value in paper.items()) + f"color-scheme:{'dark' if dark else 'light'}"
    )


def _css() -> str:
    """The style, with § for the prefix of all classes. Page styles for svg and span are undone."""
    light, dark = _variables(False), _variables(True)
    rules = [
        f".§{{{light};font:13px/1.4 {SANS};background:var(--paper);color:var(--ink);max-width:100%}}",
        f"@media (prefers-color-scheme:dark){{.§{{{dark}}}}}",
        # JupyterLab and Gradio have schemes of their own, whatever the system's is
        f'[data-jp-theme-light="true"] .§{{{light}}}[data-jp-theme-light="false"] .§,.dark .§{{{dark}}}',
        "div.§{padding:10px 12px;border-radius:6px;box-sizing:border-box}",
        ".§ .§h{font-weight:600;margin:0 0 8px;overflow-wrap:anywhere}",
        ".§ .§s{overflow-x:auto;max-width:100%}",
        ".§ svg{display:block;max-width:none;height:auto;background:none}",
        ".§ .§l{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:8px;font-size:12px;color:var(--faint)}",
        ".§ .§k{display:inline-flex;align-items:center;gap:5px;white-space:nowrap}",
        f".§ text{{font:{TEXT}px {SANS};fill:var(--ink)}}",
        f".§ text.§m{{font-family:{MONO}}}.§ text.§n{{font-size:{SMALL}px;fill:var(--faint)}}",
        ".§ text.§f{fill:var(--faint)}.§ text.§b{font-weight:700}",
        ".§ .§paper{fill:var(--paper)}.§ .§band{fill:var(--tint)}.§ .§rule{stroke:var(--line);fill:none}",
        ".§ path.§running{fill:none;stroke:var(--ink);stroke-width:2}",
        ".§ path.§finished{fill:none;stroke:var(--ink);stroke-width:4.5}",
        ".§ path.§died{fill:none;stroke:var(--faint);stroke-width:1.2;stroke-dasharray:5 3}",
        ".§ path.§vain{fill:none;stroke:var(--faint);stroke-width:.8;stroke-dasharray:1.5 2.5}",
        ".§ path.§tip{fill:var(--ink);stroke:none}.§ path.§end{fill:var(--ink);stroke:none}",
        ".§ path.§stop{fill:none;stroke:var(--faint);stroke-width:2.5}",
        ".§ path.§cut{fill:var(--paper);stroke:none}",
        ".§ rect.§prompt{fill:var(--ink)}.§ text.§prompt{fill:var(--paper);font-weight:700}",
        ".§ rect.§target{fill:var(--target)}.§ rect.§steps{fill:var(--steps)}",
        ".§ rect.§draft{fill:var(--paper);stroke:var(--draft);stroke-width:2}",
        f".§ .§t{{display:flex;flex-wrap:wrap;gap:5px 2px;font:13px/1.5 {MONO};align-items:baseline}}",
        ".§ .§t span.§w{margin-right:5px}.§ .§t .§br{flex-basis:100%;height:0}",
        ".§ .§t span{padding:0 4px;border-radius:4px;border:1.5px solid transparent;overflow-wrap:anywhere}",
        ".§ .§t span.§g{padding:0;border:0;display:inline-flex;gap:1px}.§ s{text-decoration-thickness:1.5px}",
        ".§ b{font-weight:700}",
    ]
    for name, state in STATES.items():
        border = {"none": "transparent", "": "solid", "4 3": "dashed"}.get(state.dash, "dotted")
        rules += [
            f".§ rect.§{name}{{fill:var(--{name}-fill);stroke:var(--{name}-edge);stroke-width:1.5"
            + (f";stroke-dasharray:{state.dash}}}" if state.dash not in ("", "none") else "}"),
            f".§ text.§{name}{{fill:var(--{name}-ink)}}",
            f".§ .§t span.§{name}{{background:var(--{name}-fill);color:var(--{name}-ink)"
            + ("}" if border == "transparent" else f";border:1.5px {border} var(--{name}-edge)}}"),
        ]
    rules.append(".§ text.§struck{text-decoration:line-through}")
    return "\n".join(rules)


STYLE = _css()
# Pictures of another version may stand on the same page: what looks different is named differently.
PREFIX = "sb" + hashlib.sha256(STYLE.encode()).hexdigest()[:5]
STYLE = STYLE.replace("§", PREFIX)
