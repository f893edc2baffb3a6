"""Packed micro-batches: the layout by hand; values and gradients against one unpadded sequence at a time; the
padded path beside it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.nn.attention import flex_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2VLImageProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from trl.trainer.utils import add_fused_lm_head

from tests import tiny_model
from tests.unit.test_grpo_training import SETTINGS, job_for
from tests.unit.test_grpo_training import base as base
from tests.unit.test_grpo_training import prompts as prompts
from vzero.errors import RolloutError
from vzero.grpo import attention, log_probs
from vzero.grpo.data import Prompt
from vzero.grpo.micro_batches import Assembly, MicroBatch, by_length
from vzero.grpo.packing import block_mask, pack
from vzero.grpo.train import train
from vzero.images.records import open_image
from vzero.rollout import template
from vzero.rollout.protocol import Completion, Rollout
from vzero.runtime import architectures, artefacts, checkpoints

pytestmark = pytest.mark.slow

PAD, IMAGE = 0, 3


def test_a_packed_row_by_hand() -> None:
    """Prompts 5 6 7 and 8 9; completions 1 2 and 3 of the first, 4 of the second."""
    packed = pack(
        torch.tensor([[5, 6, 7], [PAD, 8, 9]]),
        torch.tensor([[1, 1, 1], [0, 1, 1]]),
        torch.tensor([[1, 2], [3, PAD], [4, PAD]]),
        torch.tensor([[1, 1], [1, 0], [1, 0]]),
        torch.tensor([0, 0, 1]),
        torch.tensor([[[0, 1, 5], [0, 0, 1]]] * 3),
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


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float64 also where the model's code asks for float32 (norms, rotations): what is compared is then the
    mathematics, and not how a CPU happens to round."""

    def norm(self, states: torch.Tensor) -> torch.Tensor:
        return self.weight * states * (states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()

    monkeypatch.setattr(modeling_qwen2_5_vl.Qwen2_5_VLRMSNorm, "forward", norm)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def add_exact_head(model) -> None:
    """What TRL's fused head computes, over full logits: its own sums are float32 whatever it is given."""

    def forward(*, labels=None, shift_labels=None, fused_lm_head: bool, **inputs) -> SimpleNamespace:
        wanted = F.pad(labels[:, 1:], (0, 1), value=-100) if shift_labels is None else shift_labels
        states = model.base_model(**inputs, use_cache=False).last_hidden_state
        scores = model.get_output_embeddings()(states).log_softmax(-1)
        drawn = scores.gather(-1, wanted.clamp(min=0)[:, :, None])[:, :, 0]
        entropy = -(scores.exp() * scores).sum(-1)
        # TRL puts the score of a token where the token stands in a padded row, less its first column.
        parts = [one.masked_fill(wanted == -100, 0) for one in (drawn, entropy)]
        parts = [one[:, :-1] for one in parts] if shift_labels is None else parts
        return SimpleNamespace(log_probs=parts[0], entropy=parts[1])

    model.forward = forward


def batch_of(generator: torch.Generator, groups: list[int]) -> tuple[MicroBatch, list[tuple]]:
    """A micro-batch of groups of the given sizes, prompts and completions of random lengths, pictures of two
    sizes; and its sequences: prompt, completion, patches, grid."""
    rows, prompts, pixels, grids = [], [], [], []
    for size in groups:
        side = int(torch.randint(2, 4, (1,), generator=generator)) * 2
        text = torch.randint(
            20, 140, (int(torch.randint(1, 7, (1,), generator=generator)),), generator=generator
        )
        prompts.append(
            torch.cat([torch.tensor([7, 5]), torch.full((side * side // 4,), IMAGE), torch.tensor([6]), text])
        )
        pixels.append(torch.randn(side * side, 3 * 2 * 7 * 7, generator=generator).double())
        grids.append(torch.tensor([[1, side, side]]))
        for _ in range(size):
            length = int(torch.randint(1, 8, (1,), generator=generator))
            completion = torch.randint(20, 140, (length,), generator=generator)
            rows.append((prompts[-1], completion, pixels[-1], grids[-1]))
    completions = [one[1] for one in rows]
    encoded = {
        "input_ids": pad_sequence(prompts, True, PAD, "left"),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in prompts], True, 0, "left"),
        "pixel_values": torch.cat(pixels),
        "image_grid_thw": torch.cat(grids),
    }
    batch = MicroBatch(
        encoded,
        torch.arange(len(groups)).repeat_interleave(torch.tensor(groups)),
        pad_sequence(completions, True, PAD),
        pad_sequence([torch.ones_like(one) for one in completions], True, 0),
        torch.zeros(len(rows)),
        torch.tensor(sum(map(len, completions))),
    )
    return batch, rows


def one_at_a_time(model, batch: MicroBatch, rows: list[tuple]) -> tuple[torch.Tensor, torch.Tensor]:
    """(sequences, completion time) log-probabilities and entropies by Hugging Face's own forward,
    unpadded."""
    values = torch.zeros(batch.completion_ids.shape, dtype=torch.float64)
    entropies = torch.zeros_like(values)
    for i, (prompt, completion, pixels, grid) in enumerate(rows):
        ids = torch.cat([prompt, completion])[None]
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == IMAGE).int(),
            pixel_values=pixels,
            image_grid_thw=grid,
        ).logits[0, len(prompt) - 1 : -1]
        scores = logits.log_softmax(-1)
        values[i, : len(completion)] = scores.gather(1, completion[:, None])[:, 0]
        entropies[i, : len(completion)] = -(scores.exp() * scores).sum(-1)
    return values, entropies


@pytest.fixture(params=["dense", "blocks"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed rows as a CPU reads them, and as a GPU does: FlexAttention, of which PyTorch has the mathematics
    on a CPU too, backward included, but refuses it to users."""
    if request.param == "blocks":
        monkeypatch.setattr(attention, "reads_blocks", lambda device: True)
        monkeypatch.setattr(flex_attention, "_validate_device", lambda *states: None)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("groups", [[3, 3], [1, 4, 2], [2]])
def test_values_and_gradients_are_those_of_single_sequences(
    float64: None, kernel: None, groups: list[int], checkpointing: bool
) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(sum(groups))
    names = tiny_model.vocabulary(144)  # two key heads share one, as in larger models
    plain, packed = tiny_model.model(names).double(), tiny_model.model(names).double()
    batch, rows = batch_of(generator, groups)
    weights = torch.randn(batch.completion_ids.shape, generator=generator) * batch.completion_mask

    expected, entropies = one_at_a_time(plain, batch, rows)
    (expected * weights).sum().backward()
    add_exact_head(packed)
    assert log_probs.prepare(packed)
    if checkpointing:
        packed.train()
        packed.gradient_checkpointing_enable()
    found, found_entropies = log_probs.completion_log_probs(packed, batch)
    (found * weights).sum().backward()

    assert found.dtype == torch.float64 and torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert torch.allclose(found_entropies, entropies, rtol=0, atol=1e-12)
    for (name, mine), (_, theirs) in zip(packed.named_parameters(), plain.named_parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert scale > 0 and float((mine.grad - theirs.grad).abs().max()) <= 1e-12 * max(scale, 1), name


@given(
    st.lists(
        st.tuples(st.integers(1, 200), st.lists(st.integers(1, 200), max_size=3)), min_size=1, max_size=3
    )
)
@settings(deadline=None, max_examples=10)
def test_block_masks_are_those_of_the_whole_matrix(groups: list[tuple[int, list[int]]]) -> None:
    """What a token sees, token by token; and the blocks that PyTorch finds in the whole matrix."""
    lengths = [one for _, completions in groups for one in completions] or [1]
    group = [i for i, (_, completions) in enumerate(groups) for _ in completions] or [0]
    prompts = [prompt for prompt, _ in groups]
    mask = block_mask(*map(torch.tensor, (prompts, lengths, group)))
    starts = [sum([*prompts, *lengths][:i]) for i in range(len(prompts) + len(lengths) + 1)]
    seen = torch.zeros(starts[-1], starts[-1], dtype=torch.bool)
    for run in range(len(prompts) + len(lengths)):
        prompt = run if run < len(prompts) else group[run - len(prompts)]
        for keys in {run, prompt}:
            seen[starts[run] : starts[run + 1], starts[keys] : starts[keys + 1]] = True
    places, none = torch.arange(starts[-1]), torch.tensor(0)
    assert torch.equal(mask.mask_mod(none, none, places[:, None], places), seen.tril())
    whole = flex_attention.create_block_mask(mask.mask_mod, 1, 1, *mask.seq_lengths, device="cpu")
    assert torch.equal(mask.to_dense() > 0, whole.to_dense() > 0)
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(mask, name), getattr(whole, name)), name


def test_queries_and_keys_are_read_in_the_type_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast rotations leave float32 queries and keys, values are bfloat16."""
    model = tiny_model.model(tiny_model.vocabulary(144))
    batch, _ = batch_of(torch.Generator().manual_seed(1), [2, 2])
    batch = replace(batch, prompts={**batch.prompts, "pixel_values": batch.prompts["pixel_values"].float()})
    add_exact_head(model)
    log_probs.prepare(model)
    read = []
    gather = attention._gather
    monkeypatch.setattr(
        attention, "_gather", lambda states, places: read.append(states.dtype) or gather(states, places)
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        log_probs.completion_log_probs(model, batch)
    assert read and set(read) == {torch.bfloat16}


@pytest.mark.parametrize("packs", [True, False])
def test_a_reference_of_half_the_size_says_the_same_under_autocast(packs: bool) -> None:
    """To the bit: what is kept rounded is what autocast rounds each time."""
    names, scores, sizes = tiny_model.vocabulary(144), [], []
    batch, _ = batch_of(torch.Generator().manual_seed(1), [2, 2] if packs else [1] * 4)
    kinds = {} if packs else {"mm_token_type_ids": (batch.prompts["input_ids"] == IMAGE).int()}
    pixels = batch.prompts["pixel_values"].float()
    batch = replace(batch, prompts={**batch.prompts, "pixel_values": pixels, **kinds})
    for model in (tiny_model.model(names), checkpoints.rounded_as_autocast(tiny_model.model(names))):
        add_fused_lm_head(model)
        assert not packs or log_probs.prepare(model)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            scores.append(log_probs.completion_log_probs(model, batch)[0])
        sizes.append({name: one.nbytes for name, one in model.named_parameters()})
    assert torch.equal(*scores) and scores[0].abs().max() > 1
    whole, half = sizes
    layers = [name for name in whole if "_proj.weight" in name or "qkv.weight" in name]
    assert layers and all(half[name] * 2 == whole[name] for name in layers)


def test_the_padded_forward_gives_the_same(float64: None) -> None:
    """The path of other families: every sequence with its own prompt and picture."""
    torch.set_num_threads(1)
    model = tiny_model.model(tiny_model.vocabulary(144)).double()
    batch, rows = batch_of(torch.Generator().manual_seed(1), [1] * 4)
    with torch.no_grad():
        expected, entropies = one_at_a_time(model, batch, rows)
        add_exact_head(model)
        kinds = (batch.prompts["input_ids"] == IMAGE).int()
        batch = replace(batch, prompts={**batch.prompts, "mm_token_type_ids": kinds})
        found, found_entropies = log_probs.completion_log_probs(model, batch)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert torch.allclose(found_entropies, entropies, rtol=0, atol=1e-12)


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


def drawn(prompt_tokens: int, *lengths: int) -> Rollout:
    return Rollout(prompt_tokens, tuple(Completion("", (20,) * length, (), "stop") for length in lengths))


def assembly(base: Path, count: int, **changes: bool) -> Assembly:
    processor = checkpoints.load_processor(base)
    ways = {"shares_prompts": True, "sorts": False, **changes}
    return Assembly(processor, open_image, count, 1, **ways)


def test_a_prompt_stands_once_in_each_micro_batch(base: Path, prompts: list[Prompt]) -> None:
    """Groups of 3 in micro-batches of 2: a group that is cut brings its prompt and picture to each part;
    models that read padded rows get them with every sequence."""
    processor, lengths = checkpoints.load_processor(base), []
    for one in prompts[:2]:
        text = template.render(processor, one.messages, with_image=True)
        encoded = template.processed(processor, [text], [open_image(one.image)])
        lengths.append(encoded["input_ids"].shape[1])
    rollouts = [drawn(length, 1, 2, 3) for length in lengths]
    advantages, tokens = torch.arange(6.0).view(2, 3), torch.tensor(12)
    shared = assembly(base, 3).micro_batches(prompts[:2], rollouts, advantages, tokens)
    assert [one.prompt_of.tolist() for one in shared] == [[0, 0], [0, 1], [0, 0]]
    assert [len(one.prompts["image_grid_thw"]) for one in shared] == [1, 2, 1]
    assert [one.advantages.tolist() for one in shared] == [[0, 1], [2, 3], [4, 5]]
    assert [one.completion_mask.tolist() for one in shared] == [
        [[1, 0], [1, 1]],
        [[1, 1, 1], [1, 0, 0]],
        [[1, 1, 0], [1, 1, 1]],
    ]
    assert all(int(one.generation_tokens) == 12 for one in shared)
    padded = assembly(base, 3, shares_prompts=False).micro_batches(prompts[:2], rollouts, advantages, tokens)
    assert [one.prompt_of.tolist() for one in padded] == [[0, 1]] * 3
    assert all(len(one.prompts["image_grid_thw"]) == 2 for one in padded)
    with pytest.raises(RolloutError, match="prompt tokens"):
        assembly(base, 3).micro_batches(
            prompts[:2], [drawn(lengths[0] + 1, 1, 2, 3), rollouts[1]], advantages, tokens
        )


def test_a_generation_processes_each_picture_once_and_off_the_training_thread(
    base: Path, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of three in micro-batches of two: a picture is drawn for and stands in two micro-batches."""
    stock, processed = Qwen2VLImageProcessor.preprocess, []

    def counted(self, images, *args, **options):
        processed.append((threading.current_thread() is threading.main_thread(), len(images)))
        return stock(self, images, *args, **options)

    monkeypatch.setattr(Qwen2VLImageProcessor, "preprocess", counted)
    settings = SETTINGS.model_copy(update={"max_generations": 1, "micro_batch": 2})
    train(replace(job_for(tmp_path, base, prompts), settings=settings))
    assert processed == [(False, 1)] * settings.prompts_per_generation


def test_pixels_wait_on_the_cpu() -> None:
    batch, _ = batch_of(torch.Generator().manual_seed(1), [2])
    moved = batch.to(torch.device("meta"))
    devices = {name: one.device.type for name, one in moved.prompts.items()}
    assert devices.pop("pixel_values") == "cpu" and set(devices.values()) == {"meta"}
    assert {one.device.type for one in moved.on_device().values()} == {"meta"}


def test_groups_are_sorted_by_length_within_their_step() -> None:
    rollouts = [drawn(1, *lengths) for lengths in [(5, 1), (2, 2), (3, 3), (1, 4)]]
    assert by_length(rollouts, steps=2) == [1, 0, 2, 3]
    assert by_length(rollouts, steps=1) == [1, 2, 3, 0]


@pytest.mark.parametrize("loss", ["dapo", "bnpo"])
def test_packed_and_padded_training_agree(
    base: Path, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """The same losses, gradient norms and KL, step by step, from the path of other architectures."""
    settings = SETTINGS.model_copy(
        update={"loss": loss, "freeze_vision": False, "micro_batch": 6 if loss == "bnpo" else 3}
    )
    train(replace(job_for(tmp_path / "packed", base, prompts), settings=settings))
    monkeypatch.setattr(architectures, "MODELS", frozenset())
    train(replace(job_for(tmp_path / "padded", base, prompts), settings=settings))
    packed, padded = (
        artefacts.read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("packed", "padded")
    )
    assert len(packed) == len(padded) == 4
    for mine, theirs in zip(packed, padded, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
