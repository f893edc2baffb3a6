"""Whole commands of two versions of this code in turn, on a machine with nothing else to do; 25 minutes:
`python -m benchmarks.versions --against FOLDER --out FILE [PART …]`.

FOLDER holds another checkout whose dependencies this environment has. Each command is run as it is typed, in
one version and then in the other, `rounds` times. `busy` is the share of the machine's processor time that
was used meanwhile, `peak_mib` the most memory that the command's processes took together, what they share
counted once, looked at once a second, `commit` this version's. What `--out` has already is not measured
again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.stages import busy
from harness.perf.profile.roofline import processor
from vzero.runtime import artefacts
from vzero.runtime.machine import cores


@dataclass(frozen=True)
class Part:
    """A command, and how many times each version runs it."""

    words: Sequence[str]
    rounds: int


PARTS = {
    "smoke": Part(["reproduce", "--preset", "smoke", "--plain"], 3),
    "pocket": Part(["reproduce", "--preset", "pocket", "--plain"], 1),
    "grid of ten smoke runs": Part(["reproduce", "--preset", "smoke", "--seeds", "10", "--plain"], 1),
}


def main(against: Path, out: Path, names: Sequence[str]) -> None:
    """Measure what `out` does not have of the parts, and write it there."""
    found: dict[str, Any] = artefacts.read_json(out) if out.exists() else {"parts": {}}
    commit = subprocess.check_output(["git", "-C", str(against), "rev-parse", "HEAD"], text=True).strip()
    about = {"against": commit, "processor": processor(), "cores": cores()}
    for name in [name for name in names if name not in found["parts"]]:
        provenance = artefacts.provenance()
        found["parts"][name] = {**compared(PARTS[name], against), "commit": provenance["git"]["commit"]}
        artefacts.write_json(out, {**found, **about, "provenance": provenance})


def compared(part: Part, against: Path) -> dict[str, Any]:
    """Both versions in turn, how many times as long the older takes by medians, and how far their numbers are
    apart."""
    sides: dict[str, list[dict[str, Any]]] = {"before": [], "now": []}
    folders = {"before": against, "now": Path.cwd()}
    values = dict[str, dict[str, float]]()  # of the last round
    for _ in range(part.rounds):
        for side, folder in folders.items():
            found, values[side] = once(folder, part.words)
            sides[side].append(found)
    medians = {side: statistics.median(one["seconds"] for one in rounds) for side, rounds in sides.items()}
    peaks = {side: max(one["peak_mib"] for one in rounds) for side, rounds in sides.items()}
    both = values["before"].keys() & values["now"].keys()
    apart = [abs(values["before"][key] - values["now"][key]) for key in both]
    return {
        **sides,
        "ratio": round(medians["before"] / medians["now"], 2),
        "memory_ratio": round(peaks["now"] / peaks["before"], 2),
        "averages_compared": len(apart),
        "averages_apart": round(max(apart), 6),
    }


def once(folder: Path, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """One command of the checkout in `folder`: what it took, and its averages."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with TemporaryDirectory() as place:
        command = [sys.executable, "-P", "-m", "harness", *words, "--out", place + "/run"]
        before, begin, peak = busy(), time.perf_counter(), 0.0
        child = psutil.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        while child.poll() is None:
            peak = max(peak, memory(child))
            with suppress(psutil.TimeoutExpired):
                child.wait(1.0)
        seconds, now = time.perf_counter() - begin, busy()
        if child.returncode:
            raise SystemExit(f"{command} ended with {child.returncode}.")
        used, whole = (late - early for late, early in zip(now, before, strict=True))
        about = {"peak_mib": round(peak), "busy": round(used / whole, 3), "load": os.getloadavg()[0]}
        return {"seconds": round(seconds, 2), **about}, averages(Path(place))


def memory(process: psutil.Process) -> float:
    """MiB of a process and all below it; pages that several share are counted once."""
    total = 0
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_full_info().pss
    return total / 2**20


def averages(place: Path) -> dict[str, float]:
    """Every average over suites in the results below a folder: checkpoint and measure -> points."""
    found = {}
    for path in sorted(place.rglob("results.json")):
        for checkpoint, measures in artefacts.read_json(path)["average"].items():
            for measure, interval in measures.items():
                value = 100 * interval["value"]
                found[f"{path.parent.relative_to(place)} {checkpoint} {measure}"] = value
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    main(arguments.against.resolve(), arguments.out, arguments.parts)
