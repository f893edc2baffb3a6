"""Training by TRL on a tiny random model: what the trainer sees, what a kill leaves, what a failing Solver
does."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tests import tiny_model
from vzero.config import EngineConfig, GrpoSettings, LaunchConfig
from vzero.errors import RolloutError, VZeroError
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.train import Job, full_disk_as_oserror, train
from vzero.grpo.trainer import GroupTrainer
from vzero.images.records import load_records, open_image
from vzero.prompts import solver_messages
from vzero.rollout.template import conversation
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow

SETTINGS = GrpoSettings(
    prompts_per_generation=4,
    prompts_per_step=2,
    group_size=3,
    micro_batch=3,
    learning_rate=1e-3,
    kl_coefficient=0.1,
    max_completion_tokens=5,
    freeze_vision=True,
)
EVERY_GENERATION = LaunchConfig(checkpoint_minutes=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_model.build(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for i in range(9):
        path = folder / f"{i}.png"
        tiny_model.picture(i).save(path)
        rows.append(
            {
                "image_id": f"i{i}",
                "path": path.name,
                "sha256": artefacts.sha256_file(path),
                "width": 42,
                "height": 42,
            }
        )
    artefacts.write_jsonl(folder / "images.jsonl", rows)
    # prompts of different lengths, so that padding and its trimming matter
    texts = ["how many red ? A) w1 B) w2 C) w3 D) w4" + " circle" * (i % 3) for i in range(9)]
    return [
        Prompt(record.image_id, solver_messages("pocket", text), record, "A")
        for record, text in zip(load_records(folder), texts, strict=True)
    ]


def even_tokens(groups: Sequence[Group], generation: int) -> Scores:
    """A reward that random models earn sometimes: the share of even token ids."""
    rewards = [
        [sum(token % 2 == 0 for token in one.token_ids) / len(one.token_ids) for one in group.completions]
        for group in groups
    ]
    return Scores(rewards, {"generation_seen": float(generation)})


def job_for(folder: Path, base: Path, prompts: list[Prompt]) -> Job:
    return Job(
        "solver",
        1,
        3,
        SETTINGS,
        EngineConfig(batch_sequences=64, threads=1),
        base,
        prompts,
        even_tokens,
        folder,
        folder / "work",
        Progress(folder / "work" / "progress.jsonl"),
        launch=EVERY_GENERATION,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program catches it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, base: Path, prompts: list[Prompt]) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    facts = train(job_for(folder, base, prompts))
    assert facts == {"prompts": 9, "prompts_used": 8, "generations": 2, "steps": 4}
    return folder


def test_rows_and_weights(undisturbed: Path, base: Path) -> None:
    rows = artefacts.read_jsonl(undisturbed / "metrics.jsonl")
    assert [(row["step"], row["generation"]) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert [row["generation_seen"] for row in rows] == [0, 0, 1, 1]
    for row in rows:
        assert (
            0 <= row["reward"] <= 1
            and row["grad_norm"] > 0
            and 1 <= row["completion_tokens"] <= 5
            and 0 <= row["truncated"] <= 1
        )
    assert (
        rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 0
    )  # starts at the reference, then leaves it
    assert rows[0]["clip_ratio"] == 0
    timings = artefacts.read_jsonl(undisturbed / "timings.jsonl")
    assert [row["generation"] for row in timings] == [1, 2]
    assert all(row["rollout"] > 0 and row["update"] > 0 and row["rollout_tokens"] > 0 for row in timings)
    progress = artefacts.read_jsonl(undisturbed / "work" / "progress.jsonl")
    assert [(row["done"], row["total"], row["unit"]) for row in progress] == [
        (step, 4, "steps") for step in (0, 1, 2, 3, 4)
    ]
    before, after = load_file(base / "model.safetensors"), weights(undisturbed)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any(".visual." in name or name.startswith("visual.") for name in moved)


def test_rollouts_are_written_with_the_advantages_of_the_loss(undisturbed: Path) -> None:
    rows = artefacts.read_jsonl(undisturbed / "rollouts.jsonl")
    assert [(row["generation"], row["index"]) for row in rows] == [
        (g, i) for g in (1, 2) for _ in range(4) for i in range(3)
    ]
    for start in range(0, len(rows), 3):
        group = rows[start : start + 3]
        assert len({row["prompt"] for row in group}) == 1 and {row["label"] for row in group} == {"A"}
        rewards = [row["reward"] for row in group]
        mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
        assert [row["advantage"] for row in group] == pytest.approx(
            [(r - mean) / (spread + 1e-4) for r in rewards], abs=1e-3
        )
    means = [statistics.mean(row["reward"] for row in rows if row["generation"] == g) for g in (1, 2)]
    metrics = artefacts.read_jsonl(undisturbed / "metrics.jsonl")
    assert means == pytest.approx([metrics[0]["reward"], metrics[2]["reward"]], abs=1e-6)


def test_checkpoint_is_as_the_base_but_for_weights(undisturbed: Path, base: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"  # loaded and saved without training
    checkpoints.save(checkpoints.load_model(base), checkpoints.load_processor(base), same)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (undisturbed / "checkpoint" / name).read_text() == (same / name).read_text(), name
    assert {path.suffix for path in (undisturbed / "checkpoint").iterdir()} <= {
        ".json",
        ".safetensors",
        ".jinja",
    }


def test_the_trainer_differentiates_what_was_drawn(
    base: Path, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole prompts a step, and log-probabilities equal to an unbatched, unpadded forward of Hugging Face's
    own model."""
    batches, drawn = [], []
    prepare = GroupTrainer._prepare_inputs
    monkeypatch.setattr(
        GroupTrainer, "_prepare_inputs", lambda self, rows: batches.append(prepare(self, rows)) or batches[-1]
    )

    def watched(groups: Sequence[Group], generation: int) -> Scores:
        drawn.extend(groups)
        return even_tokens(groups, generation)

    settings = SETTINGS.model_copy(update={"max_generations": 1, "micro_batch": 2, "prompts_per_step": 2})
    train(replace(job_for(tmp_path, base, prompts), reward=watched, settings=settings))
    rows = [row for batch in batches for row in _rows(batch)]
    expected = [(group.prompt, one) for group in drawn for one in group.completions]
    assert len(batches) == 6 and len(rows) == len(expected) == 12
    model, processor = checkpoints.load_model(base), checkpoints.load_processor(base)
    assert [batch.old_log_probs is not None for batch in batches] == [False] * 3 + [True] * 3
    for (prompt_ids, completion_ids, *scored), (prompt, completion) in zip(rows, expected, strict=True):
        text = processor.apply_chat_template(
            conversation(prompt.messages, with_image=True), tokenize=False, add_generation_prompt=True
        )
        inputs = processor(text=[text], images=[open_image(prompt.image)], return_tensors="pt")
        assert prompt_ids == inputs["input_ids"][0].tolist()
        assert completion_ids == list(completion.token_ids)
        inputs["input_ids"] = torch.tensor([prompt_ids + completion_ids])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).int()
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        logps = logits.log_softmax(-1)[len(prompt_ids) - 1 : -1].gather(
            1, torch.tensor(completion_ids)[:, None]
        )[:, 0]
        for values in (
            scored
        ):  # of the reference, and from the second step on of the old policy, which is the same model still
            assert torch.allclose(values, logps, atol=1e-4)
    widths = {(batch.prompts["input_ids"].shape[1], batch.completion_ids.shape[1]) for batch in batches}
    assert len(widths) > 1  # padded by micro-batch, so the comparison above covers it
    assert artefacts.read_jsonl(tmp_path / "metrics.jsonl")[0]["loss"] == pytest.approx(
        _first_loss(drawn), abs=1e-5
    )


