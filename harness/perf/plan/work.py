"""What a run computes: prompts, optimizer steps, tokens, and from them hours, by operations and bytes.

Lengths of completions are not known before a run, so they are assumed and said. Hours follow from a machine's
peak by rates that are said as well (harness.perf.hardware): training and prompts run at a share of the peak
operations; a step of decoding takes as long as reading the weights and the keys and values of all running
sequences at a share of the bandwidth, or their operations, whichever is longer. Requests stream: slots are
refilled, so a call takes the time of its tokens and, at its end, of its longest completion. Around that a
stage starts, loads its models, gives vLLM new weights before each generation batch, saves to be resumed, and
writes its checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.cost.flops import Shape, Work, flops, training_work
from harness.cost.meter import scoring_passes, trained_shape
from harness.cost.shapes import ModelSize
from harness.perf.hardware import Machine
from harness.perf.plan import memory
from vzero.config import EngineConfig, GrpoSettings, Preset, SamplingConfig
from vzero.grpo.settings import Batches, plan_batches

QUESTION = {"natural": 80, "pocket": 20}  # tokens of a usual question with its options
TAIL = 4  # times the mean that the longest of many completions has, where so much is allowed
SYNC_SECONDS = 5.0  # to wake vLLM, hand it weights and put it to sleep, on a GPU: assumed
HOST_BYTES = 2e10  # a second between the host's memory and a GPU: assumed
CORES = 8  # that process pictures while completions are drawn


@dataclass(frozen=True)
class Assumptions:
    """What a plan cannot know.

    Attributes:
        completion_tokens: mean length of any completion, where the preset allows that many.
        valid, kept: share of written questions that can be parsed, and of those that the filter keeps.
        suite_picture: tokens of a picture in a held-out suite.
    """

    completion_tokens: int = 400
    valid: float = 0.9
    kept: float = 0.5
    suite_picture: int = 400


@dataclass(frozen=True)
class Part:
    """One kind of stage, all iterations summed: `prompts`, optimizer `steps`, tokens drawn, and hours,
    of which `around` is what is neither drawn nor computed; 0 where there are none."""

    name: str
    prompts: int
    steps: int
    tokens: float
    hours: float
    around: float = 0.0


def parts(
    preset: Preset, size: ModelSize, picture: int, machine: Machine, assumed: Assumptions, items: int
) -> list[Part]:
    """The stages of a run in order; `items` held-out questions."""
    asked, answered = preset.questioner, preset.solver
    asking, solving = memory.INSTRUCTIONS[preset.prompt_format]
    question = QUESTION[preset.prompt_format]
    writing, reading = picture + asking, picture + solving + question
    suite = reading if machine.memory is None else assumed.suite_picture + solving + question
    images, times = preset.images.count, preset.iterations
    questions = int(images * assumed.valid)
    q, s = plan_batches(asked.grpo, images), plan_batches(answered.grpo, int(questions * assumed.kept))
    clock = _Clock(preset, size, machine, assumed, picture)
    bulk, held_out = clock.bulk, preset.evaluation
    return [
        clock.training("train the Questioner", asked.grpo, q, writing, times),
        clock.votes(q, asked.votes, reading, times),
        bulk("write questions", asked.write, images, writing, times),
        bulk("votes for labels", answered.votes, questions, reading, times),
        clock.training("train the Solver", answered.grpo, s, reading, times),
        bulk("evaluate, greedy", held_out.greedy, items, suite, times + 1),
        bulk("evaluate, sampled", held_out.sampled, items, suite, times + 1, begins=False),
    ]


@dataclass(frozen=True)
class _Clock:
    """Hours of the kinds of work; `picture` in tokens."""

    preset: Preset
    size: ModelSize
    machine: Machine
    assumed: Assumptions
    picture: int

    def bulk(
        self, name: str, sampling: SamplingConfig, requests: int, prompt: int, times: int, begins: bool = True
    ) -> Part:
        """`requests` prompts answered `sampling.n` times each by every device of all nodes, `times` times;
        `begins`: in a stage of its own."""
        engine, sequences = self.preset.bulk_engine(), requests * sampling.n
        devices = max(1, len(engine.gpus) or engine.servers) * self.preset.launch.nodes
        seconds = self._drawn(engine, sampling, requests / devices, prompt)
        around = self._stage_seconds(1, engine.name) if begins else 0.0
        tokens = times * sequences * self._length(sampling.max_new_tokens)
        hours = times * (seconds + around) / 3600
        return Part(name, requests * times, 0, tokens, hours, times * around / 3600)

    def votes(self, batches: Batches, sampling: SamplingConfig, prompt: int, times: int) -> Part:
        """The frozen Solver's on the questions of each generation batch."""
        preset, launch = self.preset, self.preset.launch
        asked = batches.prompts_per_generation * batches.group_size * self.assumed.valid
        devices = max(1, launch.solver_gpus or launch.gpus) * launch.nodes
        seconds = self._drawn(preset.engine, sampling, asked / devices, prompt)
        hours = times * batches.generations * seconds / 3600
        requests = times * asked * batches.generations
        tokens = requests * sampling.n * self._length(sampling.max_new_tokens)
        return Part("votes in its reward", int(requests), 0, tokens, hours)

    def training(self, name: str, grpo: GrpoSettings, batches: Batches, prompt: int, times: int) -> Part:
        """Rollouts, the old and the reference's log-probabilities, and the updates."""
        preset, launch = self.preset, self.preset.launch
        devices = max(1, launch.gpus) * launch.nodes
        each = batches.prompts_per_generation / devices
        policy = preset.engine.model_copy(update={"name": preset.rollouts.engine})
        drawing = SamplingConfig(n=grpo.group_size, max_new_tokens=grpo.max_completion_tokens)
        rollout = self._drawn(policy, drawing, each, prompt)
        # Pictures are processed meanwhile; what does not fit into that time is waited for.
        megapixels = self.picture * (self.size.patch * self.size.merge) ** 2 / 1e6
        processing = each * megapixels * self.machine.rates.picture_seconds / CORES
        length = int(self._length(grpo.max_completion_tokens))
        once = training_work([(prompt, [length] * grpo.group_size)], *self._pictures(1))
        updated = self._computing(once, trained_shape(preset, grpo, self.size))
        scored = scoring_passes(grpo, batches.steps_per_generation) * self._computing(once)
        computed = each * (updated + scored)
        sync = SYNC_SECONDS if preset.rollouts.engine == "vllm" and self.machine.memory else 0.0
        hosted = 16.0 * memory.trained(preset, self.size) if launch.optimizer_states == "host" else 0.0
        stepping = batches.steps_per_generation * hosted / HOST_BYTES  # moments come to the GPU and go back
        batch = max(rollout, processing) + computed + stepping + sync
        seconds = batches.generations * batch
        around = batches.generations * sync + self._stage_seconds(2, preset.rollouts.engine)
        around += self._saving(seconds) + memory.FLOAT * self.size.total / self.machine.rates.write
        seconds += around - batches.generations * sync
        tokens = times * batches.prompts_used * grpo.group_size * length
        prompts, steps = batches.prompts_used * times, batches.steps * times
        return Part(name, prompts, steps, tokens, times * seconds / 3600, times * around / 3600)

    def _stage_seconds(self, models: int, engine: str) -> float:
        """From the start of a stage until it works: imports, `models` loaded, vLLM started."""
        rates = self.machine.rates
        started = rates.engine_seconds if engine != "transformers" else 0.0
        return rates.start_seconds + models * memory.HALF * self.size.total / rates.read + started

    def _saving(self, seconds: float) -> float:
        """Of checkpoints to resume from: weights and moments, by each process its own part."""
        launch = self.preset.launch
        every = 60 * launch.checkpoint_minutes
        split = launch.gpus * launch.nodes if launch.strategy == "fsdp2" else 1
        each = 12.0 * memory.trained(self.preset, self.size) / split / self.machine.rates.write
        return each * (seconds // every) if every else 0.0

    def _drawn(self, engine: EngineConfig, sampling: SamplingConfig, requests: float, prompt: int) -> float:
        """Seconds of one device for `requests`, prompts read and completions drawn."""
        if not requests:
            return 0.0
        length = self._length(sampling.max_new_tokens)
        work = Work(requests * prompt, requests * prompt**2 / 2, 0, *self._pictures(requests))
        sequences = requests * sampling.n
        running = max(1.0, min(engine.batch_sequences, sequences))
        longest = min(sampling.max_new_tokens, TAIL * length)
        rounds = sequences / running * self._step(engine.name, running, prompt, length, sampling.n) * length
        return (
            self._computing(work)
            + rounds
            + (longest - length) * self._step(engine.name, 1, prompt, length, 1)
        )

    def _step(self, engine: str, running: float, prompt: int, length: float, n: int) -> float:
        """Seconds of one step of decoding for `running` sequences, of which n share a prompt."""
        machine, shape = self.machine, self.size.flops
        whole = engine == "transformers" and self.preset.lora is None  # a policy draws from float32 weights
        item = 4 if machine.memory is None or whole else 2
        weights = item * (shape.text_weights + shape.head_weights)
        kept = item * self.size.kv * running * (prompt / n + length / 2)
        share = machine.rates.unfused if engine == "transformers" else machine.rates.decoding
        return max((weights + kept) / (machine.bandwidth * share), self._computing(Work(running, 0, running)))

    def _computing(self, work: Work, trained: Shape | None = None) -> float:
        """Seconds of `work` on one device, of an update where so much is `trained`. On GPUs gradient
        checkpointing recomputes the forward."""
        backward = trained is not None
        recomputed = backward and self.machine.memory is not None
        operations = flops(trained or self.size.flops, work, backward, recomputed)
        return operations / (self.machine.tflops * 1e12 * self.machine.rates.computing)

    def _length(self, limit: int) -> float:
        return float(min(limit, self.assumed.completion_tokens))

    def _pictures(self, count: float) -> tuple[float, float]:
        """Patches and patch pairs of so many pictures."""
        patches = self.picture * self.size.merge**2
        return count * patches, count * self.size.flops.vision_pairs(patches)


BASE = "base model"


def disk(preset: Preset, size: ModelSize, learned: int) -> dict[str, float]:
    """Bytes: final checkpoints of all trainings in float32, the scratch that one training resumes from (a
    checkpoint and one being written: trained weights and Adam's moments), and the base in bfloat16."""
    return {
        "checkpoints": 2 * preset.iterations * 4.0 * size.total,
        "scratch of a training": 2 * 12.0 * learned,
        BASE: 0.0 if preset.model == "pocket" else 2.0 * size.total,
        "questions, votes, logs": 20e6 + 60e3 * preset.images.count * preset.iterations,
    }
