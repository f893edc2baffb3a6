"""`vzero-harness pocket …`: the pocket world's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option, Typer

from harness.runs.signals import interruptible

app = Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The pocket world: a small drawn world and its small model.",
)
Out = Annotated[Path, Option("--out", help="Folder of the checkpoint to write.")]
Seed = Annotated[int, Option("--seed", help="Seed of the data and the weights.")]
Scale = Annotated[
    float,
    Option(
        "--scale",
        min=0.0,
        max=100.0,
        help="Length of the curriculum; below about 0.5 the model is weak.",
    ),
]
Processes = Annotated[int, Option("--processes", min=1, help="Processes that pretrain together.")]

Size = Annotated[
    Literal["small", "large"],
    Option("--size", help="The shipped model's, or one of five times the weights."),
]


@app.command("build")
def build(
    out: Out = Path("runs/pocket-checkpoint"),
    seed: Seed = 0,
    scale: Scale = 1.0,
    processes: Processes = 2,
    size: Size = "small",
) -> None:
    """Pretrain the pocket base model from its seed and write it as an ordinary checkpoint folder; the same
    command resumes.

    Example: vzero-harness pocket build --out runs/base --processes 2
    """
    with interruptible():
        from vzero.pocket.build import main

        main(out, seed, scale, processes, size)
