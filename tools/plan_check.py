"""Hold `vzero-harness plan` against a finished CPU run:

    python tools/plan_check.py RUN --out results/plan/pocket-cpu.json

For every stage that trains or votes: the largest resident size that its process had (the ledger's peak_mib),
and what the plan says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.perf.hardware import CPU
from harness.perf.plan.plan import make
from vzero.config import Preset
from vzero.runtime import artefacts
from vzero.runtime.stage import read_preset

PHASES = {
    "train-questioner": "questioner: ",
    "train-solver": "solver: ",
    "label": "votes and labels",
    "write-questions": "votes and labels",
}


def predicted(preset: Preset) -> dict[str, float]:
    """MiB of the fullest phase of each kind of stage."""
    phases = make(preset, 0, CPU).phases
    return {
        kind: max(one.total for one in phases if one.name.startswith(name)) / 2**20
        for kind, name in PHASES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare a plan's memory with what a CPU run's stages took.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    preset = read_preset(given.run)
    plan, rows = predicted(preset), []
    for event in artefacts.read_jsonl(given.run / "ledger.jsonl"):
        stage, kind = event.get("stage", ""), event.get("stage", "")[3:].rpartition("-")[0]
        if event["event"] == "stage-finished" and kind in plan:
            measured, planned = event["peak_mib"], round(plan[kind], 1)
            rows.append({"stage": stage, "kind": kind, "measured_mib": measured, "plan_mib": planned})
            print(f"{stage:24} measured {measured:7.0f} MiB   plan {planned:7.0f} MiB")
    if given.out:
        found = {"preset": preset.name, "rows": rows, "provenance": artefacts.provenance()}
        artefacts.write_json(given.out, found)


if __name__ == "__main__":
    main()
