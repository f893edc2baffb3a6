"""Hold `vzero-harness plan` against a finished CPU run: `python tools/plan_check.py RUN --out
results/plan/pocket-cpu.json`.

For every stage that trains or votes: the largest resident size that its process had (the ledger's peak_mib),
and what the plan says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.perf.plan import memory
from harness.perf.plan.shapes import image_tokens, size_of
from vzero.config import Preset
from vzero.runtime import artefacts
from vzero.runtime.stage import read_preset

PHASES = {
    "train-questioner": "questioner: ",
    "train-solver": "solver: ",
    "label": "votes and labels",
    "write-questions": "votes and labels",
}


def predicted(preset: Preset, picture: tuple[int, int]) -> dict[str, float]:
    """MiB of the fullest phase of each kind of stage."""
    size = size_of(preset.model)
    phases = memory.phases(preset, size, image_tokens(size, *picture), None)
    return {
        kind: max(one.total for one in phases if one.name.startswith(name)) / 2**20
        for kind, name in PHASES.items()
    }


def compare(run: Path) -> dict[str, Any]:
    """Rows of a finished run, and what it was run with."""
    preset = read_preset(run)
    plan = predicted(preset, (42, 42))
    rows = []
    for row in artefacts.read_jsonl(run / "ledger.jsonl"):
        kind = row.get("stage", "")[3:].rpartition("-")[0]
        if row["event"] == "stage-finished" and kind in plan:
            measured = row["peak_mib"]
            rows.append(
                {
                    "stage": row["stage"],
                    "kind": kind,
                    "measured_mib": measured,
                    "plan_mib": round(plan[kind], 1),
                }
            )
    return {"preset": preset.name, "rows": rows, "provenance": artefacts.provenance()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare a plan's memory with what a run's stages took on the CPU."
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = compare(given.run)
    for row in found["rows"]:
        ratio = row["plan_mib"] / row["measured_mib"]
        print(
            f"{row['stage']:24} measured {row['measured_mib']:7.0f} MiB   plan {row['plan_mib']:7.0f} MiB   {100 * (ratio - 1):+.0f} %"
        )
    if given.out:
        artefacts.write_json(given.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
