"""The cost estimate against numbers worked by hand and bounds of scheduling; hooks: test_benchmark_counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.perf.plan.plan import choose_machine
from harness.perf.plan.work import Assumptions
from harness.perf.profile.cost.assumptions import Card, Lengths, Role, Workload, said
from harness.perf.profile.cost.drawing import Drawing, makespan, separate, shared
from harness.perf.profile.cost.iteration import WAYS, drawing_cost, estimate
from harness.perf.profile.cost.models import NAMES, shape_named
from harness.perf.profile.cost.report import TOGETHER, markdown, summary
from harness.perf.profile.cost.training import ALONE, OURS, STOCK, Group, forward, micro_batches, passes
from harness.perf.profile.flops import Shape, Work

ROOT = Path(__file__).resolve().parents[2]
SHAPE = Shape(
    text_weights=10, head_weights=6, layers=2, width=4, kv_bytes=8, weight_bytes=64, vision_weights=1.5, vision_width=2, full_layers=1,
    vision_trained=True,
)  # fmt: skip
MICRO = [Group(3, 4, (2, 1)), Group(2, 0, (4,))]


# --- training


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (
            STOCK,
            Work(3 * 11, 3 * 11**2, 7, 4 + 4, 16 + 16),
        ),  # three rows of 5 + 6, the longest of the generation batch
        (ALONE["trim to the micro-batch"], Work(3 * 7, 3 * 7**2, 7, 8, 32)),  # of 3 + 4, the longest here
        (ALONE["pack (no padding)"], Work(5 + 4 + 6, 25 + 16 + 36, 7, 8, 32)),
        # two prompts of 5 without their last token, three completions of 6 with it in front, each seeing its
        # prompt and itself
        (ALONE["share prompts"], Work(2 * 4 + 3 * 6, 2 * 16 + 3 * 6 * 10, 7, 8, 32)),
        (ALONE["encode a picture once"], Work(33, 363, 7, 4, 16)),
        (OURS, Work(2 + 1 + 7, 2 * 4 + 3 * 4 * 6, 7, 4, 16)),
    ],
)
def test_a_forward_pass_by_hand(way: object, expected: Work) -> None:
    assert forward(MICRO, way, (5, 6), SHAPE) == expected


def test_old_policy_scores_later_steps_only() -> None:
    batch = [
        Group(3, 0, (1, 1)),
        Group(5, 0, (1, 1)),
    ]  # a step each; packed and shared: 2 + 2 and 4 + 2 positions
    logprobs, update = passes(batch, 2, 2, OURS, SHAPE)
    assert (update.positions, logprobs.positions) == (10, 10 + 6)
    logprobs, update = passes(batch, 2, 2, STOCK, SHAPE)
    assert (update.positions, logprobs.positions) == (4 * 6, 2 * 4 * 6)
    skipped, _ = passes(batch, 2, 2, ALONE["skip the old pass where the ratio is one"], SHAPE)
    assert skipped.positions == 4 * 6 + 2 * 6


def test_a_group_may_be_cut_by_a_micro_batch() -> None:
    batch = [Group(3, 4, (1, 2, 3)), Group(4, 0, (5,))]
    assert list(micro_batches(batch, 2)) == [[Group(3, 4, (1, 2))], [Group(3, 4, (3,)), Group(4, 0, (5,))]]
    _, update = passes(batch, 2, 1, OURS, SHAPE)
    assert (update.positions, update.patches) == (
        2 + 3 + 2 + 3 + 3 + 5,
        8,
    )  # its prompt and picture are computed in both


# --- drawing


def test_drawing_by_hand() -> None:
    asked = [Group(3, 4, (2, 1)), Group(3, 4, (3,))]
    # Fed back: 1, 0 and 2 tokens, which read 4, nothing, and 4 + 5 positions. Two slots: the second takes the
    # third completion at once.
    assert shared(asked, [4], 2, SHAPE) == Drawing(Work(6, 18, 2, 4, 16), Work(3, 13, 3), 2, 13)
    # Two batches: rows of 2 and 1 tokens go one step, reading 4 each; the row of 3 goes two, reading 4 and 5.
    assert separate(asked, 2, SHAPE) == Drawing(Work(9, 27, 3, 12, 48), Work(4, 17, 4), 3, 17)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 8))
def test_refilled_slots_keep_grahams_bound(lengths: list[int], slots: int) -> None:
    steps = makespan(lengths, slots)
    assert max(max(lengths), sum(lengths) / slots) <= steps <= sum(lengths) / slots + max(lengths)
    waiting = sum(max(lengths[start : start + slots]) for start in range(0, len(lengths), slots))
    assert steps <= waiting  # never later than batches that wait for their longest
    assert makespan(lengths, 1) == sum(lengths)


def test_seconds_are_those_of_the_limit() -> None:
    drawing = Drawing(Work(10, 0, 0), Work(100, 0, 0), steps=5, kv_tokens=7)
    # prompts: 2 * 10 * 10 operations; decoding: 2 * 10 * 100; bytes: 5 * (10 + 6) * 2 + 7 * 8 = 216
    slow = Card(peak=100.0, bandwidth=1e9, training=0.5, decoding=0.25)
    assert drawing_cost(drawing, SHAPE, slow, 2) == (2200, pytest.approx(200 / 50 + 2000 / 25))
    narrow = Card(peak=1e9, bandwidth=10.0, training=0.5, decoding=0.25)
    assert drawing_cost(drawing, SHAPE, narrow, 2)[1] == pytest.approx(216 / 2.5, rel=1e-5)


# --- models


@pytest.mark.parametrize(
    ("name", "layers", "h", "own", "i", "vocabulary", "kv"),
    [
        ("Qwen2.5-VL-3B", 36, 2048, 256, 11008, 151936, 36),
        ("Qwen2.5-VL-7B", 28, 3584, 512, 18944, 152064, 56),
    ],
)
def test_shapes_by_hand(name: str, layers: int, h: int, own: int, i: int, vocabulary: int, kv: int) -> None:
    shape = shape_named(name)
    assert shape.text_weights == layers * (2 * h * h + 2 * h * own + 3 * h * i)
    assert (shape.head_weights, shape.kv_bytes) == (h * vocabulary, kv * 1024)  # kv KiB a token in bfloat16
    block = 3 * 1280 * 1280 + 1280 * 1280 + 3 * 1280 * 3420
    assert shape.vision_weights == 1280 * 3 * 2 * 14 * 14 + 32 * block + (5120 * 5120 + 5120 * h) / 4
    assert (shape.full_layers, shape.window_layers, shape.window, shape.vision_trained) == (4, 28, 64, True)
    assert name in NAMES


# --- the iteration


def flat(tokens: int) -> Lengths:
    return Lengths(tokens, 0.0, 10_000)


SMALL = Workload(
    images=5, picture=flat(2), questioner_text=3, solver_text=1, question=flat(2), questioner=Role(2, 2, flat(4)),
    solver=Role(3, 3, flat(6)), written=flat(4), vote=flat(5), votes=2, valid=1.0, kept=1.0, prompts=2, steps=2,
)  # fmt: skip


def test_an_iteration_by_hand() -> None:
    """Equal lengths: 5 pictures are 2 whole generation batches of 2 prompts, of 2 and then 3 completions; 5
    questions are written."""
    found = estimate(SHAPE, SMALL, Card(slots=100, trainers=1, voters=1))
    patches, seen = 4 * 2, (4 * 2) ** 2
    vision = 2 * 1.5 * patches + 4 * 2 * seen  # one picture
    attention, head = 4 * 2 * 4, 2 * 6  # a pair, a scored position
    # stock: 8 sequences of 5 + 4 tokens: 81 pairs, 4 scored; four passes in the update, two for
    # log-probabilities
    sequence = 2 * 10 * 9 + attention * 81 + head * 4 + vision
    assert found.phases["Questioner: update"].stock.flops == 4 * 8 * sequence
    assert found.phases["Questioner: log-probabilities"].stock.flops == 2 * 8 * sequence
    # ours: 4 prompts of 4 and 8 completions of 4; a picture once; 1.5 passes for log-probabilities
    group = 2 * 10 * (4 + 8) + attention * (16 + 2 * 4 * 8) + head * 8 + vision
    assert found.phases["Questioner: update"].ours.flops == 4 * 4 * group
    assert found.phases["Questioner: log-probabilities"].ours.flops == pytest.approx(1.5 * 4 * group)
    # votes: 2 on each of 8 questions about 4 pictures, prompts of 5; of 5 tokens 4 are fed, which read 6 + 7
    # + 8 + 9
    vote = 2 * 10 * 4 + attention * 30 + head * 4
    prompt = 2 * 10 * 5 + attention * 25 + head
    assert found.phases["Questioner: votes"].ours.flops == 16 * vote + 8 * prompt + 4 * vision
    assert found.phases["Questioner: votes"].stock.flops == 16 * (vote + prompt + vision)
    assert found.phases["Votes for labels"].ours.flops == 10 * vote + 5 * (prompt + vision)
    assert (
        found.phases["Questions written"].stock.flops == found.phases["Questions written"].ours.flops
    )  # nothing to share, none waits
    trained = [one for name, one in found.phases.items() if name.endswith(("update", "log-probabilities"))]
    assert found.levers["stock"] == pytest.approx(sum(one.stock.flops for one in trained))
    assert found.levers["ours"] == pytest.approx(sum(one.ours.flops for one in trained))
    assert found.total("ours").flops == pytest.approx(sum(one.ours.flops for one in found.phases.values()))


def test_every_lever_saves_and_all_save_most() -> None:
    work = Workload(
        images=8,
        prompts=4,
        questioner=Role(2, 4, Lengths(20, 0.5, 99)),
        solver=Role(2, 4, Lengths(20, 0.5, 99)),
    )
    levers = estimate(SHAPE, work, Card(slots=4)).levers
    assert all(levers["ours"] < levers[name] < levers["stock"] for name in ALONE)


def test_gpus_share_requests_by_picture() -> None:
    """Another number of GPUs changes who computes, not what: a picture's questions stay together."""
    one, three = (estimate(SHAPE, SMALL, Card(slots=100, trainers=cards, voters=cards)) for cards in (1, 3))
    assert [row.ours.flops for row in one.phases.values()] == pytest.approx(
        [row.ours.flops for row in three.phases.values()]
    )


