"""What is measured on: the preset's own pictures, model and settings, cut to one generation batch, in a
folder that is thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.perf.profile.clock import now
from harness.perf.profile.counts import Scope
from vzero.arms.vote_reward import VoteReward
from vzero.config import Preset, SamplingConfig
from vzero.errors import InputError
from vzero.grpo.data import image_opener
from vzero.images import stage
from vzero.images.records import ImageRecord, load_records
from vzero.parsing import Question
from vzero.prompts import read_question
from vzero.rollout.protocol import Engine, Finished, Request, Rollout
from vzero.rollout.streaming import StreamingEngine
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime.progress import Progress
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext
from vzero.selfplay import plan

# Asked in place of a completion that is no valid question, so that a weak model is asked as often as a strong
# one.
PLAIN = {
    "pocket": "how many red ? A) 1 B) 2 C) 3 D) 4",
    "natural": "What is the main colour of the image?\nA) red\nB) green\nC) blue\nD) another",
}


def pictures(preset: Preset, wanted: int | None, folder: Path) -> list[ImageRecord]:
    """The first pictures of the preset, `wanted` or one generation batch of them, by the images stage itself.
    Raises InputError as that stage does."""
    batch = max(preset.questioner.grpo.prompts_per_generation, preset.solver.grpo.prompts_per_generation)
    count = max(2, min(wanted or batch, preset.images.count))
    fewer = preset.model_copy(update={"images": preset.images.model_copy(update={"count": count})})
    place = folder / "images"
    stage.run(StageContext(plan(fewer)[0], fewer, place, {}, Progress(folder / "progress.jsonl")))
    records = load_records(place)
    if len(records) < 2:
        raise InputError("A profile needs at least two pictures; give --images a folder with more.")
    return records


@dataclass(frozen=True)
class PictureQuestion:
    """A question and the picture it is about; `written` by the Questioner, or a plain one in its place."""

    question: Question
    record: ImageRecord
    written: bool


def questions(
    records: Sequence[ImageRecord], rollouts: Sequence[Rollout], prompt_format: str
) -> list[PictureQuestion]:
    """One question for every rolled-out completion."""
    plain, found = Question("", PLAIN[prompt_format], "A"), []
    for record, rollout in zip(records, rollouts, strict=True):
        for completion in rollout.completions:
            read = read_question(completion.text, completion.finish_reason, prompt_format)
            found.append(PictureQuestion(read or plain, record, read is not None))
    return found


def vote_reward(preset: Preset, engine: Engine, pictures: int) -> VoteReward:
    """The Questioner's reward, as its stage has it; `pictures` of a generation batch."""

    def seed_of(generation: int, key: str, index: int) -> int:
        return derive(preset.seed, "profile-vote", generation, key, index)

    return VoteReward(
        engine=engine,
        votes=preset.questioner.votes,
        prompt_format=preset.prompt_format,
        opener=image_opener(images_kept=2 * pictures),
        seed_of=seed_of,
        keep=(preset.solver.keep_low, preset.solver.keep_high),
    )


@dataclass
class Recorded(StreamingEngine):
    """An engine that keeps what it last answered, with `replay` answers that again instead of asking, and
    tells phases apart."""

    engine: TransformersEngine
    scope: Scope
    phase: str
    replay: bool = False
    requests: Sequence[Request] = ()
    rollouts: Sequence[Rollout] = ()
    seconds: float = 0.0

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`."""
        if not self.replay:
            start = now()
            with self.scope.inside(self.phase):
                self.requests = list(requests)
                self.rollouts = self.engine.generate(self.requests, sampling)
            self.seconds += now() - start
        for i, rollout in enumerate(self.rollouts):
            finished(i, rollout)
