"""Sections of `gpu_check.py` about kernels: the vision tower, and attention over packed rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tools.gpu_check_models import Setup, seconds_of, synchronize
from tools.gpu_check_report import Check, Found, Values
from vzero.grpo.attention import attend
from vzero.grpo.packing import Packed, pack
from vzero.runtime import windows


def vision(setup: Setup) -> Found:
    """The tower on one picture: Hugging Face's call per window against windows grouped by length, the
    product's."""
    grid = torch.tensor([[1, 8, 10] if setup.dry else [1, 62, 82]], device=setup.device)
    tower = setup.model(None if setup.dry else 1).model.visual.float().train()
    pixels = torch.randn(int(grid.prod()), 3 * 2 * 14 * 14, device=setup.device)
    with torch.no_grad():
        exact = _features(tower, pixels, grid, torch.float32)
    loop, plain = _tower(tower, pixels, grid, setup)
    measured: Values = {"loop": loop}
    if not windows.group(tower):
        raise RuntimeError("the tower cannot be grouped: it is not Qwen2.5-VL's, or does not attend by sdpa")
    measured["grouped"], ours = _tower(tower, pixels, grid, setup)
    with torch.no_grad():
        apart = _difference(exact, _features(tower, pixels, grid, torch.float32))
    speeds = {
        kind: loop[f"{kind}_seconds"] / measured["grouped"][f"{kind}_seconds"] for kind in ("forward", "both")
    }
    measured |= {"speed": speeds}
    checks = [
        Check(name="norm of the difference / norm, float32", value=apart, high=1e-3),
        Check(name="norm of the difference / norm, bfloat16", value=_difference(plain, ours), high=0.03),
        Check(name="grouped, times as fast forward", value=speeds["forward"], low=5, judged=not setup.dry),
        Check(name="grouped, times as fast with backward", value=speeds["both"], low=3, judged=not setup.dry),
    ]
    return measured, checks, {}


