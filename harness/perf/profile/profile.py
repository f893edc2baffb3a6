"""The whole profile: pictures, model, roof, phases, as one object."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.perf.profile import generation, roofline, training, workload
from harness.perf.profile.counts import Scope
from harness.perf.profile.generation import Generation
from harness.perf.profile.results import (
    LogprobGap,
    Measured,
    Model,
    Options,
    PhaseRow,
    Profile,
    Workload,
    ratios,
    row,
)
from harness.perf.profile.trace import record
from harness.perf.profile.training import Training
from harness.perf.profile.workload import PictureQuestion, Recorded
from vzero.arms.objectives import label_reward
from vzero.config import Preset
from vzero.grpo.data import Prompt
from vzero.grpo.train import device_name, rollout_sampling
from vzero.images.records import open_image
from vzero.prompts import questioner_messages, solver_messages
from vzero.rollout import thinking
from vzero.rollout.engines import open_engine
from vzero.rollout.protocol import Request
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.seeding import derive

BUSY = 0.5  # mean runnable processes of the last minute, before anything is measured
Say = Callable[[str], None]


def measure(preset: Preset, options: Options, trace: Path | None, say: Say) -> Profile:
    """Run the phases that `options.target` names; with `trace`, write a Chrome trace of one more repetition
    of ours there.

    Raises:
        InputError: a model or pictures that cannot be used.
        RolloutError: the model cannot be asked.
    """
    # Of the code and the machine as they are now, not after the minutes to come.
    origin, load = artefacts.provenance(), os.getloadavg()[0]
    torch.set_num_threads(preset.engine.threads)
    say("roofline")
    machine = roofline.measure(load)
    with tempfile.TemporaryDirectory(prefix="vzero-profile-") as folder:
        session = _Session(preset, options, Path(folder), say, keep=trace is not None)
        rows = [row(one, machine) for one in session.run()]
        if trace is not None:
            say("trace: one more repetition")
            record(session.again, trace)
    return Profile(
        preset=preset.name,
        model=session.model,
        options=options,
        machine=machine,
        provenance=origin,
        workload=session.workload,
        phases=rows,
        ratios=ratios(rows),
        parts=session.parts,
        logprob_gap=session.gaps,
        trace=trace.name if trace is not None else None,
        warnings=warnings(rows, load),
    )


class _Session:
    """Measures in order and keeps what later phases need: rollouts make the questions of the votes and of the
    Solver's training."""

    model: Model
    workload: Workload

    def __init__(self, preset: Preset, options: Options, folder: Path, say: Say, keep: bool) -> None:
        self.preset, self.options, self.folder, self.say = preset, options, folder, say
        self.checkpoint = checkpoints.resolve(preset.model)
        self.records = workload.pictures(preset, options.prompts, folder)
        self.parts: dict[str, dict[str, dict[str, float]]] = {}
        self.gaps: dict[str, LogprobGap] = {}
        self.keep = keep  # models stay in memory only where a trace runs every phase once more
        self.again: dict[str, Callable[[], Any]] = {}

    def run(self) -> list[Measured]:
        """Every phase of the target."""
        target = self.options.target
        measured, asked = self._rollout(timed=target in ("rollout", "all"))
        if target in ("votes", "all"):
            _release()
            measured += self._votes(asked)
        if target in ("grpo", "all"):
            for prepare in (self._questioner, self._solver):
                _release()
                measured += self._grpo(prepare(Scope(), asked))
        return measured

    def _remember(self, name: str, call: Callable[[], Any]) -> None:
        if self.keep:
            self.again[name] = call

    def _measure(self, one: Generation) -> tuple[list[Measured], list[Any]]:
        self._remember(one.phase, one.ours)
        batch = self.options.stock_batch or self.preset.engine.batch_sequences
        stock_batch = batch if self.options.stock else None
        return generation.measure(one, stock_batch, self.options.repetitions, self.say)

    def _rollout(self, timed: bool) -> tuple[list[Measured], list[PictureQuestion]]:
        """The Questioner's rollouts, by a float32 model as in training; untimed where only their questions
        are wanted."""
        preset = self.preset
        model = checkpoints.load_model(self.checkpoint, torch.float32, device_name())
        messages = questioner_messages(preset.prompt_format)
        requests = [
            Request(messages, open_image(one), derive(preset.seed, "profile-rollout", one.image_id))
            for one in self.records
        ]
        processor = thinking.load_processor(self.checkpoint, preset.engine.thinking)
        engine = TransformersEngine(model, processor, preset.engine.batch_sequences)
        sampling = rollout_sampling(preset.questioner.grpo)
        one = Generation("rollout", "questioner", engine, requests, sampling, preset.seed)
        if timed:
            measured, rollouts = self._measure(one)
        else:
            self.say("rollout: questions to ask")
            measured, rollouts = [], one.ours()
        asked = workload.questions(self.records, rollouts, preset.prompt_format)
        self.model = _described(model, preset.model if preset.model == "pocket" else self.checkpoint.name)
        self.workload = Workload(
            pictures=len(self.records),
            questions=len(asked),
            questions_written=sum(question.written for question in asked),
        )
        return measured, asked

    def _votes(self, asked: Sequence[PictureQuestion]) -> list[Measured]:
        """Every question of a generation batch put to the frozen Solver, as in the Questioner's reward."""
        preset, sampling = self.preset, self.preset.questioner.votes
        opened = {one.image_id: open_image(one) for one in self.records}
        requests = [
            Request(
                solver_messages(preset.prompt_format, one.question.text),
                opened[one.record.image_id],
                derive(preset.seed, "profile-vote", index),
            )
            for index, one in enumerate(asked)
        ]
        one = Generation("votes", "solver", self._frozen(), requests, sampling, preset.seed)
        return self._measure(one)[0]

    def _frozen(self) -> TransformersEngine:
        engine = open_engine(self.preset.engine, self.checkpoint)
        assert isinstance(engine, TransformersEngine)  # the command refuses the others
        return engine

    def _grpo(self, one: Training) -> list[Measured]:
        role = one.role
        bench = training.build(one)
        measured, gap, parts = training.measure(bench, self.options.stock, self.options.repetitions, self.say)
        self.gaps[role], self.parts[role] = gap, parts
        sequences = bench.batches.prompts_per_generation * bench.batches.group_size
        sizes = {role: {"sequences": sequences, **vars(bench.batches)}}
        self.workload = self.workload.model_copy(update=sizes)
        self._remember(f"grpo {role}", lambda: bench.run(False))
        return measured

    def _questioner(self, scope: Scope, asked: Sequence[PictureQuestion]) -> Training:
        preset, votes = self.preset, Recorded(self._frozen(), scope, "votes")
        messages = questioner_messages(preset.prompt_format)
        return Training(
            role="questioner",
            settings=preset.questioner.grpo,
            engine=preset.engine,
            checkpoint=self.checkpoint,
            prompts=[Prompt(one.image_id, messages, one) for one in self.records],
            reward=workload.vote_reward(preset, votes, len(self.records)),
            seed=preset.seed,
            folder=self.folder / "questioner",
            scope=scope,
            votes=votes,
        )

    def _solver(self, scope: Scope, asked: Sequence[PictureQuestion]) -> Training:
        preset = self.preset
        # One question per picture, as in the stage.
        first = {one.record.image_id: one for one in reversed(asked)}
        prompts = []
        for key, one in first.items():
            messages = solver_messages(preset.prompt_format, one.question.text)
            prompts.append(Prompt(key, messages, one.record, one.question.intuitive))
        return Training(
            role="solver",
            settings=preset.solver.grpo,
            engine=preset.engine,
            checkpoint=self.checkpoint,
            prompts=prompts,
            reward=label_reward,
            seed=preset.seed,
            folder=self.folder / "solver",
            scope=scope,
        )


