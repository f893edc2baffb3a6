"""What a run computes: prompts, optimizer steps, tokens, and from them hours, by operations and bytes.

Lengths of completions are not known before a run, so they are assumed and said. Hours follow from a machine's
peak by shares that are said as well (harness.perf.hardware): training and prompts run at a share of the peak
operations; a step of decoding takes as long as reading the weights and the keys and values of all running
sequences at a share of the bandwidth, or their operations, whichever is longer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from harness.perf.flops import Work, flops, training_work
from harness.perf.hardware import KEPT, VALID, Machine
from harness.perf.plan.shapes import ModelSize
from vzero.config import GrpoSettings, Preset, SamplingConfig
from vzero.grpo.settings import Batches, plan_batches


@dataclass(frozen=True)
class Assumptions:
    """What a plan cannot know.

    Attributes:
        completion_tokens: mean length of any completion, where the preset allows that many.
        valid, kept: share of written questions that can be parsed, and of those that the filter keeps.
        suite_picture: tokens of a picture in a held-out suite.
    """

    completion_tokens: int = 400
    valid: float = VALID
    kept: float = KEPT
    suite_picture: int = 400


@dataclass(frozen=True)
class Part:
    """One stage of an iteration: `prompts`, optimizer `steps`, tokens drawn, and hours; 0 where there are
    none."""

    name: str
    prompts: int
    steps: int
    tokens: float
    hours: float


def parts(
    preset: Preset, size: ModelSize, picture: int, machine: Machine, assumed: Assumptions, items: int
) -> list[Part]:
    """The stages of a run in order, iterations summed; `items` held-out questions."""
    text = 100 if machine.memory is None else 512
    prompt, times = picture + text, preset.iterations
    ranks = max(1, preset.launch.gpus) * preset.launch.nodes
    voters = max(1, preset.launch.solver_gpus or preset.launch.gpus) * preset.launch.nodes
    images = preset.images.count
    questions = int(images * assumed.valid)
    clock = _Clock(preset, size, machine, assumed, picture)
    asked, answered = preset.questioner, preset.solver
    q, s = plan_batches(asked.grpo, images), plan_batches(answered.grpo, int(questions * assumed.kept))
    votes = q.prompts_used * asked.grpo.group_size * assumed.valid
    everyone = max(
        1, preset.launch.solver_gpus or preset.launch.gpus
    )  # stages that do not train are node 0's alone
    found = [
        _training("train the Questioner", clock, asked.grpo, q, prompt, ranks, times),
        _drawing("votes in its reward", clock, asked.votes, votes, prompt, voters, times),
        _drawing("write questions", clock, asked.write, images, prompt, everyone, times),
        _drawing("votes for labels", clock, answered.votes, questions, prompt, everyone, times),
        _training("train the Solver", clock, answered.grpo, s, prompt, ranks, times),
    ]
    suite = assumed.suite_picture + text if machine.memory is not None else prompt
    evaluated = preset.evaluation
    for sampling, name in ((evaluated.greedy, "evaluate, greedy"), (evaluated.sampled, "evaluate, sampled")):
        found.append(_drawing(name, clock, sampling, items, suite, everyone, times + 1))
    return found


@dataclass(frozen=True)
class _Clock:
    """Seconds of the two kinds of work on one device."""

    preset: Preset
    size: ModelSize
    machine: Machine
    assumed: Assumptions
    picture: int

    def length(self, limit: int) -> float:
        return float(min(limit, self.assumed.completion_tokens))

    def pictures(self, count: float) -> tuple[float, float]:
        """Patches and patch pairs of so many pictures."""
        patches = self.picture * self.size.merge**2
        return count * patches, count * self.size.flops.vision_pairs(patches)

    def computing(self, work: Work, backward: bool = False) -> float:
        recomputed = backward and self.machine.memory is not None  # gradient checkpointing, on GPUs
        return flops(self.size.flops, work, backward, recomputed) / (
            self.machine.tflops * 1e12 * self.machine.computing
        )

    def decoding(self, engine: str, sequences: float, prompt: float, length: float, n: int) -> float:
        """All of `sequences` by `engine`, each `length` tokens after a prompt that n of them share."""
        running = max(1.0, min(self.preset.engine.batch_sequences, sequences))
        item = 4 if self.machine.memory is None or engine == "transformers" else 2
        weights = item * (self.size.flops.text_weights + self.size.flops.head_weights)
        kept = item * self.size.kv * running * (prompt / n + length / 2)
        rate = (
            self.machine.bandwidth
            * self.machine.decoding
            * (self.machine.unfused if engine == "transformers" else 1.0)
        )
        step = max((weights + kept) / rate, self.computing(Work(running, 0, running)))
        return step * length * sequences / running


def _drawing(
    name: str,
    clock: _Clock,
    sampling: SamplingConfig,
    requests: float,
    prompt: float,
    devices: int,
    times: int,
) -> Part:
    """`requests` prompts answered `sampling.n` times each, spread over `devices`, `times` times."""
    length, sequences = clock.length(sampling.max_new_tokens), requests * sampling.n
    work = Work(requests * prompt, requests * prompt**2 / 2, 0, *clock.pictures(requests))
    seconds = clock.computing(work)
    seconds += (
        clock.decoding(clock.preset.engine.name, sequences / devices, prompt, length, sampling.n) * devices
    )
    return Part(name, int(requests) * times, 0, times * sequences * length, times * seconds / devices / 3600)


def _training(
    name: str, clock: _Clock, grpo: GrpoSettings, batches: Batches, prompt: float, devices: int, times: int
) -> Part:
    """Rollouts, the old and the reference's log-probabilities, and the updates."""
    length, groups = clock.length(grpo.max_completion_tokens), batches.prompts_used
    sequences = groups * grpo.group_size
    rollout = clock.computing(Work(groups * prompt, groups * prompt**2 / 2, 0, *clock.pictures(groups)))
    each = batches.prompts_per_generation * grpo.group_size / devices
    rollout += (
        batches.generations
        * clock.decoding(clock.preset.rollouts.engine, each, prompt, length, grpo.group_size)
        * devices
    )
    one = [(int(prompt), [int(length)] * grpo.group_size)]
    once = training_work(one, *clock.pictures(1))
    update = groups * clock.computing(once, backward=True)
    scoring = (
        groups * 1.5 * clock.computing(once)
    )  # the reference for all, the old policy for the second of two steps
    total = (rollout + update + scoring) / devices
    return Part(name, groups * times, batches.steps * times, times * sequences * length, times * total / 3600)


def disk(preset: Preset, size: ModelSize, learned: int) -> dict[str, float]:
    """Bytes: final checkpoints of all trainings in float32, the scratch that one training resumes from (two
    checkpoints and one being written: weights, of adapters these alone, and Adam's moments), and the base in
    bfloat16."""
    weights = 4.0 * size.total
    resumed = 4.0 * learned if preset.lora is not None else weights
    return {
        "checkpoints": 2 * preset.iterations * weights,
        "scratch of a training": 3 * (resumed + 8.0 * learned),
        "base model": 0.0 if preset.model == "pocket" else 2.0 * size.total,
        "questions, votes, logs": 20e6 + 60e3 * preset.images.count * preset.iterations,
    }


def as_json(assumed: Assumptions) -> dict[str, Any]:
    """The assumptions as plain values."""
    return asdict(assumed)
