"""Sharding a generation batch over several processes: every prompt once, steps of the same prompts as in one
process, groups whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runs.launcher import root_cause
from vzero.config import GrpoSettings, Preset
from vzero.errors import InputError
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.settings import plan_batches
from vzero.presets import load_preset
from vzero.runtime import processes
from vzero.runtime.processes import World
from vzero.selfplay import plan, processes_of


def test_by_hand() -> None:
    parts = [GroupSharding(2, World(rank, 2, 2)) for rank in (0, 1)]
    assert parts[0].shard("01234567") == list("0145") and parts[1].shard("01234567") == list("2367")
    assert parts[0].merge(["0145", "2367"]) == list("01234567")
    with pytest.raises(ValueError, match="do not divide"):
        parts[0].shard("012345")
    with pytest.raises(ValueError, match="equal"):
        parts[0].merge(["0145", "23"])


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
@settings(deadline=None)
def test_each_step_takes_the_prompts_of_one_process(
    steps: int, processes_: int, share: int, group: int
) -> None:
    sequences = [(prompt, i) for prompt in range(steps * processes_ * share) for i in range(group)]
    parts = [
        GroupSharding(steps, World(rank, processes_, processes_)).shard(sequences)
        for rank in range(processes_)
    ]
    assert sorted(one for part in parts for one in part) == sequences
    assert GroupSharding(steps, World(0, processes_, processes_)).merge(parts) == sequences
    for step in range(steps):
        taken = {
            prompt for part in parts for prompt, _ in part[step * share * group : (step + 1) * share * group]
        }
        assert taken == set(range(step * processes_ * share, (step + 1) * processes_ * share))
    for part in parts:  # completions of a prompt in a row and all of them, as packing needs
        assert all(
            len({prompt for prompt, _ in part[start : start + group]}) == 1
            for start in range(0, len(part), group)
        )


@given(
    st.integers(0, 300),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(1, 40),
)
@settings(deadline=None)
def test_batches_of_several_processes(
    available: int, count: int, steps: int, share: int, group: int, micro: int
) -> None:
    per_step = share * count
    role = GrpoSettings(
        prompts_per_generation=steps * per_step,
        prompts_per_step=per_step,
        group_size=group,
        micro_batch=next(m for m in range(min(micro, per_step * group), 0, -1) if per_step * group % m == 0),
        max_completion_tokens=8,
    )
    shared, alone = plan_batches(role, available, count), plan_batches(role, available)
    assert shared.prompts_per_step * group == shared.micro_batch * shared.accumulation * count
    assert (
        shared.prompts_per_step % count == 0 and shared.prompts_per_generation % shared.prompts_per_step == 0
    )
    assert shared.micro_batch <= role.micro_batch
    assert (shared.steps > 0) == (available >= count)
    if (
        available == 0 or available >= role.prompts_per_generation
    ):  # whole batches: as one process would train
        assert (
            shared.prompts_per_generation,
            shared.prompts_per_step,
            shared.steps,
            shared.prompts_used,
        ) == (
            alone.prompts_per_generation,
            alone.prompts_per_step,
            alone.steps,
            alone.prompts_used,
        )


def shared_by(count: int, *more: str) -> Preset:
    return load_preset("smoke", ["launch.strategy=ddp", f"launch.processes={count}", *more])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["launch.processes=3", "launch.strategy=ddp"],
            "prompts_per_step = 8 must be a multiple of the 3 processes",
        ),
        (
            ["launch.processes=2", "launch.strategy=ddp", "solver.grpo.loss=bnpo"],
            "micro_batch = 40 must divide the 20 sequences",
        ),
        (["launch.processes=2"], '"single" is one process'),
        (["launch.strategy=ddp"], "at least two GPUs, or processes = 2 on the CPU"),
        (["launch.processes=2", "launch.gpus=2", "launch.strategy=ddp"], "one process per GPU"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_a_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_preset("smoke", words)


def test_only_trainings_by_grpo_are_several_processes() -> None:
    preset = shared_by(2)
    counts = {stage.kind: processes_of(preset, stage.kind) for stage in plan(preset)}
    assert {kind for kind, count in counts.items() if count == 2} == {"train-questioner", "train-solver"}
    assert processes_of(shared_by(2, "solver.objective=sft"), "train-solver") == 1


def test_the_number_of_processes_is_part_of_a_trainings_spec_and_of_no_other() -> None:
    alone, shared = plan(load_preset("smoke")), plan(shared_by(2))
    assert [one.kind for one, two in zip(alone, shared, strict=True) if one != two] == [
        "train-questioner",
        "train-solver",
    ]
    assert shared[2].config["launch"] == {"strategy": "ddp", "processes": 2}


def test_a_process_without_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processes.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert (
        processes.world() == World()
        and processes.all_gather_object("x") == ["x"]
        and processes.broadcast(lambda: "y") == "y"
    )
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes.world() == World(2, 4, 4) and not processes.world().first


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([1, 75], 75),
        ([1, 137], 137),
        ([-9, 1], 137),
        ([1, 2], 2),
        ([1, 1], 1),
        ([0, 3], 3),
        ([], 1),
        ([0], 1),
    ],
)
def test_the_exit_code_is_the_one_that_says_most(codes: list[int], code: int) -> None:
    assert root_cause(codes) == code
