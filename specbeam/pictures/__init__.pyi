"""The public names and where they live; `__init__.py` imports each of them when it is first used.

No name equals that of a module of this room, or importing the module would hide the name.
"""

from .drawing import Picture, page
from .history import History
from .plot_comparison import acceptance, pareto
from .plot_decodes import accepted_histogram, budget_sweep, four_methods, pass_cost, tree_mask
from .plot_drafts import (
    agreement_by_depth,
    agreement_over_time,
    cost_and_steps,
    head_cost,
    predicted_speed,
    training_curves,
)
from .plot_engines import engine_passes
from .plot_peers import peers_by_case
from .plot_records import speed_over_runs, sweep_lines
from .plot_speed import speed_by_beams, steps_per_pass, time_split
from .plot_wide import wide_beams
from .progress import TracedDecode, progress_by_pass
from .strip import token_strip
from .timeline import round_timeline
from .token_text import token_texts
from .trees import beam_tree, frames

__all__ = [
    "History",
    "Picture",
    "TracedDecode",
    "acceptance",
    "accepted_histogram",
    "agreement_by_depth",
    "agreement_over_time",
    "beam_tree",
    "budget_sweep",
    "cost_and_steps",
    "engine_passes",
    "four_methods",
    "frames",
    "head_cost",
    "page",
    "pareto",
    "pass_cost",
    "peers_by_case",
    "predicted_speed",
    "progress_by_pass",
    "round_timeline",
    "speed_by_beams",
    "speed_over_runs",
    "steps_per_pass",
    "sweep_lines",
    "time_split",
    "token_strip",
    "token_texts",
    "training_curves",
    "tree_mask",
    "wide_beams",
]