def _described(model: Any, name: str) -> Model:
    tower = checkpoints.vision_tower(model)
    vision = sum(one.numel() for one in tower.parameters()) if tower is not None else None
    parameters = sum(one.numel() for one in model.parameters())
    kind = type(model).__name__
    return Model(name=name, architecture=kind, parameters=parameters, vision_parameters=vision)


def warnings(rows: Sequence[PhaseRow], load: float) -> list[str]:
    """Why the numbers may not hold, in sentences."""
    found = []
    if load > BUSY:
        found.append(
            f"Other programs kept {load:.1f} cores busy in the minute before; "
            "the times hold their share of the machine."
        )
    shaky = [
        f"{one.target}: {one.phase} ({one.role}, {one.side})" for one in rows if one.seconds.stable is False
    ]
    if shaky:
        found.append(
            f"{len(shaky)} of {len(rows)} times may be unstable ({', '.join(shaky)}); "
            "close other programs or raise --repetitions."
        )
    if any((one.hfu or 0) > 1 for one in rows):
        found.append(
            "Some shares of the roof are over 100%: the roof was disturbed while it was measured, "
            "so no MFU or HFU here holds."
        )
    if rows and len(rows[0].seconds.values) == 1:
        found.append("One repetition says nothing about the spread; give --repetitions 5 or more.")
    return found


def _release() -> None:
    """Free the models of the phase before: a trainer refers to itself, so counting references does not."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
