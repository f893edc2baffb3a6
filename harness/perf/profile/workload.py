"""What is measured on: the preset's own pictures, model and settings, cut to one generation batch, in a
folder that is thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vzero.config import GrpoSettings, Preset, SamplingConfig
from vzero.errors import InputError
from vzero.images.records import ImageRecord
from vzero.questioner import read_question
from vzero.rollout.protocol import Engine, Request, Rollout


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        target: "rollout", "votes", "grpo" or "all".
        stock: measure the stock side too.
        repetitions: timed ones, after one to warm up and one that is counted.
        prompts: pictures to ask about; None is one generation batch of the preset.
        stock_batch: sequences the stock side decodes together; None is the preset's engine.batch_sequences.
    """

    target: str
    stock: bool
    repetitions: int
    prompts: int | None
    stock_batch: int | None


def prompt_count(preset: Preset, options: Options) -> int:
    """Pictures asked about."""
    wanted = max(preset.questioner.grpo.prompts_per_generation, preset.solver.grpo.prompts_per_generation)
    return min(options.prompts or wanted, preset.images.count)


def pictures(preset: Preset, count: int, folder: Path) -> list[ImageRecord]:
    """The first `count` pictures of the preset, by the images stage itself. Raises InputError as that stage
    does."""
    from vzero.images import records, stage
    from vzero.runtime.progress import Progress
    from vzero.runtime.stage import StageContext
    from vzero.selfplay import plan

    fewer = preset.model_copy(update={"images": preset.images.model_copy(update={"count": count})})
    place = folder / "images"
    stage.run(StageContext(plan(fewer)[0], fewer, place, {}, Progress(folder / "progress.jsonl")))
    records = records.load_records(place)
    if len(records) < 2:
        raise InputError("A profile needs at least two pictures; give --images a folder with more.")
    return records


def rollout_sampling(settings: GrpoSettings) -> SamplingConfig:
    """How a training draws: the policy's own distribution."""
    return SamplingConfig(n=settings.group_size, max_new_tokens=settings.max_completion_tokens)


@dataclass(frozen=True)
class Asked:
    """A question and the picture it is about."""

    text: str
    intuitive: str
    record: ImageRecord


PLAIN = {
    "pocket": "how many red ? A) 1 B) 2 C) 3 D) 4",
    "natural": "What is the main colour of the image?\nA) red\nB) green\nC) blue\nD) another",
}


def questions(
    records: Sequence[ImageRecord], rollouts: Sequence[Rollout], prompt_format: str
) -> tuple[list[Asked], int]:
    """One question for every rolled-out completion, and how many the Questioner wrote itself.

    A completion that is no valid question is replaced by a plain one, so that a weak model is asked as often
    as a strong one.
    """
    found, own = [], 0
    for record, rollout in zip(records, rollouts, strict=True):
        for completion in rollout.completions:
            read = read_question(completion.text, completion.finish_reason, prompt_format)
            own += read is not None
            found.append(
                Asked(read.text, read.intuitive, record) if read else Asked(PLAIN[prompt_format], "A", record)
            )
    return found, own


@dataclass
class Recorded:
    """An engine that keeps what it last answered, with `replay` answers that again instead of asking, and
    tells phases apart."""

    engine: Engine
    scope: Any
    phase: str
    replay: bool = False
    requests: Sequence[Request] = ()
    rollouts: Sequence[Rollout] = ()
    seconds: float = 0.0

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """See `Engine.generate`."""
        from harness.perf.profile.clock import now

        if not self.replay:
            start = now()
            with self.scope.inside(self.phase):
                self.requests, self.rollouts = list(requests), self.engine.generate(requests, sampling)
            self.seconds += now() - start
        return list(self.rollouts)
