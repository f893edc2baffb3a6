"""Fine-tuning on votes: what it imitates, its gradient against a token-by-token one, and a kill in the
middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from tests import tiny_model
from tests.fixtures.stage_rows import ROWS
from vzero.arms import sft
from vzero.grpo.states import HostAdamW
from vzero.images.records import ImageRecord, load_records, open_image
from vzero.presets import changed, load_preset
from vzero.rollout import thinking
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext
from vzero.selfplay import plan

pytestmark = pytest.mark.slow

TEXT = "how many ? A) 1 B) 2 C) 3 D) 4"
WORDS = tiny_model.vocabulary()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    (folder / "images").mkdir()
    rows, labels, votes = [], [], []
    plain = [word for word in WORDS if word.isalnum()]
    for i in range(4):
        path = folder / "images" / f"{i}.png"
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
        name = f"1-i{i}"
        about = {"question_id": name, "image_id": f"i{i}", "text": TEXT, "answer": "B", "kept": i != 3}
        labels.append({**ROWS["label/labels.jsonl"], **about})
        for k in range(4):
            text = " ".join(plain[(i + k + j) % len(plain)] for j in range(2 + k))
            votes.append(
                {
                    "question_id": name,
                    "index": k,
                    "text": text,
                    "answer": "C" if k == 1 else "B",
                    "finish_reason": "stop",
                    "tokens": 3,
                }
            )
    votes[3]["finish_reason"] = "length"
    artefacts.write_jsonl(folder / "images" / "images.jsonl", rows)
    artefacts.write_jsonl(folder / "labels" / "labels.jsonl", labels)
    artefacts.write_jsonl(folder / "votes" / "votes.jsonl", votes)
    tiny_model.build(folder / "model")
    return folder


def test_it_imitates_votes_as_they_were_asked(place: Path, tmp_path: Path) -> None:
    """The template switched as the engine's was."""
    ctx = context(place, tmp_path)
    ctx = replace(ctx, preset=changed(ctx.preset, {"engine.thinking": False}))
    processor = sft._prepare(ctx, None).processor
    assert thinking.switched(processor) is False
    assert thinking.switched(sft._prepare(context(place, tmp_path), None).processor) is None


def context(place: Path, out: Path, lora: dict[str, float] | None = None, **more: Any) -> StageContext:
    settings = {
        "prompts_per_generation": 1, "prompts_per_step": 1, "group_size": 2, "micro_batch": 2, "epochs": 2,
        "learning_rate": 1e-3, "max_generations": None, "freeze_vision": False, **more,
    }  # fmt: skip
    changes = {f"solver.grpo.{key}": value for key, value in settings.items()}
    preset = changed(load_preset("smoke"), {"solver.objective": "sft", "lora": lora, **changes})
    stage = next(one for one in plan(preset) if one.kind == "train-solver")
    inputs = {
        "images": place / "images",
        "labels": place / "labels",
        "votes": place / "votes",
        "solver": place / "model",
    }
    return StageContext(stage, preset, out, inputs, Progress(out / "work" / "progress.jsonl"))


def test_it_imitates_finished_votes_for_the_majority_of_kept_questions(place: Path) -> None:
    labels = artefacts.read_jsonl(place / "labels" / "labels.jsonl")
    votes = artefacts.read_jsonl(place / "votes" / "votes.jsonl")
    records = {f"i{i}": ImageRecord(f"i{i}", Path("x"), "", 42, 42) for i in range(4)}
    given = sft.examples(labels, votes, records, "pocket", 2)
    texts = {(row["question_id"], row["index"]): row["text"] for row in votes}
    # Index 1 voted for another option, index 3 of the first question was truncated; at most two each.
    assert [one.replies for one in given] == [tuple(texts[f"1-i{i}", k] for k in (0, 2)) for i in range(3)]
    assert [one.messages[-1].text for one in given] == [TEXT] * 3