def _first_loss(groups: list[Group]) -> float:
    """The objective of the first optimizer step by hand: ratio 1 and KL 0, so minus the mean advantage of its
    tokens. "dapo" divides by the tokens of the generation batch over its steps."""
    weighted = 0.0
    for group in groups[:2]:
        rewards = [
            sum(token % 2 == 0 for token in one.token_ids) / len(one.token_ids) for one in group.completions
        ]
        mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
        weighted += sum(
            (reward - mean) / (spread + 1e-4) * len(one.token_ids)
            for reward, one in zip(rewards, group.completions, strict=True)
        )
    return -weighted / (sum(len(one.token_ids) for group in groups for one in group.completions) / 2)


def _rows(batch: MicroBatch) -> list[tuple[list[int] | torch.Tensor, ...]]:
    of = batch.prompt_of
    kept = zip(
        batch.prompts["input_ids"][of],
        batch.prompts["attention_mask"][of].bool(),
        batch.completion_ids,
        batch.completion_mask.bool(),
        *(one for one in (batch.ref_log_probs, batch.old_log_probs) if one is not None),
        strict=True,
    )
    return [
        (ids[mask].tolist(), done[seen].tolist(), *(one[seen] for one in scored))
        for ids, mask, done, seen, *scored in kept
    ]


@pytest.mark.parametrize("killed_in", [1, 0])
def test_killed_training_ends_in_the_same_bits(
    undisturbed: Path, base: Path, prompts: list[Prompt], tmp_path: Path, killed_in: int
) -> None:
    def dies(groups: Sequence[Group], generation: int) -> Scores:
        if generation == killed_in:
            raise Killed
        return even_tokens(groups, generation)

    with pytest.raises(Killed):
        train(replace(job_for(tmp_path, base, prompts), reward=dies))
    assert not (tmp_path / "checkpoint").exists()
    # what a kill may leave: a row that no checkpoint covers, a torn row, and half a checkpoint
    artefacts.append_jsonl(tmp_path / "metrics.jsonl", {"step": 3, "generation": 2, "loss": 99.0})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 4, "gen')
    torn = tmp_path / "work" / "trainer" / "checkpoint-4"
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_bytes(b"half")
    train(job_for(tmp_path, base, prompts))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert (tmp_path / name).read_text() == (undisturbed / name).read_text()
    assert (tmp_path / "checkpoint" / "model.safetensors").read_bytes() == (
        undisturbed / "checkpoint" / "model.safetensors"
    ).read_bytes()


