"""The colours, signs and borders of all pictures, as plain data: for SVG, for matplotlib and for the terminal.

Colours are Okabe and Ito's (2008, "Color Universal Design"), which colour-blind people can tell apart. Each state of a
token also has its own sign, fill and border, so that states differ in greyscale and without colour at all.
"""

from __future__ import annotations

from typing import NamedTuple

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#8C8C8C"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--")


class Look(NamedTuple):
    """How one state of a token is drawn on a light page or on a dark one."""

    fill: str
    border: str
    ink: str


class State(NamedTuple):
    """What became of a token: its sign, its label in a legend, and its looks."""

    sign: str
    label: str
    dash: str  # of the border, as SVG's stroke-dasharray; "" is a solid one
    light: Look
    dark: Look

    @property
    def line(self) -> str:
        """The border as CSS names its style."""
        return {"none": "none", "": "solid", "4 3": "dashed"}.get(self.dash, "dotted")


ACCEPTED, REJECTED, CORRECTED, UNDRAFTED, OPEN = "accepted", "rejected", "corrected", "undrafted", "open"

STATES = {
    ACCEPTED: State(
        *("✓", "drafted and accepted", ""),
        light=Look("#D5F2E7", GREEN, "#0B3B2D"),
        dark=Look("#103D30", "#2FC79A", "#DDF7EE"),
    ),
    REJECTED: State(
        *("✗", "drafted and rejected", "4 3"),
        light=Look("#FFFFFF", RED, "#A34400"),
        dark=Look("#161A21", "#FF9A57", "#FFBB8F"),
    ),
    CORRECTED: State(
        *("→", "corrected by the target", ""),
        light=Look(BLUE, BLUE, "#FFFFFF"),
        dark=Look("#56B4E9", "#56B4E9", "#08202F"),
    ),
    UNDRAFTED: State(
        *("", "never drafted", "none"),
        light=Look("#E3E6EB", "none", "#1C2330"),
        dark=Look("#333B48", "none", "#E4E8EF"),
    ),
    OPEN: State(
        *("?", "drafted, still open", "1.5 2.5"),
        light=Look("#FFF3D6", "#A87400", "#4A3500"),
        dark=Look("#40330F", "#F0B83C", "#FFEFC7"),
    ),
}

# Pictures paint their own page, light and dark, because the page around them may have another scheme.
PAPER = {"paper": ("#FFFFFF", "#161A21"), "ink": ("#1C2330", "#E4E8EF"), "faint": ("#5B6575", "#9AA4B6")}
PAPER |= {"line": ("#DFE3EA", "#303745"), "tint": ("#F5F6F8", "#1E232C")}
PAPER |= {"target": (BLUE, "#56B4E9"), "draft": ("#A87400", "#F0B83C"), "steps": (GREEN, "#2FC79A")}