def test_report_says_that_it_is_an_estimate_and_all_it_assumes() -> None:
    work, card = SMALL, Card(trainers=1, voters=1)
    found = {factor: {"tiny": estimate(SHAPE, work.longer(factor), card)} for factor in (1, 2)}
    assert found[2]["tiny"].total("ours").seconds > found[1]["tiny"].total("ours").seconds
    text = markdown(found[1], {2.0: found[2]}, work, card)
    hours = [one["tiny"].total("stock").seconds / one["tiny"].total("ours").seconds for one in found.values()]
    assert f"| {hours[1]:.1f}x |" in next(
        line for line in text.splitlines() if line.startswith("| 2 times as long")
    )
    assert "estimate" in text.splitlines()[0] and "Nothing here was measured" in text
    assert all(f"- {line}" in text for line in said(work, card)) and all(
        f"| {name}" in text for name in ALONE
    )
    assert len(WAYS) == len(ALONE) + 2
    committed = (ROOT / "results" / "cost" / "qwen2.5-vl.md").read_text(encoding="utf-8")
    assert all(f"- {line}" in committed for line in said(Workload(), Card())), (
        "made under other assumptions; run the command in it again"
    )


def test_plan_and_estimate_assume_the_same_and_the_docs_say_it() -> None:
    planned, assumed, card = choose_machine(6, "a100-80", None), Assumptions(), Card()
    assert (card.peak, card.bandwidth) == (planned.tflops * 1e12, planned.bandwidth)
    assert (card.training, card.decoding) == (planned.computing, planned.decoding)
    assert (Workload().valid, Workload().kept) == (assumed.valid, assumed.kept)
    told = " ".join((ROOT / "docs" / "plan.md").read_text(encoding="utf-8").split())
    assert f"{planned.computing:.0%} of peak operations".replace("%", " %") in told
    assert f"{planned.decoding:.0%} of peak bandwidth".replace("%", " %") in told


def test_the_docs_hold_the_committed_summary() -> None:
    page = (ROOT / "results" / "cost" / "qwen2.5-vl.md").read_text(encoding="utf-8")
    table = page.split("## In short\n\n")[1].split("\n\n")[0]
    assert table.count("\n") == 2 + len(TOGETHER) and table in (ROOT / "docs" / "performance.md").read_text(
        encoding="utf-8"
    )


def test_the_summary_adds_up() -> None:
    found = estimate(SHAPE, SMALL, Card(trainers=1, voters=1))
    assert sorted(name for names in TOGETHER.values() for name in names) == sorted(found.phases)
    for spent in (one for phase in found.phases.values() for one in (phase.stock, phase.ours)):
        spent.flops, spent.seconds = 2e15, 3600.0
    rows = summary({"tiny-1B": found}).splitlines()
    assert rows[0] == "| | 1B, PFLOP: stock, ours | 1B, GPU-h: stock, ours |"
    assert rows[3:5] == [
        "| Questioner: votes | 2, 2 | 1.0, 1.0 |",
        "| Questioner: log-probabilities and update | 4, 4 | 2.0, 2.0 |",
    ]
    assert rows[-1] == "| **all** | **18, 18** | **9.0, 9.0** |"
