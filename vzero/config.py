"""One typed, frozen configuration for a whole experiment; presets are TOML files of it.

Each stage receives only its own section. Unknown keys are refused, so a typing error cannot silently leave a
default in place.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

OWN = "own"  # the name of a reward that is no shipped one


class Section(BaseModel):
    """A part of a preset: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SamplingConfig(Section):
    """How completions are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 switch those filters
    off."""

    n: int = Field(1, ge=1, description="completions drawn for one request")
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(ge=1)


class GrpoSettings(Section):
    """Group-relative policy optimisation of one role. Defaults are the public code's (METHOD notes in
    docs/method.md)."""

    prompts_per_generation: int = Field(
        64, ge=1, description="prompts sampled together before their optimizer steps"
    )
    prompts_per_step: int = Field(
        32, ge=1, description="prompts in one optimizer step; groups are never split"
    )
    group_size: int = Field(
        ge=2, description="completions of one prompt, whose rewards are compared with each other"
    )
    micro_batch: int = Field(
        ge=1, description="sequences in one forward pass; divides prompts_per_step * group_size"
    )
    learning_rate: float = Field(1e-6, gt=0, description="constant, no warm-up")
    kl_coefficient: float = Field(0.01, ge=0, description="weight of k3(policy, initial policy) in the loss")
    clip_epsilon: float = Field(0.2, gt=0)
    dual_clip: float = Field(
        3.0, gt=1, description="upper bound of the ratio where the advantage is negative"
    )
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    loss: Literal["dapo", "bnpo"] = Field(
        "dapo",
        description="sum over tokens by the mean tokens of a step in its generation batch, or token mean of each micro-batch",
    )
    importance_correction: Literal["none", "token-truncate"] = Field(
        "none",
        description="weigh each token by how much likelier the trainer makes it than the engine that drew it: see vzero.grpo.importance",
    )
    importance_cap: float = Field(2.0, gt=1, description="the largest such weight")
    max_completion_tokens: int = Field(ge=1)
    epochs: int = Field(1, ge=1)
    max_generations: int | None = Field(
        None, ge=1, description="stop after this many generation batches; None is the whole epoch"
    )
    freeze_vision: bool = False
    checkpoint_every: int = Field(
        4, ge=1, description="generation batches between checkpoints a killed stage resumes from"
    )

    @model_validator(mode="after")
    def _batches_divide(self) -> GrpoSettings:
        if self.prompts_per_generation % self.prompts_per_step:
            raise ValueError("prompts_per_generation must be a multiple of prompts_per_step")
        if (self.prompts_per_step * self.group_size) % self.micro_batch:
            raise ValueError("micro_batch must divide prompts_per_step * group_size")
        if self.dual_clip <= 1 + self.clip_epsilon:
            raise ValueError(
                "dual_clip must be above 1 + clip_epsilon, or it would clip positive advantages as well"
            )
        return self

    def require_divisible(self, processes: int) -> None:
        """Whether so many processes can share an optimizer step.

        Raises:
            ValueError: they would not have equally many whole groups, or the loss would be another one.
        """
        if self.prompts_per_step % processes:
            raise ValueError(
                f"prompts_per_step = {self.prompts_per_step} must be a multiple of the {processes} processes that train"
            )
        if self.loss == "bnpo" and self.prompts_per_step * self.group_size % (self.micro_batch * processes):
            raise ValueError(
                f'with loss = "bnpo" the micro-batches are part of the objective, so micro_batch = {self.micro_batch} must divide the '
                f"{self.prompts_per_step * self.group_size // processes} sequences that each of {processes} processes takes in a step"
            )


class ImagesConfig(Section):
    """Where unlabeled images come from: `source` is "pocket", a folder of pictures, Parquet files, or a hub
    data set's id."""

    source: str = "pocket"
    column: str | None = Field(None, description="of a table, where it has several that hold images")
    split: str | None = Field(
        None, description="of a table in several files: a part of their names, e.g. train"
    )
    count: int = Field(ge=1, description="at most this many images are used")
    max_megapixels: float = Field(50.0, gt=0, description="larger pictures are skipped, counted and named")
    shrink_megapixels: float | None = Field(
        None,
        gt=0,
        description="larger ones are shrunk to this before any model sees them; None leaves it to the model's processor",
    )


class QuestionerConfig(Section):
    """Training the Questioner (or leaving it as it is), then letting it write."""

    grpo: GrpoSettings
    trained: bool = Field(True, description="false leaves it the base model in every iteration")
    reward: Literal[
        "dual-track", "uncertainty", "zero-sum", "capped-mismatch", "r-zero", "visplay", "evolmm", "own"
    ] = "dual-track"
    reward_source: str | None = Field(
        None, description='of reward = "own": a Python text that defines it, see vzero.arms.own_reward'
    )
    intuition: Literal["questioner", "base"] = Field(
        "questioner", description="whose answer is the intuitive one: see vzero.questioner"
    )
    votes_see: Literal["image", "nothing"] = Field(
        "image", description="what the Solver inside the reward is shown beside the question"
    )
    votes: SamplingConfig
    write: SamplingConfig
    per_image: int = Field(1, ge=1, description="questions written about each image")

    @model_validator(mode="after")
    def _own_reward_is_there(self) -> QuestionerConfig:
        if (self.reward == OWN) != (self.reward_source is not None):
            raise ValueError('reward = "own" needs reward_source, and no other reward has one')
        return self


