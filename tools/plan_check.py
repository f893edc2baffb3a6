"""Hold `vzero-harness plan` against a finished CPU run:

    python tools/plan_check.py RUN --out results/plan/pocket-cpu.json

RUN may be such a file of results: then its measured sizes are held against today's plan.

For every stage that trains or votes: the largest resident size that its process had (the ledger's peak_mib),
and what the plan says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.perf.hardware import CPU
from harness.perf.plan.plan import make
from vzero.config import Preset
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.stage import read_preset

PHASES = {
    "train-questioner": "questioner: ",
    "train-solver": "solver: ",
    "label": "votes and labels",
    "write-questions": "questions",
}


def predicted(preset: Preset) -> dict[str, float]:
    """MiB of the fullest phase of each kind of stage."""
    phases = make(preset, 0, CPU).phases
    return {
        kind: max(one.total for one in phases if one.name.startswith(name)) / 2**20
        for kind, name in PHASES.items()
    }


def measured(source: Path) -> tuple[Preset, dict[str, float], dict[str, object]]:
    """The preset, MiB by stage and the provenance of a run, or of results made of one."""
    if source.is_file():
        earlier = artefacts.read_json(source)
        sizes = {row["stage"]: row["measured_mib"] for row in earlier["rows"]}
        return load_preset(earlier["preset"]), sizes, earlier["provenance"]
    events = artefacts.read_jsonl(source / "ledger.jsonl")
    done = {event["stage"]: event["peak_mib"] for event in events if event["event"] == "stage-finished"}
    return read_preset(source), done, artefacts.provenance()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a plan's memory with what a CPU run's stages took.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    preset, sizes, measured_by = measured(given.run)
    plan, rows = predicted(preset), []
    for stage, size in sizes.items():
        kind = stage[3:].rpartition("-")[0]
        if kind in plan:
            planned = round(plan[kind], 1)
            rows.append({"stage": stage, "kind": kind, "measured_mib": size, "plan_mib": planned})
            print(f"{stage:24} measured {size:7.0f} MiB   plan {planned:7.0f} MiB")
    if given.out:
        found = {"preset": preset.name, "rows": rows, "provenance": measured_by}
        artefacts.write_json(given.out, found | {"planned_by": artefacts.provenance()["git"]})


if __name__ == "__main__":
    main()
