"""Weights split by FSDP2, in a group of one process; two of them are in
tests/faults/test_several_processes.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.tensor import DTensor

from tests import tiny_model
from vzero.grpo import sharding, states
from vzero.rollout.protocol import Message, Request
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import checkpoints


@pytest.fixture
def group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return tiny_model.build(tmp_path / "model")


def forward(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.tensor([[20, 21, 22, 23]])
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def draw(model: torch.nn.Module, base: Path) -> list[tuple[int, ...]]:
    from vzero.config import SamplingConfig

    engine = TransformersEngine(model, checkpoints.load_processor(base), 8)
    request = Request((Message("user", "how many red ?"),), tiny_model.picture(1), 5)
    (rollout,) = engine.generate([request], SamplingConfig(n=3, max_new_tokens=5))
    return [one.token_ids for one in rollout.completions]


def stepped(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    forward(model).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_rollouts_training_and_files_of_split_weights_are_those_of_whole_ones(
    group: None, base: Path, tmp_path: Path
) -> None:
    plain, parts = checkpoints.load_model(base), checkpoints.load_model(base)
    optimizers = []
    sharding.split(parts)
    assert sharding.is_split(parts) and not sharding.is_split(plain)
    assert all(isinstance(one, DTensor) for one in parts.parameters())
    for model in (plain, parts):
        optimizers.append(torch.optim.AdamW(model.parameters(), lr=1e-2))
    with sharding.unsharded(parts):  # before any forward of the root: parts of it are called first
        assert draw(parts, base) == draw(plain, base)
        assert not any(isinstance(one, DTensor) for one in parts.parameters())
    assert all(isinstance(one, DTensor) for one in parts.parameters())
    for model, optimizer in zip((plain, parts), optimizers, strict=True):
        for _ in range(2):
            stepped(model, optimizer)
    for name, model, found in (("plain", plain, None), ("parts", parts, sharding.model_state_dict(parts))):
        checkpoints.save(model, checkpoints.load_processor(base), tmp_path / name, found)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "parts"))
    assert one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], atol=1e-6) for name in one
    )
    assert not all(
        torch.equal(one[name], value) for name, value in load_file(base / "model.safetensors").items()
    )
    assert (tmp_path / "plain" / "config.json").read_text() == (
        tmp_path / "parts" / "config.json"
    ).read_text()
    # A third model, of which no whole weights ever were, goes on from what was saved, as the second does.
    states.save(parts, optimizers[1], tmp_path)
    again = sharding.load(base, torch.float32, "cpu")
    assert all(isinstance(one, DTensor) for one in again.parameters())
    untouched = sharding.model_state_dict(again)
    assert all(torch.equal(value, untouched[name]) for name, value in named(base).items())
    resumed = torch.optim.AdamW(again.parameters(), lr=1e-2)
    states.load_weights(again, tmp_path)
    states.load_moments(again, resumed, tmp_path)
    stepped(parts, optimizers[1])
    stepped(again, resumed)
    expected, found = sharding.model_state_dict(parts), sharding.model_state_dict(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def named(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint by the model's own names, a tied one once."""
    return dict(checkpoints.load_model(folder).named_parameters())


def test_rows_of_any_number_of_processes_are_read(base: Path, tmp_path: Path) -> None:
    """Three wrote, the last of them little where a weight has few rows; one reads. What each of any number
    would read of a whole file is together that file."""
    one, other = checkpoints.load_model(base), checkpoints.load_model(base)
    for rank in range(3):
        rows = {name: states._own_rows(value.detach(), 3, rank) for name, value in one.named_parameters()}
        save_file(
            {name: value.clone() for name, value in rows.items()},
            tmp_path / f"weight-{rank}-of-3.safetensors",
        )
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    states.load_weights(other, tmp_path)
    assert all(
        torch.equal(value, dict(one.named_parameters())[name]) for name, value in other.named_parameters()
    )
    for size in (1, 2, 3, 5, 9):
        whole = torch.arange(12.0).view(4, 3)
        assert torch.equal(torch.cat([states._own_rows(whole, size, rank) for rank in range(size)]), whole)
