"""Keys and values of the transformers engine: the product's own cache on tensors without storage, beside what
`plan` says."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from harness.cost import shapes
from harness.perf.plan import memory
from vzero.presets import load_preset
from vzero.rollout.kv_cache import fan_out

LAYERS, HEADS, SIZE = 3, 2, 16


def held(prompt: int, completion: int, prompts: int, n: int) -> int:
    """Bytes of the cache when `n` completions of each prompt end at their longest, in bfloat16."""
    cache, rows = DynamicCache(), torch.arange(prompts).repeat_interleave(n)

    def states(rows: int, tokens: int) -> torch.Tensor:
        return torch.empty(rows, HEADS, tokens, SIZE, device="meta", dtype=torch.bfloat16)

    for layer in range(LAYERS):
        cache.update(states(prompts, prompt), states(prompts, prompt), layer)
    fan_out(cache, rows.to("meta"), completion, len(rows))
    for _ in range(completion):
        for layer in range(LAYERS):
            cache.update(states(len(rows), 1), states(len(rows), 1), layer)
    return sum(2 * layer.keys.untyped_storage().nbytes() for layer in cache.layers)


@pytest.mark.parametrize(
    ("prompt", "completion", "n"), [(12, 40, 8), (700, 256, 8), (1800, 2048, 10), (90, 5, 1), (64, 8, 4)]
)
def test_the_cache_is_as_wide_as_the_plan_says(prompt: int, completion: int, n: int) -> None:
    each = 2 * 2 * LAYERS * HEADS * SIZE  # bytes of a token's keys and values
    assert held(prompt, completion, 3, n) == each * 3 * n * memory.cache_width(prompt, completion)


def test_a_preset_that_draws_with_transformers_has_room_for_every_rows_whole_prompt() -> None:
    preset = load_preset("qwen2.5-vl-3b-lora-24gb")
    size, grpo, picture = shapes.size_of(preset.model), preset.solver.grpo, 300
    (phase,) = (one for one in memory.phases(preset, size, picture, 24e9) if one.name == "solver: rollout")
    prompt = memory.longest_prompt(preset, "solver", picture)
    running = min(preset.engine.batch_sequences, grpo.prompts_per_generation * grpo.group_size)
    least = 2 * size.kv * running * (prompt + grpo.max_completion_tokens)
    assert least <= phase.parts["keys and values"] <= 1.3 * least
