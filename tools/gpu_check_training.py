"""Sections of `gpu_check.py` about training: the trainer that a stage builds, counted as a profile does."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from harness.perf.hardware import cards, kind_of
from harness.perf.plan import memory
from harness.perf.profile import generation, roofline
from harness.perf.profile import training as profile
from harness.perf.profile.counts import Scope
from harness.perf.profile.memory import MIB
from harness.perf.profile.results import OURS, STOCK, Machine, PhaseRow, ratios, row
from tools.gpu_check_models import SMALL_PICTURE, Setup, StandIn
from tools.gpu_check_report import Check, Found, Values
from vzero.config import EngineConfig, GrpoSettings, LoraConfig, SamplingConfig
from vzero.grpo import log_probs
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import Assembly, MicroBatch
from vzero.images.records import open_image
from vzero.presets import load_preset
from vzero.rollout.protocol import Request
from vzero.rollout.transformers_engine import TransformersEngine, unwrap
from vzero.runtime import checkpoints

Role = Literal["questioner", "solver"]
PRESET = "qwen2.5-vl-3b-1gpu"


def reward(groups: Sequence[Group], generation: int) -> Scores:
    """Every other completion is worth something."""
    return Scores([[float(i % 2) for i in range(len(group.completions))] for group in groups], {})


def _settings(setup: Setup, role: Role) -> GrpoSettings:
    """The preset's, over fewer pictures; rollouts of the stand-in have no log-probabilities to weigh."""
    settings = getattr(load_preset(PRESET), role).grpo
    few = {"prompts_per_generation": 16, "prompts_per_step": 8, "importance_correction": "none"}
    if setup.dry:
        few |= {"prompts_per_generation": 2, "prompts_per_step": 1, "max_completion_tokens": 8}
        few |= {"micro_batch": settings.group_size}
    return GrpoSettings.model_validate(settings.model_dump() | few)


def _bench(
    setup: Setup, role: Role, settings: GrpoSettings | None = None, lora: LoraConfig | None = None
) -> profile.Bench:
    settings = settings or _settings(setup, role)
    scope, checkpoint = Scope(), setup.checkpoint()
    folder = setup.scratch / f"training-{role}"
    given = profile.Training(
        role=role,
        settings=settings,
        engine=EngineConfig(threads=8),
        checkpoint=checkpoint,
        prompts=setup.prompts(role, settings.prompts_per_generation),
        reward=reward,
        seed=0,
        folder=folder,
        scope=scope,
        lora=lora,
    )
    bench = profile.build(given)
    engine: Any = StandIn(bench.trainer.model, checkpoint)
    bench.rollout.engine = engine
    return bench


@dataclass(frozen=True)
class Run:
    """One role's generation batch, measured: rows of the profile, and bytes that stay between batches."""

    bench: profile.Bench
    rows: list[PhaseRow]
    parts: dict[str, dict[str, float]]
    lasting: float

    def one(self, phase: str, side: str = OURS) -> PhaseRow:
        return next(found for found in self.rows if (found.phase, found.side) == (phase, side))

    def peak(self, phase: str) -> float | None:
        """Bytes of the device at the fullest; None where they are not known."""
        above = self.one(phase).peak_mib
        return None if above is None or not torch.cuda.is_available() else self.lasting + above * MIB


@cache
def _machine() -> Machine:
    return roofline.measure(load_before=0.0)


