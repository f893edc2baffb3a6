"""The whole profile: pictures, model, roof, phases, as one JSON-able object."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.perf.profile import roofline
from harness.perf.profile.rows import Measured, ratios, row
from harness.perf.profile.trace import record
from harness.perf.profile.workload import Asked, Options, pictures, prompt_count, questions, rollout_sampling
from vzero.config import Preset
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive

SCHEMA = 1
BUSY = 0.5  # mean runnable processes of the last minute, before anything is measured
JSON, MARKDOWN, PAGE, TRACE = "profile.json", "profile.md", "profile.html", "trace.json.gz"
Say = Callable[[str], None]


def measure(preset: Preset, options: Options, trace: Path | None, say: Say) -> dict[str, Any]:
    """Run the phases that `options.target` names; with `trace`, write a Chrome trace of one more repetition
    of ours there.

    Raises:
        InputError: a model or pictures that cannot be used.
        RolloutError: the model cannot be asked.
    """
    origin, load = (
        artefacts.provenance(),
        os.getloadavg()[0],
    )  # of the code and the machine as they are now, not after the minutes to come
    if preset.model == "pocket":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from vzero.runtime import compat

    compat.install()
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(preset.engine.threads)
    say("roofline")
    machine = roofline.measure()
    with tempfile.TemporaryDirectory(prefix="vzero-profile-") as folder:
        session = _Session(preset, options, Path(folder), say, keep=trace is not None)
        measured = session.run()
        if trace is not None:
            say("trace: one more repetition")
            record(session.again, trace)
    rows = [row(one, machine) for one in measured]
    return {
        "schema": SCHEMA,
        "preset": preset.name,
        "model": session.model_facts,
        "options": asdict(options),
        "machine": {**machine, "load_before": load},
        "provenance": origin,
        "workload": session.workload,
        "phases": rows,
        "ratios": ratios(rows),
        "parts": session.parts,
        "logprob_gap": session.gaps,
        "trace": trace.name if trace is not None else None,
        "warnings": _warnings(rows, load),
    }


class _Session:
    """Measures in order and keeps what later phases need: rollouts make the questions of the votes and of the
    Solver's training."""

    def __init__(self, preset: Preset, options: Options, folder: Path, say: Say, keep: bool) -> None:
        from vzero.runtime.checkpoints import resolve

        self.preset, self.options, self.folder, self.say = preset, options, folder, say
        self.checkpoint = resolve(preset.model)
        self.records = pictures(preset, max(2, prompt_count(preset, options)), folder)
        self.parts: dict[str, Any] = {}
        self.gaps: dict[str, Any] = {}
        self.keep = keep  # models stay in memory only where a trace runs every phase once more
        self.again: dict[str, Callable[[], Any]] = {}
        self.model_facts: dict[str, Any] = {}
        self.workload: dict[str, Any] = {"pictures": len(self.records)}

    def run(self) -> list[Measured]:
        """Every phase of the target."""
        target = self.options.target
        measured, asked = self._rollout(timed=target in ("rollout", "all"))
        if target in ("votes", "all"):
            _release()
            measured += self._votes(asked)
        for role in ("questioner", "solver") if target in ("grpo", "all") else ():
            _release()
            measured += self._grpo(role, asked)
        return measured

    def _remember(self, name: str, call: Callable[[], Any]) -> None:
        if self.keep:
            self.again[name] = call

    @property
    def _stock_batch(self) -> int | None:
        return (
            (self.options.stock_batch or self.preset.engine.batch_sequences) if self.options.stock else None
        )

    def _rollout(self, timed: bool) -> tuple[list[Measured], list[Asked]]:
        """The Questioner's rollouts, by a float32 model as in training; untimed where only their questions
        are wanted."""
        import torch

        from harness.perf.flops import shape_of
        from harness.perf.profile.generation import Drawing, measure
        from vzero.grpo.train import device_name
        from vzero.images.records import open_image
        from vzero.prompts import questioner_messages
        from vzero.rollout.protocol import Request
        from vzero.rollout.transformers_engine import TransformersEngine
        from vzero.runtime import checkpoints

        preset = self.preset
        model = checkpoints.load_model(self.checkpoint, torch.float32, device_name())
        processor = checkpoints.load_processor(self.checkpoint)
        self._describe(model)
        messages = questioner_messages(preset.prompt_format)
        requests = [
            Request(messages, open_image(one), derive(preset.seed, "profile-rollout", one.image_id))
            for one in self.records
        ]
        drawing = Drawing(
            "rollout",
            "questioner",
            TransformersEngine(model, processor, preset.engine.batch_sequences),
            model,
            processor,
            shape_of(model),
            requests,
            rollout_sampling(preset.questioner.grpo),
            preset.seed,
        )
        if timed:
            measured, rollouts = measure(drawing, self._stock_batch, self.options.repetitions, self.say)
            self._remember("rollout", drawing.ours)
        else:
            self.say("rollout: questions to ask")
            measured, rollouts = [], drawing.ours()
        asked, own = questions(self.records, rollouts, preset.prompt_format)
        self.workload |= {"questions": len(asked), "questions_written": own}
        return measured, asked

    def _describe(self, model: Any) -> None:
        from vzero.runtime.checkpoints import vision_tower

        tower = vision_tower(model)
        self.model_facts = {
            "name": self.preset.model if self.preset.model == "pocket" else self.checkpoint.name,
            "architecture": type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vision_parameters": sum(parameter.numel() for parameter in tower.parameters())
            if tower is not None
            else None,
        }

    def _votes(self, asked: list[Asked]) -> list[Measured]:
        """Every question of a generation batch put to the frozen Solver, as in the Questioner's reward."""
        from harness.perf.flops import shape_of
        from harness.perf.profile.generation import Drawing, measure
        from vzero.images.records import open_image
        from vzero.prompts import solver_messages
        from vzero.rollout.engines import open_engine
        from vzero.rollout.protocol import Request
        from vzero.runtime import checkpoints

        preset = self.preset
        engine = open_engine(preset.engine, self.checkpoint)
        opened = {one.image_id: open_image(one) for one in self.records}
        requests = [
            Request(
                solver_messages(preset.prompt_format, one.text),
                opened[one.record.image_id],
                derive(preset.seed, "profile-vote", index),
            )
            for index, one in enumerate(asked)
        ]
        model = engine._model
        drawing = Drawing(
            "votes",
            "solver",
            engine,
            model,
            checkpoints.load_processor(self.checkpoint),
            shape_of(model),
            requests,
            preset.questioner.votes,
            preset.seed,
        )
        self._remember("votes", drawing.ours)
        return measure(drawing, self._stock_batch, self.options.repetitions, self.say)[0]

    def _grpo(self, role: str, asked: list[Asked]) -> list[Measured]:
        from harness.perf.profile import training
        from harness.perf.profile.counts import Scope

        scope = Scope()
        build = self._questioner if role == "questioner" else self._solver
        bench = training.build(build(scope, asked), scope)
        measured, gap, parts = training.measure(bench, self.options.stock, self.options.repetitions, self.say)
        self.gaps[role], self.parts[role] = gap, parts
        self.workload[role] = {
            "sequences": bench.batches.prompts_per_generation * bench.batches.group_size,
            **vars(bench.batches),
        }
        self._remember(f"grpo {role}", lambda: bench.run(False))
        return measured

    def _questioner(self, scope: Any, asked: list[Asked]) -> Any:
        from harness.perf.flops import shape_of
        from harness.perf.profile.training import Training
        from harness.perf.profile.workload import Recorded
        from vzero.grpo.data import Prompt, image_opener
        from vzero.prompts import questioner_messages
        from vzero.questioner import VoteReward
        from vzero.rollout.engines import open_engine

        preset = self.preset
        engine = open_engine(preset.engine, self.checkpoint)
        votes = Recorded(engine, scope, "votes")
        reward = VoteReward(
            engine=votes,
            votes=preset.questioner.votes,
            prompt_format=preset.prompt_format,
            opener=image_opener(images_kept=2 * len(self.records)),
            seed_of=lambda generation, key, index: derive(
                preset.seed, "profile-vote", generation, key, index
            ),
            keep=(preset.solver.keep_low, preset.solver.keep_high),
        )
        messages = questioner_messages(preset.prompt_format)
        prompts = [Prompt(one.image_id, messages, one) for one in self.records]
        return Training(
            "questioner",
            preset.questioner.grpo,
            preset.engine,
            self.checkpoint,
            prompts,
            reward,
            votes,
            (engine._model, shape_of(engine._model)),
            preset.seed,
            self.folder / "questioner",
        )

    def _solver(self, scope: Any, asked: list[Asked]) -> Any:
        from harness.perf.profile.training import Training
        from vzero.arms.objectives import label_reward
        from vzero.grpo.data import Prompt
        from vzero.prompts import solver_messages

        preset = self.preset
        first = {
            one.record.image_id: one for one in reversed(asked)
        }.values()  # one question a picture, as in the stage
        prompts = [
            Prompt(
                one.record.image_id,
                solver_messages(preset.prompt_format, one.text),
                one.record,
                one.intuitive,
            )
            for one in first
        ]
        return Training(
            "solver",
            preset.solver.grpo,
            preset.engine,
            self.checkpoint,
            prompts,
            label_reward,
            None,
            None,
            preset.seed,
            self.folder / "solver",
        )


def _warnings(rows: list[dict[str, Any]], load: float) -> list[str]:
    found = []
    if load > BUSY:
        found.append(
            f"Other programs kept {load:.1f} cores busy in the minute before; the times hold their share of the machine."
        )
    shaky = [
        f"{one['target']}: {one['phase']} ({one['role']}, {one['side']})"
        for one in rows
        if one["seconds"]["stable"] is False
    ]
    if shaky:
        found.append(
            f"{len(shaky)} of {len(rows)} times may be unstable ({', '.join(shaky)}); close other programs or raise --repetitions."
        )
    if any((one.get("hfu") or 0) > 1 for one in rows):
        found.append(
            "Some shares of the roof are over 100%: the roof was disturbed while it was measured, so no MFU or HFU here holds."
        )
    if rows and len(rows[0]["seconds"]["values"]) == 1:
        found.append("One repetition says nothing about the spread; give --repetitions 5 or more.")
    return found


def _release() -> None:
    """Free the models of the phase before: a trainer refers to itself, so counting references does not."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
