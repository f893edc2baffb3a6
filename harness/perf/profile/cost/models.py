"""The shapes that are estimated: those of `vzero-harness plan`, built from published configs without
storage."""

from __future__ import annotations

from dataclasses import replace

from harness.perf.profile.flops import Shape

NAMES = ("Qwen2.5-VL-3B", "Qwen2.5-VL-7B")


def shape_named(name: str) -> Shape:
    """Of one of NAMES, keys and values in bfloat16."""
    from harness.perf.plan.shapes import size_of

    size = size_of(f"Qwen/{name}-Instruct")
    return replace(size.flops, kv_bytes=2 * size.kv)
