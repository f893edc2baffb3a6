"""What the campaign attacks: small runs, each going on wherever an earlier attempt was cut short.

`stages` runs five stages as their own processes do, `runner` what a command does around one stage that it
starts, `grid` two runs that share a stage, `evaluate` its command. A model would take all the time: in its
place answers come out of each request's seed. `grpo` and `sft` train a tiny one. All else is the product's
own.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch  # noqa: F401 # once, and not in each attempt
from rich.console import Console

from harness.cli import explain
from harness.commands.running import Runner
from harness.runs import ledger, orchestrate
from harness.runs.folder import RECORD
from harness.runs.grid import INDEX, Grid, grid_runs
from harness.runs.shared_stages import SharedStages
from harness.runs.signals import interruptible
from tests.faults import tiny_evaluation, tiny_trainings
from tests.stub_engine import StubEngine
from vzero import arms, questioner, solver  # noqa: F401 # as torch
from vzero.config import Preset, SamplingConfig
from vzero.errors import VZeroError
from vzero.presets import changed, load_preset
from vzero.rollout import Request, engines, vocabulary
from vzero.rollout.protocol import Completion, Rollout
from vzero.runtime import artefacts, stage
from vzero.runtime.stage import read_preset, run_stage
from vzero.selfplay import Stage, training
from vzero.stages import PROGRAMS

PRESET = load_preset(
    "smoke",
    [
        *("images.count=4", "engine.threads=1", "solver.votes.n=3", "questioner.trained=false"),
        "solver.answerable=true",
    ],
)
DIED = 9  # exit code of an attempt that was told to die
GOOD = "<question> how many ? A) 1 B) 2 C) 3 D) 4 </question> <answer> {} </answer>"
Drive = Callable[[Path], int]  # goes on with the run in a folder; an exit code
Replies = Callable[[random.Random, bool], str]  # (of the request's seed, whether a question is wanted)


def plain_reply(rng: random.Random, asked: bool) -> str:
    """A question, or a vote for one of two options."""
    return GOOD.format(rng.choice("ABCD")) if asked else f"<think> x </think> \\boxed{{ {rng.choice('AB')} }}"


class Seeded(StubEngine):
    """Answers by each request's seed, whichever attempt asks."""

    def __init__(self, reply: Replies = plain_reply) -> None:
        self.reply = reply

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Rollout]:
        for request in requests:
            rng = random.Random(request.seed)
            texts = [
                self.reply(rng, request.messages[0].text == "ask")
                for _ in range(request.sampled_by(sampling).n)
            ]
            yield Rollout(3, tuple(Completion(text, (1, 2), (-0.1, -0.2), "stop") for text in texts))


def install(engine: Seeded) -> None:
    """Let this process's stages ask `engine`. Only for a process that ends with its attempt."""
    open_any = lambda config, checkpoint: engine  # noqa: E731
    engines.open_engine = engines.open_solver = open_any
    any_text = SimpleNamespace(breaks_prompt=lambda text: False)
    vocabulary.read_vocabulary = lambda checkpoint, thinking: any_text
    orchestrate.POLL = 0.05
    artefacts.provenance = dict  # asks git, which takes longer than all else


def die_after(rows: int) -> None:
    """Let this process die where it would append the next of so many rows (votes, metrics, events, ...)."""
    append, left = artefacts.append_jsonl, iter(range(rows))

    def counted(*words: Any, **how: Any) -> None:
        if next(left, None) is None:
            os._exit(DIED)
        append(*words, **how)

    artefacts.append_jsonl = counted


def small(preset: Preset) -> list[Stage]:
    """The stages of a plan that train and measure nothing."""
    return [one for one in training(preset) if not one.kind.startswith("train-")]


def stages(folder: Path) -> int:
    """All stages that train and measure nothing, each as its own process runs it."""
    record = {"preset": PRESET.model_dump(mode="json")}
    if not (folder / RECORD).exists() and (
        code := _command(partial(artefacts.write_json, folder / RECORD, record))
    ):
        return code
    codes = (stage.main(PROGRAMS, [str(folder), one.name]) for one in small(PRESET))
    return next(filter(None, codes), 0)


