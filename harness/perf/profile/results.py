"""What profile.json holds, typed, and how its rows follow from what was measured. docs/performance.md defines
every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.cost.flops import Shape
from harness.perf.profile.clock import Times, summary
from harness.perf.profile.counts import Counts

SCHEMA = 1
OURS, STOCK = "vzero", "stock"
Target = Literal["rollout", "votes", "grpo"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(_Record):
    """What the command line asks for.

    Attributes:
        stock: measure the stock side too.
        repetitions: timed ones, after one to warm up and one that is counted.
        prompts: pictures to ask about; None is one generation batch of the preset.
        stock_batch: sequences the stock side decodes together; None is the preset's engine.batch_sequences.
    """

    target: Literal["rollout", "votes", "grpo", "all"]
    stock: bool = False
    repetitions: int = 5
    prompts: int | None = None
    stock_batch: int | None = None


class Machine(_Record):
    """The machine in words and its roof: `matmul_tflops` in `dtype`, `bandwidth_gbs` (read and written). No
    host or user name. `load_before`: runnable processes before anything was measured."""

    device: str
    kind: str
    cores: int | None
    threads: int
    memory_gib: float | None
    dtype: str
    matmul_tflops: float
    bandwidth_gbs: float
    load_before: float = 0.0


class Model(_Record):
    """Counts are parameters; the vision tower's are None where it is not found."""

    name: str
    architecture: str
    parameters: int
    vision_parameters: int | None


class _Phase(_Record):
    """One phase of one side.

    Attributes:
        target: what was run; a GRPO batch has rollouts and votes of its own.
        prompt_tokens, completion_tokens: of the task, each sequence's own: throughput is counted in these.
        real_positions: computed ones that hold a token.
        pictures: distinct ones.
        flops_needed, flops_computed: by the formulas of `harness.cost.flops`.
        peak_mib: None where it could not be measured.
    """

    target: Target
    phase: str
    role: str
    side: str
    prompt_tokens: int
    completion_tokens: int
    real_positions: int
    pictures: int
    flops_needed: float
    flops_computed: float
    peak_mib: float | None = None


class Measured(_Phase):
    """With the seconds of each timed repetition, what was counted, and the model's shape, from which the
    bytes follow that decoding reads."""

    seconds: tuple[float, ...]
    counts: Counts
    shape: Shape


class PhaseRow(_Phase):
    """With rates. `positions`: all that were computed; `encoder_passes`: pictures that went through the
    vision tower; `decode_bytes`: that decode steps read."""

    seconds: Times
    prompt_tokens_per_second: float | None
    completion_tokens_per_second: float | None
    calls: int
    positions: int
    padding_factor: float | None
    encoder_passes: int
    encoder_passes_per_picture: float | None
    mfu: float | None
    hfu: float | None
    decode_bytes: int
    bandwidth_use: float | None


class Ratio(_Record):
    """Stock over ours; above 1 means that ours is better.

    `speedup` is the ratio of median seconds a completion token (generation draws other tokens on either
    side), its range that of the repetitions run side by side.
    """

    target: Target
    phase: str
    role: str
    speedup: float
    speedup_range: tuple[float, float]
    positions: float | None
    encoder_passes: float | None
    peak_memory: float | None


class Workload(_Record):
    """Sizes of what was measured on; `questions_written` of the questions are valid ones of the Questioner.
    By role: those of a generation batch, None where none was run."""

    pictures: int
    questions: int
    questions_written: int
    questioner: dict[str, int] | None = None
    solver: dict[str, int] | None = None


class LogprobGap(_Record):
    """|difference| a token between engine and trainer, in nats; no tokens where they cannot be compared."""

    mean: float | None = None
    max: float | None = None
    tokens: int = 0


class Profile(_Record):
    """Everything that was measured.

    Attributes:
        provenance: of the code and the machine, see `vzero.runtime.artefacts`.
        parts: by role and side, seconds of what is timed within a batch.
        trace: name of the flame chart beside it.
    """

    schema_version: int = Field(SCHEMA, alias="schema")
    preset: str
    model: Model
    options: Options
    machine: Machine
    provenance: dict[str, Any]
    workload: Workload
    phases: list[PhaseRow]
    ratios: list[Ratio]
    parts: dict[str, dict[str, dict[str, float]]]
    logprob_gap: dict[str, LogprobGap]
    trace: str | None
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return self.model_dump(mode="json", by_alias=True)


def row(one: Measured, machine: Machine) -> PhaseRow:
    """Counts, times, rates, and both utilisations of the measured roof."""
    times, counts = summary(one.seconds), one.counts
    median, roof = times.median, machine.matmul_tflops * 1e12
    moved = counts.decode_calls * one.shape.weight_bytes + counts.kv_tokens * one.shape.kv_bytes
    return PhaseRow(
        **one.model_dump(exclude={"seconds", "counts", "shape"}),
        seconds=times,
        prompt_tokens_per_second=_quotient(one.prompt_tokens, median),
        completion_tokens_per_second=_quotient(one.completion_tokens, median),
        calls=counts.calls,
        positions=counts.positions,
        padding_factor=_quotient(counts.positions, one.real_positions),
        encoder_passes=counts.images,
        encoder_passes_per_picture=_quotient(counts.images, one.pictures),
        mfu=_quotient(one.flops_needed, median * roof),
        hfu=_quotient(one.flops_computed, median * roof),
        decode_bytes=moved,
        bandwidth_use=_quotient(moved, median * machine.bandwidth_gbs * 1e9) if moved else None,
    )


def ratios(rows: Sequence[PhaseRow]) -> list[Ratio]:
    """Wherever both sides were measured."""
    sides = {(one.target, one.phase, one.role, one.side): one for one in rows}
    pairs = [(one, sides.get((one.target, one.phase, one.role, STOCK))) for one in rows if one.side == OURS]
    return [_ratio(ours, stock) for ours, stock in pairs if stock is not None]


def _ratio(ours: PhaseRow, stock: PhaseRow) -> Ratio:
    fair = ours.completion_tokens / stock.completion_tokens
    paired = zip(ours.seconds.values, stock.seconds.values, strict=True)
    speedups = [fair * theirs / mine for mine, theirs in paired if mine > 0]
    return Ratio(
        target=ours.target,
        phase=ours.phase,
        role=ours.role,
        speedup=fair * stock.seconds.median / ours.seconds.median,
        speedup_range=(min(speedups), max(speedups)),
        positions=_quotient(stock.positions, ours.positions),
        encoder_passes=_quotient(stock.encoder_passes, ours.encoder_passes),
        peak_memory=_quotient(stock.peak_mib, ours.peak_mib) if stock.peak_mib and ours.peak_mib else None,
    )


def _quotient(value: float, by: float) -> float | None:
    return value / by if by else None
