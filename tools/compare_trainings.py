"""Hold trainings of several processes against the same one of a single process:

    python tools/compare_trainings.py ALONE OTHER... --stage 02-train-questioner-1 --out
    results/vllm-cpu/several_processes.json

ALONE and OTHER are folders of runs that differ in `launch` alone. Of each: whether its completions, votes,
rewards and advantages are the same to the byte, the largest differences of losses, gradient norms and final
weights, and the largest log-probability gap between the engine that drew and the trainer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from vzero.runtime import artefacts
from vzero.runtime.stage import read_preset, stage_folder


def compare(alone: Path, other: Path, stage: str) -> dict[str, Any]:
    """One row; differences are absolute."""
    preset, folders = read_preset(other), [stage_folder(run, stage) for run in (alone, other)]
    steps = [artefacts.read_jsonl(folder / "metrics.jsonl") for folder in folders]
    rollouts = [(folder / "rollouts.jsonl").read_bytes() for folder in folders]
    one, two = (load_file(folder / "checkpoint" / "model.safetensors") for folder in folders)
    apart = {
        name: max(abs(a[name] - b[name]) for a, b in zip(*steps, strict=True))
        for name in ("loss", "grad_norm")
    }
    return {
        "strategy": preset.launch.strategy,
        "processes": preset.launch.ranks,
        "rollouts_by": preset.rollouts.engine,
        "steps": len(steps[1]),
        "completions": rollouts[1].count(b"\n"),
        "rollouts_equal": rollouts[0] == rollouts[1],
        **apart,
        "weights": max(float((one[name] - two[name]).abs().max()) for name in one),
        "logprob_gap": max(row["logprob_gap"] for row in steps[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare trainings of several processes with that of one.")
    parser.add_argument("alone", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [compare(given.alone, other, given.stage) for other in (given.alone, *given.others)]
    for row in rows:
        shown = (
            f"{name}={value:.2g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in row.items()
        )
        print(*shown)
    if given.out:
        preset = read_preset(given.alone)
        facts = {
            "preset": preset.name,
            "stage": given.stage,
            "seed": preset.seed,
            "threads": preset.engine.threads,
        }
        artefacts.write_json(given.out, {**facts, "rows": rows, "provenance": artefacts.provenance()})


if __name__ == "__main__":
    main()
