"""Keys and values of the transformers engine: the product's own cache beside what `plan` says."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from harness.cost import shapes
from harness.perf.plan import memory
from vzero.presets import load_preset
from vzero.rollout.encoding import Prefilled
from vzero.rollout.kv_cache import Arrivals, SharedPrompts

LAYERS, HEADS, SIZE = 2, 1, 3


def held(prompt: int, completion: int, prompts: int, n: int) -> int:
    """Bytes of the cache when `n` completions of each prompt end at their longest, in bfloat16."""

    def states(rows: int, tokens: int) -> torch.Tensor:
        return torch.zeros(rows, HEADS, tokens, SIZE, dtype=torch.bfloat16)

    read, mask = DynamicCache(), torch.ones(prompts, prompt, dtype=torch.int64)
    for layer in range(LAYERS):
        read.update(states(prompts, prompt), states(prompts, prompt), layer)
    prefilled = Prefilled(torch.zeros(prompts, 5), read, mask, mask, torch.zeros(3, prompts, 1))
    counts = torch.full((prompts,), n)
    cache, found = SharedPrompts(Arrivals(prefilled, torch.arange(prompts), counts), prompts * n), []
    for _ in range(completion - 1):  # the last token of a completion is not fed
        cache.step()
        one = states(prompts * n, 1)
        found = [states for layer in range(LAYERS) for states in cache.update(one, one, layer)]
    return sum(one.untyped_storage().nbytes() for one in (*found, *cache.keys, *cache.values))


@pytest.mark.parametrize(
    ("prompt", "completion", "n"), [(12, 40, 8), (700, 256, 8), (1800, 2048, 10), (90, 5, 1), (64, 8, 4)]
)
def test_the_cache_is_as_large_as_the_plan_says(prompt: int, completion: int, n: int) -> None:
    each = 2 * 2 * LAYERS * HEADS * SIZE  # bytes of a token's keys and values
    assert held(prompt, completion, 3, n) == each * memory.cached_tokens(3 * n, 3, prompt, completion)


def test_a_preset_that_draws_with_transformers_has_room_for_each_prompt_once_and_every_completion() -> None:
    preset = load_preset("qwen2.5-vl-3b-lora-24gb")
    size, grpo, picture = shapes.size_of(preset.model), preset.solver.grpo, 300
    (phase,) = (one for one in memory.phases(preset, size, picture, 24e9) if one.name == "solver: rollout")
    prompt = memory.longest_prompt(preset, "solver", picture)
    running = min(preset.engine.batch_sequences, grpo.prompts_per_generation * grpo.group_size)
    least = 2 * size.kv * running * (prompt / grpo.group_size + grpo.max_completion_tokens)
    assert least <= phase.parts["keys and values"] <= 1.3 * least
