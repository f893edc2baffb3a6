"""Votes by two versions of this code in turn: `python -m benchmarks.decoding --against FOLDER --out FILE`.

FOLDER holds another checkout. Each version answers the same questions in a process of its own; one works
while the other waits. Seconds are of the processor, all threads together, so that they can be compared on a
machine that has other work too. Both versions must draw the same tokens.

Last the votes are drawn as stages of `pocket` draw them: engine, threads, processes and environment
are theirs, seconds the clock's, so the machine must have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROUNDS, QUESTIONS, BY_THE_CLOCK = 3, 128, 1200
HERE = Path(__file__).resolve()
NAMES = {"labels": "votes for labels, top-p 0.9", "reward": "votes in the reward, top-k 40"}


def answer() -> None:
    """One version: for each name of `NAMES` on a line of the input, a line of JSON with what it took."""
    import resource
    import time

    from benchmarks.shapes import POCKET, subject
    from benchmarks.workload import engine, requests
    from vzero.presets import load_preset

    preset, asked = load_preset("pocket"), requests(QUESTIONS)
    votes, ours = {"labels": preset.solver.votes, "reward": preset.questioner.votes}, engine(subject(POCKET))
    for line in sys.stdin:
        begin = time.process_time()
        found = ours.generate(asked, votes[line.strip()])
        seconds = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _tell({"cpu_seconds": seconds, "peak_mib": peak}, found)


def answer_as_stages() -> None:
    """One version: for each line of the input, a line of JSON with what labelling took."""
    import time

    from benchmarks.shapes import checkpoints
    from benchmarks.workload import requests
    from vzero.presets import load_preset
    from vzero.rollout.engines import open_engine

    preset, asked = load_preset("pocket"), requests(BY_THE_CLOCK)
    ours = open_engine(preset.engine, checkpoints.resolve("pocket"))
    for _ in sys.stdin:
        found: dict[int, Any] = {}
        begin = time.perf_counter()
        ours.stream(asked, preset.solver.votes, found.__setitem__)
        seconds = time.perf_counter() - begin
        _tell({"seconds": seconds}, [found[i] for i in range(len(asked))])


def _tell(took: Mapping[str, float], rollouts: Sequence[Any]) -> None:
    import hashlib

    drawn = [one.token_ids for rollout in rollouts for one in rollout.completions]
    digest = hashlib.sha256(json.dumps(drawn).encode()).hexdigest()
    told = {**took, "tokens": sum(map(len, drawn)), "sha256": digest, "load": os.getloadavg()[0]}
    print(json.dumps(told), flush=True)


def _started(folder: Path, answers: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    words, paths = [sys.executable, "-P", str(HERE), "--answer", answers], {"PYTHONPATH": str(folder)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, cwd=folder, env={**os.environ, **environment, **paths}, text=True, stdin=pipe, stdout=pipe
    )


def _asked(side: subprocess.Popen[str], name: str) -> dict[str, Any]:
    assert side.stdin is not None and side.stdout is not None
    print(name, file=side.stdin, flush=True)
    found: dict[str, Any] = json.loads(side.stdout.readline())
    return found


def main(against: Path, out: Path) -> None:
    """Measure and write `out`."""
    from benchmarks.results import cores
    from harness.perf.profile.roofline import processor
    from harness.runs.environment import fixed
    from vzero.runtime import artefacts

    commit = subprocess.check_output(["git", "-C", str(against), "rev-parse", "HEAD"], text=True).strip()
    folders, compared = {"before": against, "now": HERE.parent.parent}, {}
    sides = {side: _started(folder, "votes", {}) for side, folder in folders.items()}
    for name, what in NAMES.items():
        for side in sides.values():
            _asked(side, name)  # the first time allocates
        rounds = [{key: _asked(side, name) for key, side in sides.items()} for _ in range(ROUNDS)]
        ratios = [one["before"]["cpu_seconds"] / one["now"]["cpu_seconds"] for one in rounds]
        peaks = [max(one[key]["peak_mib"] for one in rounds) for key in ("now", "before")]
        compared[what] = {
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "same_tokens": len({one[key]["sha256"] for one in rounds for key in sides}) == 1,
            "peak_memory": peaks[0] / peaks[1],
            "rounds": rounds,
        }
    for process in sides.values():
        process.communicate()  # its memory is the next ones'
    compared["votes for labels, as stages draw them, by the clock"] = _as_stages(
        {side: _started(folder, "stages", fixed(cores())) for side, folder in folders.items()}
    )
    machine = {"processor": processor(), "cores": cores(), "threads": os.environ.get("OMP_NUM_THREADS")}
    told = {**machine, "against": commit, "votes": compared, "provenance": artefacts.provenance()}
    artefacts.write_json(out, told)


def _as_stages(sides: Mapping[str, subprocess.Popen[str]]) -> dict[str, Any]:
    for side in sides.values():
        _asked(side, "")
    rounds = [{key: _asked(side, "") for key, side in sides.items()} for _ in range(ROUNDS)]
    ratios = [one["before"]["seconds"] / one["now"]["seconds"] for one in rounds]
    return {
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "same_tokens": len({one[key]["sha256"] for one in rounds for key in sides}) == 1,
        "rounds": rounds,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answer", choices=("votes", "stages"), help=argparse.SUPPRESS)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.answer == "votes":
        answer()
    elif arguments.answer == "stages":
        answer_as_stages()
    elif arguments.against is None or arguments.out is None:
        parser.error("--against FOLDER and --out FILE are needed")
    else:
        main(arguments.against.resolve(), arguments.out)