class SolverConfig(Section):
    """Voting on the questions, keeping those between the two confidences (both ends kept), training the
    Solver on them."""

    grpo: GrpoSettings
    votes: SamplingConfig
    keep_low: float = Field(0.3, ge=0, le=1)
    keep_high: float = Field(0.8, ge=0, le=1)
    filter: Literal["confidence", "none"] = Field(
        "confidence", description='"none" keeps every question that has a label'
    )
    answerable: bool = Field(
        False, description="keep only questions whose majority survives a change of the options' order"
    )
    labels: Literal["majority", "random", "truth", "none"] = Field(
        "majority", description='"none" needs an objective without labels'
    )
    objective: Literal["labels", "group-majority", "consistency", "random", "format", "sft", "own"] = Field(
        "labels", description="what the Solver is trained on: see vzero.arms.objectives"
    )
    reward_source: str | None = Field(
        None, description='of objective = "own": a Python text that defines it, see vzero.arms.own_reward'
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> SolverConfig:
        if self.keep_low > self.keep_high:
            raise ValueError("keep_low must not be above keep_high")
        return self

    @model_validator(mode="after")
    def _labels_where_needed(self) -> SolverConfig:
        if self.labels == "none" and (
            self.objective not in ("group-majority", "consistency", OWN) or self.answerable
        ):
            raise ValueError(
                'labels = "none" draws no votes, so it needs objective "group-majority", "consistency" or "own", and not answerable'
            )
        if (self.objective == OWN) != (self.reward_source is not None):
            raise ValueError('objective = "own" needs reward_source, and no other objective has one')
        if self.objective == "sft" and self.labels != "majority":
            raise ValueError(
                'objective = "sft" learns from the votes for the majority, so it needs labels = "majority"'
            )
        return self


class EvaluationConfig(Section):
    """Held-out suites: greedy, and `sampled.n` samples for mean, majority and pass rates."""

    suites: tuple[str, ...] = ("pocket_math", "pocket_logic", "pocket_vision")
    split: Literal["dev", "test"] = Field(
        "test", description="hyper-parameters are chosen on dev, results reported on test"
    )
    images: Literal["own", "shuffled"] = Field(
        "own", description='"shuffled" shows each question the picture of another of its suite'
    )
    items_per_family: int = Field(ge=1, description="of the pocket suites")
    data: str = Field(
        "runs/data", description="where benchmark suites lie: what `fetch` wrote, or a local copy"
    )
    data_sha256: str | None = Field(
        None, description="of their rows and pictures; a run writes it down when it begins"
    )
    limit: int | None = Field(
        None, ge=1, description="only the first so many rows of each part of a benchmark suite"
    )
    greedy: SamplingConfig
    sampled: SamplingConfig
    prefill_words: int = Field(
        0,
        ge=0,
        description="words of the last Solver's answers that the base is made to begin its own with, once more; 0 leaves it out",
    )


class EngineConfig(Section):
    """Who answers for frozen models (docs/engines.md): Hugging Face's forward or vLLM in the stage's process,
    or servers. The policies that are trained are drawn from as `RolloutsConfig` says."""

    name: Literal["transformers", "vllm", "server"] = "transformers"
    batch_sequences: int = Field(1280, ge=1, description="sequences that decode together, at each server")
    threads: int = Field(2, ge=1, description="CPU threads of a stage")
    max_model_len: int | None = Field(
        None, ge=1, description="vLLM: tokens of prompt and completion together; None is the model's maximum"
    )
    gpu_memory: float = Field(
        0.9, gt=0, le=1, description="vLLM: share of a GPU's memory for weights, keys and values"
    )
    servers: int = Field(1, ge=1, description="servers a stage starts on loopback, one a GPU")
    gpus: tuple[int, ...] = Field(
        (), description="the GPU of each of those, counted among the visible ones; none named: in order"
    )
    urls: tuple[str, ...] = Field((), description="servers that run elsewhere; then none is started")
    request_seconds: float = Field(
        300.0, gt=0, description="servers: one attempt of one request, queueing there included"
    )
    retries: int = Field(
        5, ge=0, description="servers: attempts after the first, on the next server where there is one"
    )
    start_seconds: float = Field(900.0, gt=0, description="servers: from start to ready")

    def content(self) -> dict[str, Any]:
        """The settings that determine what an engine answers; the others say where and how patiently it is
        asked, and may change between a run's attempts."""
        return self.model_dump(mode="json", exclude=set(OPERATIONAL))

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        """Base addresses, without the `/v1` that OpenAI's clients want; a run's record holds them, so no user
        or password."""
        found = []
        for url in urls:
            parts = urlsplit(url.strip())
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or parts.username
                or parts.query
                or parts.fragment
            ):
                raise ValueError(
                    "a server's address is http://HOST:PORT or https://HOST; a token goes into the variable VZERO_SOLVER_TOKEN"
                )
            found.append(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}")
        return tuple(found)

    @model_validator(mode="after")
    def _a_gpu_each(self) -> EngineConfig:
        if self.gpus and len(self.gpus) != self.servers:
            raise ValueError("gpus must name one GPU for each of the servers, or none")
        return self


