"""What a run computes: prompts, optimizer steps, tokens, and from them hours, by operations and bytes.

Lengths of completions are not known before a run, so they are assumed and said. Hours follow from a machine's
peak by shares that are said as well (harness.perf.hardware): training and prompts run at a share of the peak
operations; a step of decoding takes as long as reading the weights and the keys and values of all running
sequences at a share of the bandwidth, or their operations, whichever is longer.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One kind of stage, all iterations summed: `prompts`, optimizer `steps`, tokens drawn, and hours; 0
    where there are none."""

    name: str
    prompts: int
    steps: int
    tokens: float
    hours: float


def parts(
    preset: Preset, size: ModelSize, picture: int, machine: Machine, assumed: Assumptions, items: int
) -> list[Part]:
    """The stages of a run in order; `items` held-out questions."""
    launch, asked, answered = preset.launch, preset.questioner, preset.solver
    text = 100 if machine.memory is None else 512  # tokens of a prompt besides its picture
    prompt = picture + text
    suite_prompt = prompt if machine.memory is None else assumed.suite_picture + text
    ranks = max(1, launch.gpus) * launch.nodes
    everyone = max(1, launch.solver_gpus or launch.gpus)  # stages that do not train are node 0's alone
    images, times = preset.images.count, preset.iterations
    questions = int(images * assumed.valid)
    q, s = plan_batches(asked.grpo, images), plan_batches(answered.grpo, int(questions * assumed.kept))
    votes = q.prompts_used * asked.grpo.group_size * assumed.valid
    clock = _Clock(preset, size, machine, assumed, picture)
    every, held_out = clock.drawing, preset.evaluation
    return [
        clock.training("train the Questioner", asked.grpo, q, prompt, ranks, times),
        every("votes in its reward", asked.votes, votes, prompt, everyone * launch.nodes, times),
        every("write questions", asked.write, images, prompt, everyone, times),
        every("votes for labels", answered.votes, questions, prompt, everyone, times),
        clock.training("train the Solver", answered.grpo, s, prompt, ranks, times),
        every("evaluate, greedy", held_out.greedy, items, suite_prompt, everyone, times + 1),
        every("evaluate, sampled", held_out.sampled, items, suite_prompt, everyone, times + 1),
    ]


@dataclass(frozen=True)
class _Clock:
    """Hours of the two kinds of work; `picture` in tokens."""

    preset: Preset
    size: ModelSize
    machine: Machine
    assumed: Assumptions
    picture: int

    def drawing(
        self, name: str, sampling: SamplingConfig, requests: float, prompt: int, devices: int, times: int
    ) -> Part:
        """`requests` prompts answered `sampling.n` times each, spread over `devices`, `times` times."""
        length, sequences = self._length(sampling.max_new_tokens), requests * sampling.n
        work = Work(requests * prompt, requests * prompt**2 / 2, 0, *self._pictures(requests))
        each, engine = sequences / devices, self.preset.engine.name
        seconds = self.computing(work) + self._decoding(engine, each, prompt, length, sampling.n) * devices
        hours = times * seconds / devices / 3600
        return Part(name, int(requests) * times, 0, times * sequences * length, hours)

    def training(
        self, name: str, grpo: GrpoSettings, batches: Batches, prompt: int, devices: int, times: int
    ) -> Part:
        """Rollouts, the old and the reference's log-probabilities, and the updates."""
        length, groups = self._length(grpo.max_completion_tokens), batches.prompts_used
        sequences = groups * grpo.group_size
        read = self.computing(Work(groups * prompt, groups * prompt**2 / 2, 0, *self._pictures(groups)))
        each = batches.prompts_per_generation * grpo.group_size / devices
        drawn = self._decoding(self.preset.rollouts.engine, each, prompt, length, grpo.group_size)
        rollout = read + batches.generations * drawn * devices
        once = training_work([(prompt, [int(length)] * grpo.group_size)], *self._pictures(1))
        update = groups * self.computing(once, backward=True)
        # The reference scores all, the old policy the second of two optimizer steps.
        scoring = groups * 1.5 * self.computing(once)
        hours = times * ((rollout + update + scoring) / devices) / 3600
        return Part(name, groups * times, batches.steps * times, times * sequences * length, hours)

    def computing(self, work: Work, backward: bool = False) -> float:
        """Seconds of `work` on one device. On GPUs gradient checkpointing recomputes the forward."""
        recomputed = backward and self.machine.memory is not None
        operations = flops(self.size.flops, work, backward, recomputed)
        return operations / (self.machine.tflops * 1e12 * self.machine.computing)

    def _decoding(self, engine: str, sequences: float, prompt: int, length: float, n: int) -> float:
        """Seconds of one device: `sequences` of `length` tokens after a prompt that n of them share."""
        machine, shape = self.machine, self.size.flops
        running = max(1.0, min(self.preset.engine.batch_sequences, sequences))
        item = 4 if machine.memory is None or engine == "transformers" else 2
        weights = item * (shape.text_weights + shape.head_weights)
        kept = item * self.size.kv * running * (prompt / n + length / 2)
        unfused = machine.unfused if engine == "transformers" else 1.0
        rate = machine.bandwidth * machine.decoding * unfused
        step = max((weights + kept) / rate, self.computing(Work(running, 0, running)))
        return step * length * sequences / running

    def _length(self, limit: int) -> float:
        return float(min(limit, self.assumed.completion_tokens))

    def _pictures(self, count: float) -> tuple[float, float]:
        """Patches and patch pairs of so many pictures."""
        patches = self.picture * self.size.merge**2
        return count * patches, count * self.size.flops.vision_pairs(patches)


BASE = "base model"


def disk(preset: Preset, size: ModelSize, learned: int) -> dict[str, float]:
    """Bytes: final checkpoints of all trainings in float32, the scratch that one training resumes from (two
    checkpoints and one being written: weights, of adapters these alone, and Adam's moments), and the base in
    bfloat16."""
    weights = 4.0 * size.total
    resumed = 4.0 * learned if preset.lora is not None else weights
    return {
        "checkpoints": 2 * preset.iterations * weights,
        "scratch of a training": 3 * (resumed + 8.0 * learned),
        BASE: 0.0 if preset.model == "pocket" else 2.0 * size.total,
        "questions, votes, logs": 20e6 + 60e3 * preset.images.count * preset.iterations,
    }