def _features(tower: Any, pixels: Tensor, grid: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = tower(pixels, grid).pooler_output
    return torch.cat(list(found)) if isinstance(found, list | tuple) else found


def _difference(one: Tensor, other: Tensor) -> float:
    """Its norm as a share of the norm of `one`."""
    return float((one - other).norm() / one.norm())


def _tower(tower: Any, pixels: Tensor, grid: Tensor, setup: Setup) -> tuple[Values, Tensor]:
    """Seconds and launches of one picture, and the features."""

    def run() -> Tensor:
        return _features(tower, pixels, grid, torch.bfloat16)

    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    def both() -> None:
        run().float().square().mean().backward()
        tower.zero_grad()

    times = {"forward_seconds": seconds_of(forward, 3, setup.device)}
    times |= {"both_seconds": seconds_of(both, 3, setup.device)}
    return {**times, **kernels(forward)}, forward().float()


def kernels(call: Callable[[], object]) -> Values:
    """How many kernels a call launches on a GPU, how long they run, and which of them attend."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        call()
        synchronize("cuda" if torch.cuda.is_available() else "cpu")
    events = [one for one in profiler.key_averages() if "CUDA" in str(one.device_type).upper()]
    words = ("flash", "fmha", "cudnn", "attention", "efficient", "flex")
    attend = sorted({one.key[:60] for one in events if any(word in one.key.lower() for word in words)})
    busy = sum(getattr(one, "self_device_time_total", 0.0) for one in events) / 1e6
    names = ", ".join(attend[:4])
    return {"launches": sum(one.count for one in events), "busy_seconds": busy, "attention_kernels": names}


SHAPES = {  # prompts, sequences a prompt, prompt tokens, completion lengths
    "solver, longest": (2, 5, 1400, [4096] * 10),
    "solver, usual": (2, 5, 1400, [1200] + [400] * 9),
    "questioner, usual": (2, 4, 1400, [1000] + [400] * 7),
}
TINY_SHAPES = {"tiny": (2, 2, 9, [5, 3, 4, 5])}


def attention(setup: Setup) -> Found:
    """Attention over packed rows at the presets' shapes, by two dense calls and by FlexAttention (which a GPU
    uses): seconds, memory and kernels by dtype, and whether it is right: sequences by themselves are the
    reference."""
    measured: Values = {}
    checks = []
    kinds = {"dense": False} if setup.dry else {"dense": False, "flex": True}  # no backward pass on a CPU
    for (name, shape), (kind, blocks), dtype in itertools.product(
        (TINY_SHAPES if setup.dry else SHAPES).items(), kinds.items(), (torch.float32, torch.bfloat16)
    ):
        if blocks and dtype == torch.float32:  # never asked for
            continue
        label = f"{name}, {kind}, {str(dtype).removeprefix('torch.')}"
        try:
            measured[label], apart = _attend(setup, shape, dtype, blocks)
        except Exception as error:  # a kernel that cannot be built says nothing about the others
            measured[label], apart = {"error": f"{type(error).__name__}: {str(error)[:300]}"}, None
        bound = 1e-3 if dtype == torch.float32 else 3e-2
        checks.append(Check(name=f"{label}: difference from single sequences", value=apart, high=bound))
    return measured, checks, {}


def _attend(
    setup: Setup, shape: tuple[int, int, int, list[int]], dtype: torch.dtype, blocks: bool
) -> tuple[Values, float]:
    groups, _, prompt, lengths = shape
    packed, module = _packed(setup, shape, blocks), torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 8, True  # type: ignore[assignment]
    tokens, device = groups * (prompt - 1) + sum(lengths), setup.device
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, tokens, 128, device=device, dtype=dtype).requires_grad_()
        for heads in (16, 2, 2)
    )

    def run() -> Tensor:
        return attend(module.train(), query, key, value, packed.mask, packed.layout, scaling=128**-0.5)[0]

    def both() -> None:
        run().float().square().mean().backward()

    pairs = groups * prompt**2 / 2 + sum(x * prompt + x * x / 2 for x in lengths)
    seconds, base = seconds_of(both, 3, device), 0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
    both()
    synchronize(device)
    peak = torch.cuda.max_memory_allocated() - base if device == "cuda" else None
    useful = 3.5 * 4 * 16 * 128 * pairs / seconds / 1e12  # the backward is 2.5 forwards
    apart = _apart(run().detach(), query, key, value, shape)
    found: Values = {"seconds": seconds, "useful_tflops": useful, "peak_bytes": peak, **kernels(both)}
    return found, apart


def _packed(setup: Setup, shape: tuple[int, int, int, list[int]], blocks: bool) -> Packed:
    """Of the packed row, by the product's own packing."""
    groups, each, prompt, lengths = shape
    longest, device = max(lengths), setup.device
    real = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long().to(device)
    prompts = torch.ones(groups, prompt, dtype=torch.int64, device=device)
    group = torch.arange(groups, device=device).repeat_interleave(each)
    positions = torch.arange(prompt, device=device).expand(3, groups, -1)
    return pack(prompts, prompts, torch.ones_like(real), real, group, positions, blocks)


def _apart(ours: Tensor, query: Tensor, key: Tensor, value: Tensor, shape: Any) -> float:
    """Largest difference from plain causal attention in float32 over the first and the last sequence."""
    groups, each, prompt, lengths = shape
    before, worst = prompt - 1, 0.0
    starts = [groups * before + sum(lengths[:i]) for i in range(len(lengths))]
    for i in (0, len(lengths) - 1):
        first, own = (i // each) * before, slice(starts[i], starts[i] + lengths[i])
        q, k, v = [
            torch.cat([one[:, :, first : first + before], one[:, :, own]], 2).float().detach()
            for one in (query, key, value)
        ]
        plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        worst = max(worst, float((plain[0, :, before:].transpose(0, 1) - ours[0, own].float()).abs().max()))
    return worst