class RolloutsConfig(Section):
    """Who draws the completions of a policy in training: Hugging Face's forward over the very weights that
    are trained, or vLLM beside it, given these weights before each generation batch. `engine.batch_sequences`
    and `engine.max_model_len` hold for both."""

    engine: Literal["transformers", "vllm"] = "transformers"
    gpu_memory: float = Field(
        0.3,
        gt=0,
        le=1,
        description="vLLM: share of a GPU's memory while it draws; asleep in between it holds none",
    )


OPERATIONAL = frozenset(
    {"gpu_memory", "servers", "gpus", "urls", "request_seconds", "retries", "start_seconds"}
)  # of EngineConfig


class LaunchConfig(Section):
    """Where training runs: `gpus` and `solver_gpus` of each of `nodes` equal machines; 0 GPUs is the CPU.

    `single` is one process, `ddp` a whole copy of the model in every process, `fsdp2` one copy split over all
    of them. There is a process for each GPU that trains; on the CPU there are `processes`.
    """

    gpus: int = Field(0, ge=0, description="GPUs of a node that train")
    solver_gpus: int = Field(
        0,
        ge=0,
        description="further GPUs of a node, each serving the frozen Solver while the Questioner trains",
    )
    nodes: int = Field(1, ge=1)
    processes: int = Field(
        1,
        ge=1,
        description="processes of a node that train where no GPU does; engine.threads is shared among them",
    )
    strategy: Literal["single", "ddp", "fsdp2"] = "single"
    join_seconds: float = Field(600.0, gt=0, description="several nodes: until all have come")
    node_seconds: float = Field(
        120.0, ge=5, description="several nodes: without a sign of life, until one counts as gone"
    )

    @model_validator(mode="after")
    def _processes_fit(self) -> LaunchConfig:
        if self.gpus and self.processes > 1:
            raise ValueError("with GPUs there is one process a GPU; leave processes out, or set gpus = 0")
        if self.strategy == "single" and self.ranks > 1:
            raise ValueError(
                'strategy "single" is one process; choose "ddp" or "fsdp2" for several GPUs, processes or nodes'
            )
        if self.strategy != "single" and self.ranks < 2:
            raise ValueError(
                f'strategy "{self.strategy}" needs at least two GPUs, or processes = 2 on the CPU; choose "single"'
            )
        return self

    @property
    def ranks(self) -> int:
        """Processes that train together, on all nodes."""
        return (self.gpus or self.processes) * self.nodes


class LoraConfig(Section):
    """Low-rank adapters on every linear layer of the language model; all other weights stay frozen."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0, description="adapters are scaled by alpha / rank")


class Preset(Section):
    """A whole experiment."""

    name: str
    model: str = Field("pocket", description='"pocket" (the shipped base checkpoint), a folder, or a hub id')
    prompt_format: Literal["pocket", "natural"] = "pocket"
    iterations: int = Field(2, ge=1)
    seed: int = 0
    arm: str = Field("v-zero", description="what the switches below amount to: a name in vzero.arms")
    step_matched: tuple[int, ...] | None = Field(
        None,
        description="at most so many questions train the Solver in each iteration; a grid of arms takes them from v-zero",
    )
    defects: tuple[Literal["article-votes", "unparsed-dropped", "three-prompts", "label-selection"], ...] = (
        Field((), description="faults of public code to switch on: see vzero.arms.defects")
    )
    images: ImagesConfig
    questioner: QuestionerConfig
    solver: SolverConfig
    evaluation: EvaluationConfig
    engine: EngineConfig = EngineConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    launch: LaunchConfig = LaunchConfig()
    lora: LoraConfig | None = None

    @model_validator(mode="after")
    def _steps_divide(self) -> Preset:
        for role in (self.questioner, self.solver):
            role.grpo.require_divisible(self.launch.ranks)
        return self

    @model_validator(mode="after")
    def _solver_gpus_serve(self) -> Preset:
        if self.launch.solver_gpus and self.engine.name != "server":
            raise ValueError(
                'launch.solver_gpus are for servers of the frozen Solver; set engine.name = "server", or solver_gpus = 0'
            )
        if self.launch.solver_gpus and self.engine.gpus and len(self.engine.gpus) != self.launch.solver_gpus:
            raise ValueError(
                f"engine.gpus names {len(self.engine.gpus)} GPUs and launch.solver_gpus = {self.launch.solver_gpus}"
            )
        return self

    def placed_engine(self) -> EngineConfig:
        """The engine with its servers on the GPUs set aside for them, the next ones after those that train,
        unless it names its own."""
        launch = self.launch
        if not launch.solver_gpus or self.engine.gpus:
            return self.engine
        gpus = tuple(range(launch.gpus, launch.gpus + launch.solver_gpus))
        return self.engine.model_copy(update={"servers": len(gpus), "gpus": gpus})
