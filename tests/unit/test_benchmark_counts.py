"""What the benchmarks compare, counted and never timed: encoder passes, positions, padding, and that both
sides compute the same."""

from __future__ import annotations

import getpass
import json
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import generation, hostile, large_models, results, scoring, training, workload
from benchmarks.case import Case, count, padding_factor
from benchmarks.shapes import POCKET, subject
from harness.perf.profile.counts import Counts
from vzero.config import SamplingConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """One thread; few questions, written once."""
    torch.set_num_threads(1)
    written = workload.questions(64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "questions", lambda count: written[:count])
        yield


def both(case: Case) -> tuple[Counts, Counts]:
    return count(case, case.ours)[1], count(case, case.stock)[1]


def prompt_tokens(requests: list[Any]) -> list[int]:
    """By Hugging Face's processor, one prompt at a time."""
    processor = subject(POCKET).processor
    found = []
    for request in requests:
        conversation = workload.conversation(request.messages, True)
        text = processor.apply_chat_template([conversation], tokenize=False, add_generation_prompt=True)
        found.append(processor(text=text, images=[request.image], return_tensors="pt")["input_ids"].shape[1])
    return found


def test_ten_votes_encode_a_picture_once_and_ten_calls_ten_times() -> None:
    ours, stock = both(generation.votes(POCKET))
    sizes = prompt_tokens(workload.requests(4))
    assert (ours.images, stock.images) == (4, 40)
    assert ours.real == sum(sizes) and stock.real == 10 * sum(sizes)
    assert padding_factor(stock) == 1  # one prompt a call
    assert ours.positions - ours.decode_positions == 4 * max(sizes)


def test_a_group_shares_its_picture() -> None:
    ours, stock = both(generation.prompt_reuse(POCKET))
    sizes = prompt_tokens(workload.group_requests(16))
    assert (ours.images, stock.images) == (1, 160)
    assert ours.decode_positions == stock.decode_positions == 0
    assert ours.positions == 16 * max(sizes) and stock.positions == 160 * max(sizes)


def test_finished_rows_leave_the_decoding_loop() -> None:
    case = generation.decode(POCKET)
    drawn, ours = count(case, case.ours)
    stock = count(case, case.stock)[1]
    assert ours.decode_positions == drawn - 64  # each token but the last is fed once, and nothing else
    assert stock.decode_positions == 64 * stock.decode_calls


def test_refilled_slots_take_fewer_steps_than_batches_that_wait() -> None:
    case = generation.slots(POCKET)
    engine = workload.TransformersEngine(subject(POCKET).model, subject(POCKET).processor, generation.SLOTS)
    sampling = SamplingConfig(n=1, temperature=2.0, max_new_tokens=case.workload["max_new_tokens"])
    rollouts = engine.generate(workload.mixed_requests(2 * generation.SLOTS), sampling)
    lengths = [len(one.completions[0].token_ids) for one in rollouts]
    (drawn, ours), (again, stock) = count(case, case.ours), count(case, case.stock)
    assert drawn == again == sum(lengths)  # the same tokens on both sides
    waits = sum(
        max(lengths[start : start + generation.SLOTS]) - 1
        for start in range(0, len(lengths), generation.SLOTS)
    )
    assert stock.decode_calls == waits
    assert (sum(lengths) - len(lengths)) / generation.SLOTS <= ours.decode_calls < 0.75 * stock.decode_calls
    assert (
        ours.decode_positions == stock.decode_positions == sum(lengths) - len(lengths)
    )  # rows that ended leave on either side