def test_the_gradient_is_that_of_the_mean_over_tokens(place: Path) -> None:
    """Each reply by itself, unpadded, against all of them padded into micro-batches."""
    model, processor = checkpoints.load_model(place / "model"), checkpoints.load_processor(place / "model")
    records = {record.image_id: record for record in load_records(place / "images")}
    labels, votes = (artefacts.read_jsonl(place / name / f"{name}.jsonl") for name in ("labels", "votes"))
    given = sft.examples(labels, votes, records, "pocket", 2)
    loss = sft._gradient(model, processor, given, micro_batch=3)
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    total, count = torch.zeros(()), 0
    for example in given:
        prompt = processor.apply_chat_template(
            [
                {"role": "system", "content": "solve"},
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": TEXT}]},
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        for text in example.replies:
            whole = processor(
                text=[f"{prompt} {text} <eos>"], images=[[open_image(example.image)]], return_tensors="pt"
            )
            length = len(text.split()) + 1
            log_probs = model(**whole).logits[0, -length - 1 : -1].log_softmax(-1)
            total = total - log_probs.gather(1, whole["input_ids"][0, -length:, None]).sum()
            count += length
    mean = total / count
    mean.backward()
    assert loss == pytest.approx(float(mean.detach()), rel=1e-5)
    for name, value in model.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(found[name], value.grad, rtol=1e-3, atol=1e-5)


def test_weight_decay_falls_on_what_it_falls_on_in_grpo(place: Path, tmp_path: Path) -> None:
    """A step without any gradient is the decay alone; beside it, what a Trainer's optimizer decays."""
    state = sft._prepare(context(place, tmp_path, learning_rate=0.1, weight_decay=0.5), None)
    before = {name: value.detach().clone() for name, value in state.model.named_parameters()}
    for value in state.parameters:
        value.grad = torch.zeros_like(value)
    state.optimizer.step()
    after = {name: value.detach() for name, value in state.model.named_parameters()}
    decayed = {name for name in before if not torch.equal(before[name], after[name])}
    for name in decayed:
        torch.testing.assert_close(after[name], before[name] * 0.95)
    nothing = {name for name, value in before.items() if not value.any()}  # zeros stay zeros

    arguments = TrainingArguments(str(tmp_path / "trainer"), weight_decay=0.5, report_to="none", use_cpu=True)
    groups = Trainer(state.model, arguments).create_optimizer().param_groups
    theirs = {id(value) for group in groups if group["weight_decay"] for value in group["params"]}
    expected = {name for name, value in state.model.named_parameters() if id(value) in theirs}
    assert decayed == expected - nothing
    spared = set(before) - expected
    assert any(name.endswith("input_layernorm.weight") for name in spared)
    assert {name for name in before if name.endswith("bias")} <= spared


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 8}])
def test_a_killed_fine_tuning_ends_where_an_undisturbed_one_does(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict[str, float] | None
) -> None:
    rate = {"learning_rate": 1e-2 if lora else 1e-3}
    calm = context(place, tmp_path / "calm", lora, **rate)
    facts = sft.run_training(calm)
    assert facts == {"prompts": 3, "prompts_used": 6, "generations": 6, "steps": 6, "imitated": 12}
    rows = artefacts.read_jsonl(calm.folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert sum(row["loss"] for row in rows[3:]) < sum(
        row["loss"] for row in rows[:3]
    )  # each epoch is all three examples

    killed, gradient, steps = context(place, tmp_path / "killed", lora, **rate), sft._gradient, []

    def dies(*words: Any) -> float:
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(1)
        return gradient(*words)

    monkeypatch.setattr(sft, "_gradient", dies)
    with pytest.raises(KeyboardInterrupt):
        sft.run_training(killed)
    monkeypatch.undo()
    torn = killed.work / ".sft.99.tmp" / "checkpoint"  # as a kill while saving leaves it
    torn.mkdir(parents=True)
    sft.run_training(killed)
    assert artefacts.read_jsonl(killed.folder / "metrics.jsonl") == rows
    one, other = (
        load_file(folder / "checkpoint" / "model.safetensors") for folder in (calm.folder, killed.folder)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_fine_tuned_adapters_leave_everything_but_linear_layers_as_it_was(
    place: Path, tmp_path: Path
) -> None:
    out = context(place, tmp_path / "out", {"rank": 2, "alpha": 8})
    sft.run_training(out)
    before, after = (
        load_file(place / "model" / "model.safetensors"),
        load_file(out.folder / "checkpoint" / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(moved) == 2 * 7 and all(
        name.endswith("_proj.weight") and "visual" not in name for name in moved
    )


def test_nothing_to_imitate_leaves_the_model_as_it_is(place: Path, tmp_path: Path) -> None:
    empty = context(place, tmp_path / "out")
    artefacts.write_jsonl(tmp_path / "labels" / "labels.jsonl", [])
    empty.inputs["labels"] = tmp_path / "labels"
    assert sft.run_training(empty)["steps"] == 0
    before, after = (
        load_file(place / "model" / "model.safetensors"),
        load_file(empty.folder / "checkpoint" / "model.safetensors"),
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_frozen_vision_tower_stays(place: Path, tmp_path: Path) -> None:
    out = context(place, tmp_path / "out", freeze_vision=True)
    sft.run_training(out)
    before, after = (
        load_file(place / "model" / "model.safetensors"),
        load_file(out.folder / "checkpoint" / "model.safetensors"),
    )
    seen = [name for name in before if "visual" in name]
    assert seen and all(torch.equal(before[name], after[name]) for name in seen)
    assert any(not torch.equal(before[name], after[name]) for name in before if name not in seen)


def test_moments_may_lie_in_the_hosts_memory(place: Path, tmp_path: Path) -> None:
    """The setting by which a training fits its card holds for fine-tuning too, and changes no number."""
    ends = []
    for states in ("device", "host"):
        ctx = context(place, tmp_path / states)
        ctx = replace(ctx, preset=changed(ctx.preset, {"launch.optimizer_states": states}))
        found = sft._prepare(ctx, None).optimizer
        assert isinstance(found, HostAdamW) == (states == "host")
        sft.run_training(ctx)
        ends.append(load_file(tmp_path / states / "checkpoint" / "model.safetensors"))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