def test_checkpoints_are_written_by_the_clock_and_not_at_the_end(
    undisturbed: Path, base: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    """Minutes apart: none in a short training. Always: one after the first generation, none at the end."""
    left = [path.name for path in (undisturbed / "work" / "trainer").glob("checkpoint-*")]
    assert left == ["checkpoint-2"]
    minutes = LaunchConfig(checkpoint_minutes=30)
    train(replace(job_for(tmp_path, base, prompts), launch=minutes))
    assert not list((tmp_path / "work").glob("trainer/checkpoint-*"))
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


def test_a_checkpoint_holds_what_is_trained_and_nothing_pickled_of_it(undisturbed: Path, base: Path) -> None:
    folder = undisturbed / "work" / "trainer" / "checkpoint-2"
    files = {path.name.split("-")[0]: load_file(path) for path in folder.glob("*.safetensors")}
    assert files.keys() == {"weight", "step", "exp_avg", "exp_avg_sq"}
    frozen = load_file(base / "model.safetensors")
    whole = sum(one.numel() for name, one in frozen.items() if "visual" not in name)
    assert all(sum(one.numel() for one in files[kind].values()) == whole for kind in files if kind != "step")
    assert not any("visual" in name for one in files.values() for name in one)
    assert {path.name for path in folder.iterdir() if path.suffix not in (".safetensors", ".json")} == {
        "rng_state.pth"
    }


def test_a_training_killed_before_it_was_sealed_repeats_its_last_generation(
    undisturbed: Path, base: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoint")
    seen = []

    def watched(groups: Sequence[Group], generation: int) -> Scores:
        seen.append(generation)
        return even_tokens(groups, generation)

    train(replace(job_for(folder, base, prompts), reward=watched))
    assert seen == [1]
    assert weights(folder).keys() == weights(undisturbed).keys()
    assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(folder).items())
    assert (folder / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


def test_moments_in_the_hosts_memory_change_nothing(
    undisturbed: Path, base: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    """The same bits, killed and resumed in between."""

    def dies(groups: Sequence[Group], generation: int) -> Scores:
        if generation == 1:
            raise Killed
        return even_tokens(groups, generation)

    launch = LaunchConfig(optimizer_states="host", checkpoint_minutes=0)
    job = replace(job_for(tmp_path, base, prompts), launch=launch)
    with pytest.raises(Killed):
        train(replace(job, reward=dies))
    train(job)
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()
    assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(tmp_path).items())


def test_groups_are_told_ahead_and_change_nothing(
    undisturbed: Path, base: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    """Every group once, before the reward sees the batch, with the completions that the reward sees; and the
    same training to the bit."""
    told: list[tuple[int, Group]] = []

    def ahead(groups: Sequence[Group], generation: int) -> None:
        told.extend((generation, group) for group in groups)

    def reward(groups: Sequence[Group], generation: int) -> Scores:
        early = [group for of, group in told if of == generation]
        assert sorted(early, key=lambda one: one.prompt.key) == sorted(groups, key=lambda one: one.prompt.key)
        return even_tokens(groups, generation)

    train(replace(job_for(tmp_path, base, prompts), reward=reward, ahead=ahead))
    assert len(told) == 8
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


def test_nothing_to_train_on_saves_the_model_unchanged(base: Path, tmp_path: Path) -> None:
    assert train(job_for(tmp_path, base, []))["steps"] == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert artefacts.read_jsonl(tmp_path / "metrics.jsonl") == []


def test_a_failing_solver_ends_the_stage(base: Path, prompts: list[Prompt], tmp_path: Path) -> None:
    def fails(groups: Sequence[Group], generation: int) -> Scores:
        raise RolloutError("the Solver is gone")

    with pytest.raises(RolloutError, match="the Solver is gone"):
        train(replace(job_for(tmp_path, base, prompts), reward=fails))
    assert not (tmp_path / "checkpoint").exists() and artefacts.read_jsonl(tmp_path / "metrics.jsonl") == []


def test_a_full_disk_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), full_disk_as_oserror(tmp_path):
        torch.save({"state": torch.zeros(100_000)}, "/dev/full")
    with pytest.raises(OSError, match="No space left"), full_disk_as_oserror(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="shapes"), full_disk_as_oserror(tmp_path):
        raise RuntimeError("shapes differ")


def test_divergence_is_one_sentence(base: Path, prompts: list[Prompt], tmp_path: Path) -> None:
    def infinite(groups: Sequence[Group], generation: int) -> Scores:
        return Scores([[float("inf"), 0.0, 0.0] for _ in groups], {})

    with pytest.raises(VZeroError, match="diverged"):
        train(replace(job_for(tmp_path, base, prompts), reward=infinite))