def test_packing_computes_prompts_and_pictures_once_and_keeps_the_loss() -> None:
    case = scoring.packing(POCKET)
    ours, stock = both(case)
    batch = workload.generation_batch(subject(POCKET), workload.answered(32), pictures=True)
    prompts, completions = batch["prompt_mask"].sum(1).tolist(), batch["completion_mask"].sum(1).tolist()
    group = case.workload["group"]
    assert ours.positions == ours.real == sum(prompts[::group]) - len(prompts) // group + sum(completions)
    assert stock.positions == len(prompts) * (max(prompts) + max(completions))
    assert stock.pairs == len(prompts) * (max(prompts) + max(completions)) ** 2
    assert (ours.images, stock.images) == (len(prompts) // group, len(prompts))
    assert stock.patches == group * ours.patches and stock.vision_pairs == group * ours.vision_pairs
    assert padding_factor(ours) == 1 and padding_factor(stock) > 1.1
    assert case.difference is not None and case.difference() < 1e-5


@pytest.mark.parametrize("against", ["log_softmax", "selective_log_softmax"])
def test_token_logprobs_are_equal(against: str) -> None:
    case = scoring.token_logprobs(POCKET, against)
    assert case.difference is not None and case.difference() < 1e-4


def test_the_loss_is_equal(tmp_path: Path) -> None:
    case = scoring.grpo_loss(POCKET, tmp_path)
    assert case.difference is not None and case.difference() < 1e-5


def test_gradients_of_the_loss_are_equal(tmp_path: Path) -> None:
    of = scoring.head(POCKET)
    settings = workload.load_preset("pocket").solver.grpo
    batch = workload.generation_batch(of, workload.answered(32)[:4], pictures=True)
    trainer = scoring.loss_trainer(of, settings, len(batch["prompt_ids"]), tmp_path)
    scoring.plain_loss(of.model, batch, settings).backward()
    expected = {name: value.grad.clone() for name, value in of.model.named_parameters()}
    of.model.zero_grad()
    trainer.compute_loss(of.model, scoring.micro_batch(batch, settings.group_size)).backward()
    for name, value in of.model.named_parameters():
        assert torch.allclose(value.grad, expected[name], atol=1e-5), name


@pytest.mark.parametrize("filters", ["none", "top-k 40", "top-p 0.9"])
def test_both_samplers_draw_from_the_same_distribution(filters: str) -> None:
    case = generation.draw_step(POCKET, filters)
    assert case.difference is not None and case.difference() < 1e-5


@pytest.mark.parametrize("role", ["questioner", "solver"])
def test_a_generation_batch_needs_fewer_encoder_passes(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "PROMPTS", 4)
    ours, stock = both(training.batch_of(role, tmp_path))
    group = 4 if role == "questioner" else 5
    sequences = training.PROMPTS * group
    # Stock: once a sequence for each of rollout, old and reference log-probabilities, update; ten times a
    # valid question.
    votes = stock.images - 4 * sequences
    assert votes % 10 == 0 and (votes > 0) == (role == "questioner")
    # Ours: once a picture for each of rollouts, votes, reference and update, and the old policy's for the
    # second of two optimizer steps.
    assert ours.images <= training.PROMPTS * (3.5 + (role == "questioner"))
    assert padding_factor(ours) <= 1.1 and padding_factor(ours) < padding_factor(stock)


def test_parsing_reads_every_text_of_its_workload() -> None:
    assert all(3_900 <= len(text) <= 4_300 for text in hostile.texts("well-formed"))
    assert all(18_000 <= len(text) <= 25_000 for text in hostile.texts("hostile"))
    case = hostile.parsing("hostile")
    assert case.ours() == case.stock() == sum(map(len, hostile.texts("hostile")))


def a_case() -> Case:
    return Case(lambda: 1, lambda: 1, "this", "that", "token", {"rows": 2})


def test_ratio_is_of_medians_by_unit() -> None:
    # ours: 1, 2, 4 seconds for 10 tokens each; stock: 9, 8, 100 seconds for 20, 20, 40 tokens
    row = results.row("b", "s", a_case(), [(1, 10), (2, 10), (4, 10)], [(9, 20), (8, 20), (100, 40)], None)
    assert row["ratio"] == pytest.approx((9 / 20) / (2 / 10))
    assert row["ratio_range"] == pytest.approx([0.4 / 0.2, 2.5 / 0.4])
    assert row["stable"] is False


def test_files_are_written_whole_and_name_no_machine(tmp_path: Path) -> None:
    timed = [(0.5, 10.0)] * 5
    rows = [
        results.row("votes", "pocket", a_case(), timed, [(1.5, 10.0)] * 5, None),
        results.skipped("votes", "7B slice", "needs a GPU"),
    ]
    result = results.document(rows)
    path = results.write(tmp_path, result)
    assert path.name == f"{result['machine']['class']}.json" and {
        one.suffix for one in tmp_path.iterdir()
    } == {".json", ".md"}
    assert json.loads(path.read_text())["benchmarks"][0]["ratio"] == pytest.approx(3)
    table = path.with_suffix(".md").read_text()
    assert "| votes | pocket | 500 ms | 1.50 s | 3.00 (3.00 to 3.00) |  |  | 5 |" in table
    assert "|  | 7B slice |  |  | not run: needs a GPU |  |  |  |" in table
    for secret in (socket.gethostname(), str(ROOT), f"/{getpass.getuser()}/"):
        assert secret not in path.read_text() + table


def test_plain_pytest_collects_no_benchmark() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    assert options["testpaths"] == ["tests"] and "python_files" not in options
    names = [path.name for path in (ROOT / "benchmarks").iterdir()]
    assert "bench_all.py" in names and not [
        name for name in names if name.startswith("test_") or name.endswith("_test.py")
    ]


def test_large_models_cost_less_before_the_first_matrix_product(tmp_path: Path) -> None:
    tower, mask = large_models.attention_of_the_tower(), large_models.mask_of_a_micro_batch()
    assert (tower["before"], tower["after"]) == (28 * 88 + 4, 28 * 4 + 4)
    assert mask["after"] < mask["before"] / 50
    opened = large_models.loading(tmp_path, layers=1)
    assert opened["after"] < opened["before"] / 2
