"""Settings of sampling and of GRPO."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

MOST = 1 << 48  # no whole number of a preset but a seed is larger


class Section(BaseModel):
    """A part of a preset: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _whole_numbers_fit(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, int) and abs(value) > MOST and info.field_name != "seed":
            raise ValueError("no machine can hold that many")
        return value


class SamplingConfig(Section):
    """How completions are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are no filters."""

    n: int = Field(1, ge=1, le=100_000, description="completions drawn for one request")
    temperature: float = Field(1.0, ge=0)  # 0, or one that float32 holds
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)
    max_new_tokens: int = Field(ge=1, le=1 << 20)

    @property
    def drawn(self) -> int:
        """Completions that are drawn for one request: greedy ones are all the same."""
        return 1 if self.temperature == 0 else self.n

    @field_validator("temperature")
    @classmethod
    def _divides(cls, temperature: float) -> float:
        if 0 < temperature < 1e-30:
            raise ValueError("logits cannot be divided by so small a number; 0 is greedy")
        return temperature


class GrpoSettings(Section):
    """Group-relative policy optimisation of one role. Defaults are the public code's (docs/method.md)."""

    prompts_per_generation: int = Field(64, ge=1, description="sampled together before their optimizer steps")
    prompts_per_step: int = Field(32, ge=1, description="in one optimizer step; groups are never split")
    group_size: int = Field(ge=2, description="completions of one prompt, compared with each other")
    micro_batch: int = Field(ge=1, description="sequences in one forward pass")
    learning_rate: float = Field(1e-6, gt=0, description="constant, no warm-up")
    kl_coefficient: float = Field(0.01, ge=0, description="weight of k3(policy, initial policy) in the loss")
    clip_epsilon: float = Field(0.2, gt=0)
    dual_clip: float = Field(3.0, gt=1, description="upper bound of the ratio at a negative advantage")
    weight_decay: float = Field(0.01, ge=0, description="of weight matrices; biases and norms have none")
    max_grad_norm: float = Field(1.0, gt=0)
    # dapo: sum over tokens / mean tokens of a step in its generation batch. bnpo: mean of a micro-batch.
    loss: Literal["dapo", "bnpo"] = "dapo"
    # token_truncate: each token is weighed by min(trainer's / engine's probability, importance_cap).
    importance_correction: Literal["none", "token_truncate"] = "none"
    importance_cap: float = Field(2.0, gt=1)
    max_completion_tokens: int = Field(ge=1)
    epochs: int = Field(1, ge=1)
    max_generations: int | None = Field(None, ge=1, description="stop after so many; None: whole epochs")
    freeze_vision: bool = False

    @model_validator(mode="after")
    def _batches_divide(self) -> GrpoSettings:
        if self.prompts_per_generation % self.prompts_per_step:
            raise ValueError("prompts_per_generation must be a multiple of prompts_per_step")
        if (self.prompts_per_step * self.group_size) % self.micro_batch:
            raise ValueError("micro_batch must divide prompts_per_step * group_size")
        if self.dual_clip <= 1 + self.clip_epsilon:
            raise ValueError(
                "dual_clip must be above 1 + clip_epsilon, or it clips positive advantages as well"
            )
        return self

    def require_divisible(self, processes: int) -> None:
        """Check that so many processes can share an optimizer step.

        Raises:
            ValueError: they would not have equally many whole groups, or the loss would be another one.
        """
        if self.prompts_per_step % processes:
            raise ValueError(
                f"prompts_per_step = {self.prompts_per_step} must be a multiple of the {processes} processes"
                " that train"
            )
        sequences = self.prompts_per_step * self.group_size
        if self.loss == "bnpo" and sequences % (self.micro_batch * processes):
            raise ValueError(
                f'with loss = "bnpo" the micro-batches are part of the objective, so micro_batch ='
                f" {self.micro_batch} must divide the {sequences // processes} sequences that each of"
                f" {processes} processes takes in a step"
            )


class LoraConfig(Section):
    """Low-rank adapters on every linear layer of the language model; all other weights stay frozen."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0, description="adapters are scaled by alpha / rank")