def runner(folder: Path) -> int:
    """A command's part around the first stage, which is a process of its own."""
    return _command(lambda: _run(PRESET, folder, small(PRESET)[:1], None))


def grid(folder: Path) -> int:
    """Two arms, whose stages are run in this process."""
    orchestrate._execute = _execute_here

    def one(place: Path, preset: Preset, shared: SharedStages) -> Mapping[str, int]:
        _run(preset, place, small(preset), shared)
        return {"images": 4}

    wanted = grid_runs([arms.ARMS["v-zero"], arms.ARMS["random-label"]], [0])

    def all_runs() -> None:
        index = Grid(folder, PRESET, one, lambda _: None).run(wanted, fresh=False)
        for entry in index.runs.values():
            if entry.state != "done":
                raise VZeroError(f"A run of the grid is {entry.state}: {entry.reason}")

    return _command(all_runs)


def _run(preset: Preset, folder: Path, wanted: Sequence[Stage], shared: SharedStages | None) -> None:
    with Runner("train", Console(), plain=True).finished(preset, folder, wanted, shared):
        pass


def _execute_here(run: Any, preset: Preset, one: Stage, *_: object) -> Iterator[None]:
    yield  # a look at other stages, of which there are none
    attempt = ledger.attempts(run.folder, one.name) + 1
    ledger.append(run.folder, {"event": "stage-started", "stage": one.name, "attempt": attempt})
    run_stage(run.folder, one.name, PROGRAMS)
    ledger.append(run.folder, {"event": "stage-finished", "stage": one.name, "attempt": attempt})


def _command(act: Callable[[], None]) -> int:
    try:
        with interruptible():
            act()
        return 0
    except Exception as error:
        return explain(error)


DRIVES: Mapping[str, Drive] = {
    **{"stages": stages, "runner": runner, "grid": grid},
    **dict.fromkeys(tiny_trainings.OBJECTIVES, tiny_trainings.train),
}


def going_on(target: str, run: Path, other: bool = False) -> Callable[[], int]:
    """What goes on with `run`, which is begun first where it has to be; `other`: by another preset."""
    if target in tiny_trainings.OBJECTIVES and not run.exists():
        shutil.copytree(tiny_trainings.begun(target), run)
    if target == "evaluate":
        tiny_evaluation.settings(int(other))
        return partial(_command, partial(tiny_evaluation.evaluate, run, int(other)))
    if other and target != "grid":  # whose two runs are others of each other
        record = run / RECORD
        preset = read_preset(run) if record.exists() else PRESET
        changes = {"seed": 1} if target == "stages" else {"solver.grpo.learning_rate": 3e-4}
        artefacts.write_json(record, {"preset": changed(preset, changes).model_dump(mode="json")})
    return partial(DRIVES[target], run)


def left(folder: Path) -> dict[str, str]:
    """What a finished run is, by path: hashes of the files that its seals cover, what its stages were made
    from, what was counted, states of a grid; and whatever lies there that should not. Measured seconds are
    not."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, inside = path.relative_to(folder).as_posix(), path.relative_to(folder).parts
        if path.is_symlink() or path.is_dir() or "logs" in inside:
            continue
        if path.name == artefacts.MANIFEST:
            sealed = artefacts.sealed(path.parent) or {"files": {}, "facts": {}, "spec_digest": "damaged"}
            facts = {**sealed["facts"], "seconds": None}
            found[name] = artefacts.digest([artefacts.content_digest(sealed), facts, sealed["spec_digest"]])
        elif path.name == RECORD:
            found[name] = artefacts.digest(artefacts.read_json(path)["preset"])
        elif path.name == INDEX:
            runs = artefacts.read_json(path)["runs"]
            found[name] = artefacts.digest({key: one["state"] for key, one in runs.items()})
        elif not path.name.endswith((".lock", ".damaged")) and path.name not in (
            ledger.NAME,
            artefacts.TIMINGS,
        ):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
