"""Settings of who draws the tokens, and of where training runs."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from vzero.config.training import Section

# Settings of EngineConfig that say where and how patiently an engine is asked, not what it answers.
OPERATIONAL = frozenset(
    {"processes", "gpu_memory", "bulk_gpu_memory", "bulk_sequences", "servers", "gpus", "urls"}
    | {"request_seconds", "retries", "start_seconds"}
)


class EngineConfig(Section):
    """Who answers for frozen models (docs/engines.md). `RolloutsConfig` is for those that are trained."""

    name: Literal["transformers", "vllm", "server"] = "transformers"
    batch_sequences: int = Field(
        1280, ge=1, le=1 << 20, description="sequences that decode together, at each server"
    )
    threads: int = Field(2, ge=1, le=4096, description="CPU threads of a stage")
    # For a model whose weights stay in the cores' caches, since each process reads them all.
    processes: int = Field(
        1,
        ge=1,
        le=4096,
        description="transformers on a CPU: that draw, one thread and a share of the sequences each",
    )
    # Of the chat template (enable_thinking). True: only what follows the thought is read (docs/families.md).
    thinking: bool | None = Field(None, description="None leaves the template as it is")
    thought_tokens: int = Field(0, ge=0, le=1 << 20, description="for thoughts: raises every limit of tokens")
    max_model_len: int | None = Field(None, ge=1, description="vLLM: prompt and completion together")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="vLLM: share of a GPU's memory")
    # On GPUs, of stages during which nothing trains and which have every card whole (Preset.bulk_engine).
    bulk_sequences: int = Field(
        512, ge=1, le=1 << 20, description="vLLM: as batch_sequences, while nothing trains"
    )
    bulk_gpu_memory: float = Field(0.9, gt=0, le=1, description="vLLM: as gpu_memory, while nothing trains")
    servers: int = Field(1, ge=1, description="servers a stage starts on loopback, one per GPU")
    gpus: tuple[int, ...] = Field((), description="GPU of each, among the visible ones; none named: in order")
    urls: tuple[str, ...] = Field((), description="servers that run elsewhere; then none is started")
    request_seconds: float = Field(300.0, gt=0, description="servers: one attempt, with queueing")
    retries: int = Field(5, ge=0, description="servers: attempts after the first, on the next server")
    start_seconds: float = Field(900.0, gt=0, description="servers: from start to ready")

    def content(self) -> dict[str, Any]:
        """The settings that determine what an engine answers; others may change between a run's attempts."""
        return self.model_dump(mode="json", exclude=set(OPERATIONAL))

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        """Base addresses without `/v1`. A run records them, so they hold no user or password."""
        found = []
        for url in urls:
            parts = urlsplit(url.strip())
            extras = parts.username or parts.query or parts.fragment
            if parts.scheme not in ("http", "https") or not parts.hostname or extras:
                raise ValueError(
                    "a server's address is http://HOST:PORT or https://HOST; a token goes into the variable"
                    " VZERO_SOLVER_TOKEN"
                )
            found.append(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}")
        return tuple(found)

    @model_validator(mode="after")
    def _a_gpu_each(self) -> EngineConfig:
        if self.gpus and len(self.gpus) != self.servers:
            raise ValueError("gpus must name one GPU for each of the servers, or none")
        return self

    @model_validator(mode="after")
    def _thoughts_are_thought(self) -> EngineConfig:
        if self.thought_tokens and not self.thinking:
            raise ValueError("thought_tokens are for a model that thinks: set thinking = true as well")
        return self


class RolloutsConfig(Section):
    """Who draws the completions of a policy in training: Hugging Face's forward over the very weights, or
    vLLM beside it, given these weights before each generation batch."""

    engine: Literal["transformers", "vllm"] = "transformers"
    gpu_memory: float = Field(0.3, gt=0, le=1, description="vLLM: share of a GPU's memory while it draws")
    max_logprob_gap: float = Field(
        0.25, gt=0, description="nats a token from the trainer's that end a stage at its first generation"
    )


class LaunchConfig(Section):
    """Where training runs: `gpus` and `solver_gpus` of each of `nodes` equal machines; 0 GPUs is the CPU.

    `single` is one process, `ddp` a whole copy of the model in each, `fsdp2` one copy split over all.
    """

    gpus: int = Field(0, ge=0, description="GPUs of a node that train, a process each")
    solver_gpus: int = Field(0, ge=0, description="GPUs of a node, each a server of the frozen Solver")
    nodes: int = Field(1, ge=1)
    processes: int = Field(1, ge=1, description="of a node without GPUs; they share engine.threads")
    strategy: Literal["single", "ddp", "fsdp2"] = "single"
    # Of AdamW: two float32 numbers a trained weight. In the host's memory they visit the GPU one by one.
    optimizer_states: Literal["device", "host"] = "device"
    checkpoint_minutes: float = Field(
        30.0, ge=0, description="between points that a killed training resumes from"
    )
    max_concurrent_stages: int = Field(
        1, ge=1, description="2: measurements run beside training, as far as cores and memory go"
    )
    # Of Ray, on which stages then run: "auto" is the one of this machine, "local" one made for the run.
    cluster: str | None = Field(None, min_length=1, description='HOST:PORT, "auto" or "local"')
    join_seconds: float = Field(60.0, ge=0, description="for machines of the cluster that are missing")

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, given: Any) -> Any:
        """Runs of earlier versions record a setting that nothing reads any more."""
        return {k: v for k, v in given.items() if k != "node_seconds"} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _processes_fit(self) -> LaunchConfig:
        if self.gpus and self.processes > 1:
            raise ValueError("with GPUs there is one process per GPU; leave processes out, or set gpus = 0")
        if self.strategy == "single" and self.ranks > 1:
            raise ValueError(
                'strategy "single" is one process; choose "ddp" or "fsdp2" for several processes'
            )
        if self.strategy != "single" and self.ranks < 2:
            raise ValueError(
                f'strategy "{self.strategy}" needs at least two GPUs, or processes = 2 on the CPU'
            )
        if self.strategy == "fsdp2" and self.optimizer_states == "host":
            raise ValueError('optimizer_states = "host" needs whole weights: strategy "single" or "ddp"')
        return self

    @property
    def ranks(self) -> int:
        """Processes that train together, on all nodes."""
        return (self.gpus or self.processes) * self.nodes
