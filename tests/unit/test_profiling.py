"""Counts and formulas of the profile against numbers worked by hand. Times are never asserted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.cost.flops import Shape, Work, flops, generation_work, shape_of, training_work
from harness.perf.profile import clock, memory
from harness.perf.profile.counts import Counts, Scope, counting
from harness.perf.profile.generation import Generation
from harness.perf.profile.generation import measure as measure_drawing
from harness.perf.profile.logprobs import logprob_gap
from harness.perf.profile.results import OURS, STOCK, Machine, Measured, Ratio, ratios, row
from harness.perf.profile.stock import overridden, replaced
from harness.perf.profile.training import TRAINED, Bench, Training, build
from harness.perf.profile.training import measure as measure_training
from harness.perf.profile.workload import questions
from tests import tiny_model
from vzero.config import EngineConfig, GrpoSettings, SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.images.records import load_records
from vzero.prompts import solver_messages
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import load_model, load_processor

pytestmark = pytest.mark.slow

SHAPE = Shape(
    text_weights=10,
    head_weights=6,
    layers=2,
    width=4,
    kv_bytes=8,
    weight_bytes=64,
    vision_weights=1.5,
    vision_width=2,
    full_layers=1,
)
MACHINE = Machine(  # 1000 operations and 1000 bytes a second
    device="x", kind="cpu", cores=1, threads=1, memory_gib=1.0, dtype="float32",
    matmul_tflops=1e-9, bandwidth_gbs=1e-6,
)  # fmt: skip
N = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_model.build(tmp_path_factory.mktemp("base") / "model")


# --- formulas


def test_operations_by_hand() -> None:
    work = Work(positions=3, pairs=5, scored=1, patches=2, vision_pairs=7)
    text, vision = 2 * 10 * 3 + 4 * 2 * 4 * 5 + 2 * 6, 2 * 1.5 * 2 + 4 * 2 * 7
    assert (text, vision) == (232, 62)
    assert flops(SHAPE, work) == 294
    assert flops(SHAPE, work, backward=True) == 3 * 232 + 62  # the frozen tower has no backward
    assert flops(SHAPE, work, backward=True, recomputed=True) == 4 * 232 + 62
    adapted = Shape(**{**vars(SHAPE), "text_trained": False})
    attention = 232 - flops(replace(SHAPE, layers=0, vision_weights=0, vision_width=0), work)
    assert 0 < attention < 232
    assert flops(adapted, work, backward=True) == 2 * (232 - attention) + 3 * attention + 62
    assert flops(adapted, work) == flops(SHAPE, work), "adapters change the update alone"
    trained = Shape(**{**vars(SHAPE), "vision_trained": True})
    assert flops(trained, work, backward=True) == 3 * 294


def test_needed_work_by_hand() -> None:
    # A prompt of 3 read once (1 + 2 + 3 pairs); of a completion of 2 one token is fed and sees 4 positions;
    # of one of 1 none is fed.
    assert generation_work([3], [(3, 2), (3, 1)], 36, 72) == Work(4, 10, 2, 36, 72)
    assert generation_work([2], [(2, 4)], 0, 0) == Work(2 + 3, 3 + 3 + 4 + 5, 1 + 3)
    # A prompt of 3: two tokens before its last (1 + 2 pairs), completions of 2 and 1 see 3 + 4 and 3; a
    # prompt of 1: 1 pair. Twice.
    assert training_work([(3, [2, 1]), (1, [1])], 10, 20, passes=2) == Work(
        2 * 6, 2 * (3 + 7 + 3 + 1), 2 * 4, 20, 40
    )


def test_shape_by_hand(base: Path) -> None:
    shape = shape_of(load_model(base))
    layer = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128
    assert (shape.text_weights, shape.head_weights) == (2 * layer, 144 * 64)
    assert (shape.layers, shape.width, shape.kv_bytes) == (2, 64, 2 * 2 * 1 * 32 * 4)
    assert shape.weight_bytes == 4 * (2 * layer + 144 * 64)
    block = 32 * 96 + 32 * 32 + 3 * 32 * 64
    assert shape.vision_weights == 32 * 3 * 2 * 7 * 7 + 2 * block + (128 * 128 + 128 * 64) / 4
    assert (
        shape.vision_pairs(36) == 36 * 36 + 36 * 16
    )  # one layer sees all, one sees windows of 4 x 4 patches
    assert shape.vision_trained


# --- counting


def test_counts_of_one_padded_batch(base: Path) -> None:
    model = load_model(base)
    ids, scope = torch.full((2, 5), 12), Scope("here")
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    with torch.no_grad(), counting([(model, SHAPE)], scope) as tally:
        model(input_ids=ids, attention_mask=mask, logits_to_keep=1)
        with scope.inside("there"):
            model(input_ids=ids[:1], attention_mask=mask[:1])
    model(input_ids=ids)  # hooks are gone
    assert tally["here"] == Counts(calls=1, positions=10, real=8, pairs=50, scored=2)
    assert tally["there"] == Counts(calls=1, positions=5, real=3, pairs=25, scored=5)


def drawing(base: Path) -> Generation:
    """Three questions, of different lengths, about two pictures."""
    model, processor = load_model(base), load_processor(base)
    pictures = [tiny_model.picture(0), tiny_model.picture(1)]
    texts = ["how many red ?", "how many red circle ? A) w1", "how many ?"]
    requests = [Request(solver_messages("pocket", text), pictures[i // 2], i) for i, text in enumerate(texts)]
    engine = TransformersEngine(model, processor, 64)
    sampling = SamplingConfig(n=N, max_new_tokens=6)
    return Generation("votes", "solver", engine, requests, sampling, 0)


def test_generation_counts_of_both_sides(base: Path) -> None:
    (ours, stock), rollouts = measure_drawing(
        drawing(base), stock_batch=64, repetitions=2, say=lambda step: None
    )
    prompts = [rollout.prompt_tokens for rollout in rollouts]
    drawn = [len(one.token_ids) for rollout in rollouts for one in rollout.completions]
    # 9 image tokens and 2 around them, <sys> solve <user> <go>, then the question's words
    assert prompts == [15 + 4, 15 + 7, 15 + 3]
    assert ours.counts.images == ours.pictures == 2 and ours.counts.patches == 2 * 36
    assert (
        ours.counts.positions == 3 * 22 + sum(drawn) - 9
    )  # prompts padded to the longest, then only rows still alive
    assert ours.real_positions == sum(prompts) + sum(drawn) - 9
    assert ours.counts.scored == 3 + sum(drawn) - 9
    assert (ours.prompt_tokens, ours.completion_tokens) == (sum(prompts), sum(drawn))
    read, computed = 0, 3 * 22 * 22
    for step in range(1, max(drawn)):  # each prompt of which a completion goes on is read once
        alive = [i for i, length in enumerate(drawn) if length > step]
        units, width = {i // N for i in alive}, max(prompts[i // N] for i in alive)
        read += len(units) * width + len(alive) * step
        computed += len(units) * (max(i % N for i in alive) + 1) * width + len(alive) * step
    assert (ours.counts.kv_tokens, ours.counts.pairs) == (read, computed)

    assert (stock.counts.images, stock.pictures, stock.counts.patches) == (9, 2, 9 * 36)
    steps = stock.counts.decode_calls
    assert stock.counts.positions == 9 * 22 + 9 * steps  # rows that have ended go on
    assert stock.real_positions == N * sum(prompts) + stock.completion_tokens - 9
    assert stock.real_positions <= stock.counts.positions
    assert len(ours.seconds) == len(stock.seconds) == 2


def test_questions_fill_in_for_invalid_ones() -> None:
    question = "<question> how many ? A) 1 B) 2 C) 3 D) 4 </question>"
    good = f"<description> x </description> {question} <answer> B </answer>"
    done, cut = Completion(good, (), (), "stop"), Completion(good, (), (), "length")
    asked = questions(["picture"], [Rollout(5, (done, cut))], "pocket")
    assert [one.written for one in asked] == [True, False]
    assert [one.question.intuitive for one in asked] == ["B", "A"]
    texts = [one.question.text for one in asked]
    assert texts[0] != texts[1] and all("D)" in text for text in texts)


# --- training


@pytest.fixture(scope="module")
def bench(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("training")
    rows = []
    for i in range(4):
        tiny_model.picture(i).save(folder / f"{i}.png")
        rows.append(
            {
                "image_id": f"i{i}",
                "path": f"{i}.png",
                "sha256": artefacts.sha256_file(folder / f"{i}.png"),
                "width": 42,
                "height": 42,
            }
        )
    artefacts.write_jsonl(folder / "images.jsonl", rows)
    prompts = [
        Prompt(record.image_id, solver_messages("pocket", "how many ?" + " red" * 3 * i), record, "A")
        for i, record in enumerate(load_records(folder))
    ]
    settings = GrpoSettings(
        prompts_per_generation=4,
        prompts_per_step=2,
        group_size=N,
        micro_batch=3,
        learning_rate=1,
        max_completion_tokens=5,
        freeze_vision=True,
    )

    def parity(groups: list, generation: int) -> Scores:
        return Scores([[float(one.token_ids[0] % 2) for one in group.completions] for group in groups], {})

    engine = EngineConfig(batch_sequences=64, threads=1)
    return build(Training("solver", settings, engine, base, prompts, parity, 0, folder, Scope()))


def test_training_counts_of_both_sides(bench: Bench) -> None:
    before = {name: value.clone() for name, value in bench.trainer.model.state_dict().items()}
    found, gap, parts = measure_training(bench, stock=True, repetitions=2, say=lambda step: None)
    assert [(one.phase, one.side) for one in found] == [
        ("rollout", OURS),
        *((phase, side) for side in (OURS, STOCK) for phase in ("logprobs", "update", TRAINED)),
    ]
    rows = {(one.phase, one.side): one for one in found}
    prompts = [rollout.prompt_tokens for rollout in bench.rollout.rollouts]
    drawn = [len(one.token_ids) for rollout in bench.rollout.rollouts for one in rollout.completions]
    real, sequences = N * sum(prompts) + sum(drawn), 4 * N

    stock = rows["update", STOCK]
    assert stock.counts.positions == sequences * (
        max(prompts) + max(drawn)
    )  # TRL pads the whole generation batch
    assert (stock.real_positions, stock.counts.scored) == (real, sum(drawn))
    assert (stock.counts.images, stock.pictures) == (sequences, 4)
    logprobs = rows["logprobs", STOCK]  # of the old policy and of the reference
    assert (logprobs.counts.positions, logprobs.real_positions, logprobs.counts.images) == (
        2 * stock.counts.positions,
        2 * real,
        2 * sequences,
    )

    # Each prompt but its last token, each completion with that token in place of its own last: no padding.
    ours = rows["update", OURS]
    assert ours.counts.positions == ours.real_positions == sum(prompts) - 4 + sum(drawn)
    assert ours.counts.scored == sum(drawn)
    assert ours.counts.images == ours.pictures == 4
    later = (
        sum(prompts[2:]) - 2 + sum(drawn[2 * N :])
    )  # the old policy is asked only about the second of two optimizer steps
    assert rows["logprobs", OURS].counts.positions == ours.counts.positions + later
    assert rows["logprobs", OURS].counts.images == 4 + 2
    assert (ours.completion_tokens, stock.completion_tokens) == (sum(drawn), sum(drawn))
    assert ours.flops_needed == pytest.approx(stock.flops_needed)
    assert ours.flops_needed < ours.flops_computed < stock.flops_computed
    both = rows[TRAINED, OURS]
    assert both.counts.positions == ours.counts.positions + rows["logprobs", OURS].counts.positions
    assert all(len(one.seconds) == 2 for one in found)

    # A random model gives tokens that must not be drawn up to a quarter of its probability, which the engine
    # divides among the others.
    assert gap.tokens == sum(drawn) and 0 <= gap.mean <= gap.max < 0.5
    assert set(parts) == {OURS, STOCK} and parts[OURS]["reference"] > 0 and parts[OURS]["images"] > 0
    replaced_by_us = {"_prepare_inputs", "log_probs", "compute_loss"}
    assert not replaced_by_us & vars(bench.trainer).keys()  # every method is the class's own again
    after = bench.trainer.model.state_dict()  # repetitions repeat: no weight has changed
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-9) for name in before)


def test_logprob_gap_by_hand() -> None:
    rollouts = [
        Rollout(3, (Completion("", (7, 8), (-1.0, -2.0), "stop"), Completion("", (9,), (-0.5,), "stop")))
    ]
    first = scored([[7, 8]], ref_log_probs=torch.tensor([[-1.0, -2.25]]))
    other = scored(  # the old policy counts where there is one
        [[9]], ref_log_probs=torch.tensor([[9.0]]), old_log_probs=torch.tensor([[-0.75]])
    )
    gap = logprob_gap(rollouts, [first, other])
    assert (gap.mean, gap.max, gap.tokens) == (pytest.approx(0.5 / 3), 0.25, 3)
    assert logprob_gap(rollouts, [other, first]).tokens == 0
    assert logprob_gap(rollouts, [first]).tokens == 0
    assert logprob_gap(rollouts, [first, scored([[9]])]).mean is None


def scored(ids: list[list[int]], **log_probs: torch.Tensor) -> MicroBatch:
    completions = torch.tensor(ids)
    nothing, ones = torch.zeros(0), torch.ones_like(completions)
    return MicroBatch({}, nothing, completions, ones, nothing, nothing, **log_probs)


# --- the two sides, rows and ratios


def test_stock_methods_are_all_that_ours_overrides() -> None:
    class Stock:
        def __init__(self) -> None: ...
        def forward(self) -> str:
            return "stock"

        def save(self) -> None: ...

    class Middle(Stock):
        def forward(self) -> str:
            return "ours"

    class Ours(Middle):
        def __init__(self) -> None: ...
        def new(self) -> None: ...
        def create_model_card(self) -> None: ...

    assert overridden(Ours, Stock) == ["forward"]
    thing = Ours()
    with replaced(thing, {"forward": lambda: "outer"}):
        with replaced(thing, {"forward": lambda: "inner"}):
            assert thing.forward() == "inner"
        assert thing.forward() == "outer"
    assert thing.forward() == "ours" and not vars(thing)


def test_sides_take_turns() -> None:
    calls: list[str] = []
    sides = [lambda: calls.append("A") or 1, lambda: calls.append("B") or 2]
    assert clock.interleave(sides, 3, lambda repetition: None) == [[1, 1, 1], [2, 2, 2]]
    assert "".join(calls) == "ABABAB"


def test_spread() -> None:
    assert clock.summary([1.0, 1.02, 1.01]).stable is True
    assert clock.summary([1.0, 1.3, 1.0]).stable is False
    assert clock.summary([2.0]).stable is None
    assert clock.summary([3.0, 1.0, 2.0]).median == 2.0


def measured(
    side: str, seconds: list[float], tokens: int, positions: int, images: int, peak: float | None
) -> Measured:
    counts = Counts(calls=3, decode_calls=2, positions=positions, kv_tokens=10, images=images)
    return Measured(
        target="votes",
        phase="votes",
        role="solver",
        side=side,
        seconds=tuple(seconds),
        prompt_tokens=20,
        completion_tokens=tokens,
        counts=counts,
        real_positions=40,
        pictures=2,
        flops_needed=500.0,
        flops_computed=1000.0,
        shape=SHAPE,
        peak_mib=peak,
    )


def test_rows_and_ratios_by_hand() -> None:
    rows = [
        row(measured(OURS, [1, 2, 3], 50, 44, 2, 10.0), MACHINE),
        row(measured(STOCK, [4, 8, 6], 100, 88, 20, None), MACHINE),
    ]
    ours = rows[0]
    assert (ours.prompt_tokens_per_second, ours.completion_tokens_per_second) == (10, 25)
    assert ours.padding_factor == 1.1 and ours.encoder_passes_per_picture == 1
    assert (ours.mfu, ours.hfu) == (pytest.approx(500 / 2000), pytest.approx(1000 / 2000))
    assert ours.decode_bytes == 2 * 64 + 10 * 8 and ours.bandwidth_use == pytest.approx(208 / 2000)
    assert ratios(rows) == [
        Ratio(
            target="votes",
            phase="votes",
            role="solver",
            speedup=0.5 * 6 / 2,  # twice the tokens in three times the time
            speedup_range=(1.0, 2.0),
            positions=2.0,
            encoder_passes=10.0,
            peak_memory=None,
        )
    ]
    assert ratios(rows[:1]) == []
    elsewhere = rows[0].model_copy(update={"target": "grpo"})
    # Our votes of another batch are not these votes.
    assert [one.speedup for one in ratios([*rows, elsewhere])] == [1.5]


def test_memory_of_the_phase_that_holds_it() -> None:
    scope = Scope("small")
    with memory.peaks(scope) as peaks:
        with scope.inside("large"):
            held = torch.ones(64 * 2**20 // 4)
        del held
    if memory.resident() is not None and not torch.cuda.is_available():
        assert peaks["large"] >= 50
