"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from specbeam.experiments.parameter_paths import settled_value


def from_here(source: str | None) -> str | None:
    """A model's folder as an absolute path, which means the same elsewhere; a hub id or a word as it is."""
    return settled_value(source, "hub id or folder")


# What decodes, and how.
Prompt = Annotated[str, typer.Argument(help='The prompt; "-" reads it from standard input.')]
NumBeams = Annotated[int, typer.Option(help="Beams of the beam methods.")]
MaxNewTokens = Annotated[int, typer.Option(help="Tokens to generate at most.")]
Target = Annotated[
    str | None, typer.Option(help="Hub id or folder of a causal LM; default: the embedded one.", callback=from_here)
]
Draft = Annotated[
    str, typer.Option(help="auto, recall, ngram, none, or a smaller model's hub id or folder.", callback=from_here)
]
System = Annotated[str | None, typer.Option(help="System prompt.")]
Prefill = Annotated[str | None, typer.Option(help="How the answer begins; the rest is decoded. For chat models.")]
DType = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or float64.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps …")]
DeviceMap = Annotated[str | None, typer.Option(help='"auto" spreads a model over several GPUs.')]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the target on the hub.")]
DraftRevision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the draft on the hub.")]
Engine = Annotated[str, typer.Option(help="What runs the passes: torch, onnx, or auto, the faster one.")]
Packed = Annotated[bool, typer.Option(help="Pack the weights on a CPU, where PyTorch runs the passes and it can.")]
LengthPenalty = Annotated[float, typer.Option(help="Beam scores are divided by length to this power.")]
EarlyStopping = Annotated[str, typer.Option(help="When a beam search may end: true, false or never.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

# Runs of notebooks.
Runs = Annotated[Path, typer.Option(help="Folder of executed notebooks and records.")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="first, full, smoke, gpu, or a YAML file. Again: lay others over the first, in order.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Set one parameter; the value is YAML."),
]
Track = Annotated[str | None, typer.Option(help="Send each finished run to a tracker: wandb. Exit code 3 if it fails.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="What one run may take before it fails.")]