def _measured(bench: profile.Bench, stock: bool = False) -> Run:
    measured, _, parts = profile.measure(bench, stock, 1, lambda step: None)
    machine = _machine()
    lasting = float(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0.0
    return Run(bench, [row(one, machine) for one in measured], parts, lasting)


def _row_values(found: PhaseRow) -> Values:
    kept = found.model_dump(include={"completion_tokens", "positions", "padding_factor", "mfu", "hfu"})
    kept |= {"seconds": found.seconds.median, "encoder_passes": found.encoder_passes_per_picture}
    return kept | {"peak_mib": found.peak_mib, "needed_tflop": found.flops_needed / 1e12}


def _training(setup: Setup, role: Role) -> Found:
    run = _measured(_bench(setup, role))
    update, logprobs = run.one("update"), run.one("logprobs")
    longest = max(map(_sizes, run.bench.trainer._batches), key=lambda one: one.tokens)
    planned = memory.of_update(load_preset(PRESET), setup.size, role, longest, card=0.0)
    pictures = run.parts[OURS]["images"] / update.pictures
    share = (update.flops_needed + logprobs.flops_needed) / (update.seconds.median + logprobs.seconds.median)
    share /= _peak_flops()
    real, taken = not setup.dry, run.peak("update")
    measured: Values = {
        "update": _row_values(update),
        "logprobs": _row_values(logprobs),
        "seconds": run.parts[OURS],
        "picture_seconds": pictures,
        "planned_bytes": planned,
        "measured_bytes": taken,
        "share_of_peak": share,
    }
    ratio = None if taken is None else taken / sum(planned.values())
    least = update.flops_needed / update.seconds.median / _peak_flops()
    checks = [
        Check(name="update: share of the peak operations", value=least, low=0.35, judged=real),
        Check(name="update: memory / plan", value=ratio, low=0.85, high=1.15, judged=real),
        Check(name="update: positions for each that holds a token", value=update.padding_factor, high=1.01),
        Check(name="update: encoder passes a picture", value=update.encoder_passes_per_picture, high=1.01),
    ]  # fmt: skip
    return measured, checks, {"computing": share, "picture_seconds": pictures}


def questioner(setup: Setup) -> Found:
    """A Questioner's generation batch at the preset's shapes: the old policy, the reference, the update."""
    return _training(setup, "questioner")


def solver(setup: Setup) -> Found:
    """The same of a Solver, whose completions may be twice as long."""
    return _training(setup, "solver")


def _sizes(batch: MicroBatch) -> memory.MicroBatchSize:
    """What a plan counts a micro-batch's memory by."""
    prompts = batch.prompts
    scored = int(batch.completion_mask.sum())
    return memory.MicroBatchSize(
        tokens=int(prompts["attention_mask"].sum()) - len(prompts["attention_mask"]) + scored,
        scored=scored,
        patches=int(prompts["image_grid_thw"].prod(dim=1).sum()),
    )


def _peak_flops() -> float:
    """The maker's for a known card, else what a matrix product reaches here."""
    if torch.cuda.is_available():
        kind = kind_of(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory)
        if kind in cards():
            return float(cards()[kind]["tflops"]) * 1e12
    return _machine().matmul_tflops * 1e12


def stock(setup: Setup) -> Found:
    """The same batch through TRL's own methods: every sequence with a prompt of its own, padded to the
    longest."""
    settings = _settings(setup, "questioner")
    few = {"prompts_per_generation": settings.prompts_per_step, "micro_batch": settings.group_size}
    run = _measured(_bench(setup, "questioner", settings.model_copy(update=few)), stock=True)
    pair = next(one for one in ratios(run.rows) if one.phase == profile.TRAINED)
    sides = {side: _row_values(run.one(profile.TRAINED, side)) for side in (OURS, STOCK)}
    measured = {**sides, "stock_over_ours": pair.model_dump(include={"speedup", "positions", "peak_memory"})}
    real = not setup.dry
    return measured, [Check(name="times as fast as stock", value=pair.speedup, low=1.2, judged=real)], {}


def lora(setup: Setup) -> Found:
    """A generation batch with adapters, with and without gradients through the frozen tower."""
    settings = _settings(setup, "questioner")
    smaller = settings.model_copy(update={"micro_batch": settings.group_size})
    bench = _bench(setup, "questioner", smaller, LoraConfig(rank=64, alpha=128))
    measured: Values = {}
    found: dict[str, PhaseRow] = {}
    for name in ("without", "with"):
        if name == "with":  # the product turns this off by an attribute of the object
            base = unwrap(bench.trainer.model)
            type(base).enable_input_require_grads(base)
        found[name] = _measured(bench).one("update")
        measured[f"{name} gradients through the tower"] = _row_values(found[name])
    speed = found["with"].seconds.median / found["without"].seconds.median
    check = Check(name="times as fast without", value=speed, low=1.0, judged=not setup.dry)
    return {**measured, "speed": speed}, [check], {}


def decode(setup: Setup) -> Found:
    """64 completions by the transformers engine at the precision of frozen models: the share of the bandwidth
    that is left without an engine of fused kernels."""
    from vzero.grpo.data import image_opener

    model = checkpoints.load_model(setup.checkpoint(), torch.bfloat16, setup.device)
    count, length = (2, 4) if setup.dry else (16, 48)
    prompts, opener = setup.prompts("questioner", count), image_opener(count)
    requests = [Request(one.messages, opener(one.image), i) for i, one in enumerate(prompts)]
    engine = TransformersEngine(model, setup.processor, 64)
    asked = generation.Generation(
        "rollout", "questioner", engine, requests, SamplingConfig(n=4, max_new_tokens=length), 0
    )
    found, _ = generation.measure(asked, None, 1, lambda step: None)
    measured = row(found[0], _machine())
    share = measured.bandwidth_use or 0.0
    values = {"tokens_per_second": measured.completion_tokens_per_second, "share_of_bandwidth": share}
    return {**values, **_row_values(measured)}, [], {"unfused": share}


@dataclass(frozen=True)
class _Scored:
    log_probs: Tensor
    gradient: Tensor


def parity(setup: Setup) -> Found:
    """One micro-batch of a model of two layers at full width, with small pictures, since the CPU goes through
    the whole tower as well: the CPU in float32 against the GPU in float32 and under bfloat16 autocast."""
    torch.backends.cudnn.allow_tf32 = False  # which PyTorch allows convolutions, and calls float32
    folder = setup.checkpoint(None if setup.dry else 2)
    batch = _micro_batch(setup, folder)
    places = {"cpu, float32": ("cpu", False), "gpu, float32": (setup.device, False)}
    places["gpu, autocast"] = (setup.device, True)
    found = {name: _score(folder, batch, *place) for name, place in places.items()}
    reference, real = found["cpu, float32"], batch.completion_mask.bool()
    measured: Values = {}
    checks = []
    for name, mean, cosine in (("gpu, float32", 1e-4, 0.9999), ("gpu, autocast", 0.05, 0.99)):
        one = found[name]
        apart = (one.log_probs - reference.log_probs).abs()[real]
        angle = float(torch.nn.functional.cosine_similarity(one.gradient, reference.gradient, dim=0))
        norms = float(one.gradient.norm() / reference.gradient.norm())
        measured[name] = {"mean_difference": float(apart.mean()), "max_difference": float(apart.max())}
        measured[name] |= {"gradient_cosine": angle, "gradient_norm_ratio": norms}
        checks += [
            Check(name=f"{name}: mean difference in nats", value=float(apart.mean()), high=mean),
            Check(name=f"{name}: cosine of the gradients", value=angle, low=cosine),
            Check(name=f"{name}: ratio of their norms", value=norms, low=0.95, high=1.05),
        ]
    return measured, checks, {}


def _micro_batch(setup: Setup, folder: Any) -> MicroBatch:
    """Two groups of three completions as the trainer assembles them."""
    prompts = setup.prompts("solver", 2, None if setup.dry else SMALL_PICTURE)
    engine = StandIn(None, folder)
    requests = [Request(one.messages, open_image(one.image), 0) for one in prompts]
    rollouts = engine.generate(requests, SamplingConfig(n=3, max_new_tokens=6 if setup.dry else 48))
    assembly = Assembly(setup.processor, open_image, count=1, steps=1, shares_prompts=True, sorts=False)
    advantages = torch.tensor([[1.0, -1.0, 0.5], [-2.0, 1.0, 1.0]])
    return assembly.micro_batches(prompts, rollouts, advantages, torch.tensor(1))[0]


def _score(folder: Any, batch: MicroBatch, device: str, autocast: bool) -> _Scored:
    """Log-probabilities, and all gradients of their weighed sum, on the CPU."""
    from trl.trainer.utils import add_fused_lm_head

    model = checkpoints.load_model(folder, torch.float32, device).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    log_probs.prepare(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    moved = batch.to(torch.device(device))
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        values, _ = log_probs.completion_log_probs(model, moved)
    (values * moved.advantages[:, None]).sum().backward()
    gradients = [one.grad.float().cpu().flatten() for one in model.parameters() if one.grad is not None]
    found = _Scored(values.detach().float().cpu(), torch.cat(gradients))
    del model
    gc.collect()
    return found
