"""Packed micro-batches: the layout by hand; values and gradients against one unpadded sequence at a time; the
padded path beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from tests import tiny_model
from tests.unit.test_grpo_training import SETTINGS, job_for
from tests.unit.test_grpo_training import base as base
from tests.unit.test_grpo_training import prompts as prompts
from vzero.grpo import log_probs, micro_batches
from vzero.grpo.data import Prompt
from vzero.grpo.packing import pack
from vzero.grpo.train import train
from vzero.runtime import artefacts

PAD, IMAGE = 0, 3


def test_a_packed_row_by_hand() -> None:
    """Prompts 5 6 7 and 8 9; completions 1 2 and 3 of the first, 4 of the second."""
    packed = pack(
        torch.tensor([[5, 6, 7], [PAD, 8, 9]]),
        torch.tensor([[1, 1, 1], [0, 1, 1]]),
        torch.tensor([[1, 2], [3, PAD], [4, PAD]]),
        torch.tensor([[1, 1], [1, 0], [1, 0]]),
        torch.tensor([0, 0, 1]),
        [torch.tensor([[0, 1, 5]] * 3), torch.tensor([[0, 1]] * 3)],
    )
    assert packed.input_ids.tolist() == [[5, 6, 8, 7, 1, 7, 9]]
    assert packed.targets.tolist() == [[-100, -100, -100, 1, 2, 3, 4]]
    assert packed.position_ids.tolist() == [[[0, 1, 0, 5, 6, 5, 1]]] * 3
    layout = packed.layout
    assert layout.prompts.tolist() == [[0, 1], [2, 0]]
    assert layout.sequences.tolist() == [[3, 4], [5, 0], [6, 0]]
    assert layout.group.tolist() == [0, 0, 1]
    # prompt columns, then own columns, the last of which only a later position may see
    assert layout.visible[0, 0].tolist() == [[True, True, True, False], [True, True, True, True]]
    assert layout.visible[2, 0, 0].tolist() == [True, False, True, False]
    # numbers among 2 x 2 prompt positions and then 3 x 2 sequence positions
    assert layout.order.tolist() == [0, 1, 2, 4, 5, 6, 8]


def batch_of(model, generator: torch.Generator, groups: list[int]) -> dict:
    """A micro-batch as TRL pads it: groups of the given sizes, prompts and completions of random lengths,
    pictures of two sizes."""
    rows, pixels, grids, pictures = [], [], [], []
    for size in groups:
        side = int(torch.randint(2, 4, (1,), generator=generator)) * 2
        grid = torch.tensor([[1, side, side]])
        text = torch.randint(
            20, 140, (int(torch.randint(1, 7, (1,), generator=generator)),), generator=generator
        )
        prompt = torch.cat(
            [torch.tensor([7, 5]), torch.full((side * side // 4,), IMAGE), torch.tensor([6]), text]
        )
        pixels.append(torch.randn(side * side, 3 * 2 * 7 * 7, generator=generator))
        grids.append(grid)
        for j in range(size):
            length = int(torch.randint(1, 8, (1,), generator=generator))
            rows.append((prompt, torch.randint(20, 140, (length,), generator=generator)))
            pictures.append(int(j == 0))
    width, own = max(len(one) for one, _ in rows), max(len(one) for _, one in rows)
    ids, mask = (
        torch.full((len(rows), width + own), PAD),
        torch.zeros(len(rows), width + own, dtype=torch.int64),
    )
    for i, (prompt, completion) in enumerate(rows):
        ids[i, width - len(prompt) : width + len(completion)] = torch.cat([prompt, completion])
        mask[i, width - len(prompt) : width + len(completion)] = 1
    return {
        "rows": rows,
        "ids": ids,
        "mask": mask,
        "own": own,
        "pictures": pictures,
        "pixels": pixels,
        "grids": grids,
    }


def one_at_a_time(model, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """(sequences, completion time) log-probabilities and entropies by Hugging Face's own forward,
    unpadded."""
    values, entropies = (
        torch.zeros(len(batch["rows"]), batch["own"]),
        torch.zeros(len(batch["rows"]), batch["own"]),
    )
    for i, (prompt, completion) in enumerate(batch["rows"]):
        picture = sum(batch["pictures"][: i + 1]) - 1
        ids = torch.cat([prompt, completion])[None]
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == IMAGE).int(),
            pixel_values=batch["pixels"][picture],
            image_grid_thw=batch["grids"][picture],
        ).logits[0, len(prompt) - 1 : -1]
        scores = logits.log_softmax(-1)
        values[i, : len(completion)] = scores.gather(1, completion[:, None])[:, 0]
        entropies[i, : len(completion)] = -(scores.exp() * scores).sum(-1)
    return values, entropies


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("groups", [[3, 3], [1, 4, 2], [2]])
def test_values_and_gradients_are_those_of_single_sequences(groups: list[int], checkpointing: bool) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(sum(groups))
    names = tiny_model.vocabulary(144)
    plain, packed = (
        tiny_model.model(names),
        tiny_model.model(names),
    )  # two key heads share one, as in larger models
    batch = batch_of(plain, generator, groups)
    weights = (
        torch.randn(len(batch["rows"]), batch["own"], generator=generator) * batch["mask"][:, -batch["own"] :]
    )

    expected, entropies = one_at_a_time(plain, batch)
    (expected * weights).sum().backward()
    add_fused_lm_head(packed, outputs=("log_probs", "entropy"))
    assert log_probs.prepare(packed)
    if checkpointing:
        packed.train()
        packed.gradient_checkpointing_enable()
    found, found_entropies = log_probs.completion_log_probs(
        packed,
        batch["ids"],
        batch["mask"],
        batch["own"],
        batch["pictures"],
        torch.cat(batch["pixels"]),
        torch.cat(batch["grids"]),
    )
    (found * weights).sum().backward()

    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(found_entropies, entropies, atol=1e-5)
    for (name, mine), (_, theirs) in zip(packed.named_parameters(), plain.named_parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert scale > 0 and float((mine.grad - theirs.grad).abs().max()) <= 1e-5 * max(scale, 1), name


def test_a_prepared_model_still_reads_padded_batches() -> None:
    """The very model that trains draws the rollouts, by batches that are not packed."""
    names = tiny_model.vocabulary(144)
    plain, prepared = tiny_model.model(names), tiny_model.model(names)
    assert log_probs.prepare(prepared)
    ids = torch.randint(20, 140, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        assert torch.equal(
            plain(input_ids=ids, attention_mask=mask).logits,
            prepared(input_ids=ids, attention_mask=mask).logits,
        )
        assert torch.equal(plain(input_ids=ids).logits, prepared(input_ids=ids).logits)


def test_unknown_architectures_are_left_alone() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    before = other.config._attn_implementation
    assert not log_probs.prepare(other) and other.config._attn_implementation == before


def test_a_picture_stays_once_with_the_first_of_its_group() -> None:
    """Groups of 3 in micro-batches of 2: a group that is cut brings its picture to each part."""
    pixels = (
        torch.arange(6).repeat_interleave(4)[:, None].float()
    )  # each of 6 sequences with its own copy of 2 x 2 patches
    batch = {
        "prompt_ids": torch.ones(6, 2, dtype=torch.int64),
        "prompt_mask": torch.ones(6, 2, dtype=torch.int64),
        "completion_ids": torch.ones(6, 1, dtype=torch.int64),
        "completion_mask": torch.ones(6, 1, dtype=torch.int64),
        "num_items_in_batch": torch.tensor(6),
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, 2, 2]] * 6),
        "num_images": [1] * 6,
    }
    found = micro_batches.shared(batch, 3, group_size=3)
    assert [one["num_images"] for one in found] == [[1, 0], [1, 1], [1, 0]]
    assert [one["pixel_values"][::4, 0].tolist() for one in found] == [[0], [2, 3], [4]]
    assert [len(one["image_grid_thw"]) for one in found] == [1, 2, 1]


def test_groups_are_sorted_by_length_within_their_step() -> None:
    lengths = torch.tensor([[5, 1], [2, 2], [3, 3], [1, 4]])  # four groups of two, in two steps
    batch = {
        "prompt_mask": torch.ones(8, 1, dtype=torch.int64),
        "completion_mask": (torch.arange(5) < lengths.flatten()[:, None]).long(),
        "row": torch.arange(8),
    }
    order = micro_batches.by_length(batch, steps=2, group_size=2)
    assert order.tolist() == [2, 3, 0, 1, 4, 5, 6, 7]
    assert micro_batches.reordered(batch, order)["row"].tolist() == order.tolist()


@pytest.mark.parametrize("loss", ["dapo", "bnpo"])
def test_packed_and_padded_training_agree(
    base: Path, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """The same losses, gradient norms and KL, step by step, from the path of other architectures."""
    settings = SETTINGS.model_copy(
        update={"loss": loss, "freeze_vision": False, "micro_batch": 6 if loss == "bnpo" else 3}
    )
    train(replace(job_for(tmp_path / "packed", base, prompts), settings=settings))
    monkeypatch.setattr(log_probs, "SHARED_IMAGE_MODELS", frozenset())
    train(replace(job_for(tmp_path / "padded", base, prompts), settings=settings))
    packed, padded = (
        artefacts.read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("packed", "padded")
    )
    assert len(packed) == len(padded) == 4
    for mine, theirs in zip(packed, padded, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
