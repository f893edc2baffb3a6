"""Prompts that several rows share, beside attention over each row's own copy of everything."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache

from vzero.rollout import kv_cache
from vzero.rollout.attention import attend
from vzero.rollout.encoding import Prefilled
from vzero.rollout.kv_cache import Arrivals, SharedPrompts

LAYERS, SIZE = 2, 4


@dataclass
class Row:
    """What a row should see: (key heads, tokens, head size) of each layer."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]


def arriving(widths: list[int], units: list[tuple[int, int]], heads: int) -> tuple[Arrivals, list[Row]]:
    """Prompts of the given widths, and units as (prompt, completions); the rows they make."""
    longest = max(widths)
    mask = torch.tensor([[int(i >= longest - width) for i in range(longest)] for width in widths])
    cache, states = DynamicCache(), []
    for layer in range(LAYERS):
        pair = torch.randn(2, len(widths), heads, longest, SIZE)
        cache.update(pair[0], pair[1], layer)
        states.append(pair)
    prompts, counts = (torch.tensor(one) for one in zip(*units, strict=True))
    nothing = torch.zeros(1)
    arrivals = Arrivals(
        Prefilled(torch.zeros(len(widths), 2), cache, nothing, mask, nothing), prompts, counts
    )

    def row(prompt: int) -> Row:
        kept = slice(longest - widths[prompt], None)
        keys, values = ([pair[i][prompt, :, kept] for pair in states] for i in range(2))
        return Row(keys, values)

    return arrivals, [row(prompt) for prompt, count in units for _ in range(count)]


def stepped(cache: SharedPrompts, rows: list[Row], heads: int, group: int) -> None:
    """One more token of every row, attended to in every layer."""
    inputs = cache.step()
    for layer in range(LAYERS):
        new = torch.randn(2, len(rows), heads, 1, SIZE)
        query = torch.randn(len(rows), heads * group, 1, SIZE)
        keys, values = cache.update(new[0], new[1], layer)
        module = SimpleNamespace(layer_idx=layer)
        mask = inputs["attention_mask"]
        found, _ = attend(module, query, keys, values, mask, shared_prompts=inputs["shared_prompts"])
        for i, row in enumerate(rows):
            row.keys[layer] = torch.cat([row.keys[layer], new[0, i]], dim=1)
            row.values[layer] = torch.cat([row.values[layer], new[1, i]], dim=1)
            one = (query[i], row.keys[layer], row.values[layer])
            expected = scaled_dot_product_attention(*one, enable_gqa=True).transpose(0, 1)
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-4)


NEWS = st.lists(st.integers(1, 6), min_size=1, max_size=3).flatmap(
    lambda widths: st.tuples(
        st.just(widths),
        st.lists(
            st.tuples(st.integers(0, len(widths) - 1), st.integers(1, 4)), min_size=1, max_size=4
        ).filter(lambda units: {prompt for prompt, _ in units} == set(range(len(widths)))),
    )
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2]), st.sampled_from([1, 3]), st.integers(0, 2**31))
def test_each_row_sees_its_prompt_and_its_own(data: st.DataObject, heads: int, group: int, seed: int) -> None:
    """Rows that join, age, change places and leave see just what each would alone, whatever was in the memory
    that they are given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_cache, "_SPARE_TOKENS", data.draw(st.integers(1, 20)))
        patch.setattr(torch.Tensor, "new_empty", lambda one, *shape: one.new_full(shape, torch.nan))
        torch.manual_seed(seed)
        arrivals, rows = arriving(*data.draw(NEWS), heads)
        cache = SharedPrompts(arrivals, 200)
        for _ in range(data.draw(st.integers(1, 12))):
            for _ in range(data.draw(st.integers(1, 8))):
                stepped(cache, rows, heads, group)
            keep = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(1, len(rows)))]
            cache.select(torch.tensor(keep))
            rows = [rows[i] for i in keep]
            if data.draw(st.booleans()) and len(rows) < 40:
                arrivals, others = arriving(*data.draw(NEWS), heads)
                cache.join(arrivals)
                rows += others
        stepped(cache, rows, heads, group)


def test_large_scores_are_not_rounded() -> None:
    """Keys with a common offset, as biases make them: in bfloat16 as near to the exact as `sdpa`."""
    torch.manual_seed(0)
    width, rows, size = 300, 6, 128
    cache, mask, nothing = DynamicCache(), torch.ones(1, width), torch.zeros(1)
    offset = 3 * torch.randn(size)
    keys, values = torch.randn(1, 2, width, size) + offset, torch.randn(1, 2, width, size)
    cache.update(keys.bfloat16(), values.bfloat16(), 0)
    prefilled = Prefilled(torch.zeros(1, 2), cache, nothing, mask, nothing)
    shared = SharedPrompts(Arrivals(prefilled, torch.tensor([0]), torch.tensor([rows])), rows)
    inputs, new = shared.step(), (torch.randn(2, rows, 2, 1, size) + offset).bfloat16()
    query = (torch.randn(rows, 4, 1, size) + offset).bfloat16()
    own = shared.update(new[0], new[1], 0)
    module = SimpleNamespace(layer_idx=0)
    found, _ = attend(module, query, *own, inputs["attention_mask"], shared_prompts=shared)
    whole = [
        torch.cat([one.bfloat16().expand(rows, -1, -1, -1), mine], dim=2)
        for one, mine in ((keys, new[0]), (values, new[1]))
    ]
    exact = scaled_dot_product_attention(*(one.double() for one in (query, *whole)), enable_gqa=True)
    theirs = scaled_dot_product_attention(query, *whole, enable_gqa=True)
    apart, allowed = ((one.double() - exact).norm() for one in (found.transpose(1, 2), theirs))
    assert float((query.double() @ whole[0].double().repeat_interleave(2, 1).mT).max()) / size**0.5 > 50
    assert apart < 1.5 * allowed


def test_columns_and_prompts_of_rows_that_left_are_used_again() -> None:
    """A stream without end needs no more columns than its longest row has tokens, and no prompt that nobody
    continues."""
    torch.manual_seed(0)
    arrivals, rows = arriving([3], [(0, 4)], 1)
    cache, columns, prompts = SharedPrompts(arrivals, 8), [], []
    for step in range(100):
        stepped(cache, rows, 1, 1)
        columns.append(cache.get_seq_length())
        prompts.append(len(cache.hidden))
        if step % 5 == 4:  # four rows come as the four that came ten steps ago leave
            if len(rows) == 8:
                cache.select(torch.tensor([4, 5, 6, 7]))
                rows = rows[4:]
            arrivals, others = arriving([3], [(0, 4)], 1)
            cache.join(arrivals)
            rows += others
    assert max(columns) == 10 and max(prompts) == 2
