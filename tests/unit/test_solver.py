"""Labelling against votes worked by hand, the label reward, and both of the Solver's stages on a tiny
model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny_model
from vzero import selfplay, solver
from vzero.arms import objectives
from vzero.config import SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group
from vzero.images.records import ImageRecord
from vzero.presets import changed, load_preset
from vzero.rollout import engines
from vzero.rollout.protocol import Completion, Finished, Request, Rollout, overflow
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext

pytestmark = pytest.mark.slow

TEXT = "how many ? A) 1 B) 2 C) 3 D) 4"


def context_for(tmp_path: Path, kind: str, questions: list[dict], labels: list[dict]) -> StageContext:
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for i in range(3):
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
    artefacts.write_jsonl(tmp_path / "questions" / "questions.jsonl", questions)
    artefacts.write_jsonl(tmp_path / "labels" / "labels.jsonl", labels)
    preset = load_preset(
        "smoke", ["engine.batch_sequences=20", "engine.threads=1", "solver.grpo.max_completion_tokens=4"]
    )
    stage = next(one for one in selfplay.plan(preset) if one.kind == kind)
    return StageContext(
        stage,
        preset,
        tmp_path / "out",
        {
            "images": folder,
            "questions": tmp_path / "questions",
            "labels": tmp_path / "labels",
            "solver": tiny_model.build(tmp_path / "model"),
        },
        Progress(tmp_path / "out" / "work" / "progress.jsonl"),
    )


def question(image: int, valid: bool = True) -> dict:
    return {
        "question_id": f"1-i{image}",
        "image_id": f"i{image}",
        "raw": "r",
        "finish_reason": "stop",
        "tokens": 3,
        "valid": valid,
        "description": "d",
        "text": TEXT if valid else None,
        "intuitive": "B" if valid else None,
    }


class Voters:
    """Answers each request, as it comes, with the ten votes scripted for its picture; "-" is a reply without
    a box. A picture without a script is the end of it."""

    def __init__(self, *script: str) -> None:
        self.script, self.asked = list(script), []

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        for i, request in enumerate(requests):
            self.asked.append((request.messages[-1].text, request.seed, sampling))
            votes = [f"\\boxed{{ {one} }}" if one != "-" else "hm" for one in self.script.pop(0)]
            drawn = tuple(Completion(one, (4, 5, 6), (0.0,) * 3, "stop") for one in votes)
            finished(i, Rollout(5, drawn) if drawn else overflow(300, 40, 256))


def test_labels_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_for(tmp_path, "label", [question(0), question(1, valid=False), question(2)], [])
    voters = Voters("CCCBBA----", "DDDDDDDDD-")
    monkeypatch.setattr(engines, "open_engine", lambda config, checkpoint: voters)
    facts = solver.run_labelling(context)
    first, second = artefacts.read_jsonl(context.folder / "labels.jsonl")
    assert first == {
        "question_id": "1-i0",
        "image_id": "i0",
        "text": TEXT,
        "intuitive": "B",
        "answer": "C",
        "confidence": 0.3,
        "kept": True,
        "votes": ["C", "C", "C", "B", "B", "A", None, None, None, None],
    }
    assert (second["question_id"], second["answer"], second["confidence"], second["kept"]) == (
        "1-i2",
        "D",
        0.9,
        False,
    )
    votes = artefacts.read_jsonl(context.folder / "votes.jsonl")
    assert len(votes) == 20
    assert votes[0] == {
        "question_id": "1-i0",
        "index": 0,
        "text": "\\boxed{ C }",
        "answer": "C",
        "finish_reason": "stop",
        "tokens": 3,
    }
    assert facts == {"written": 3, "valid": 2, "kept": 1, "mean_confidence": pytest.approx(0.6), "tokens": 60}
    asked = voters.asked
    assert len(asked) == 2 and asked[0][0] == TEXT and asked[0][1] != asked[1][1] and asked[0][2].n == 10


def test_labelling_resumes_at_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_for(tmp_path, "label", [question(0), question(1), question(2)], [])
    monkeypatch.setattr(
        engines, "open_engine", lambda config, checkpoint: Voters("A" * 10, "B" * 10)
    )  # dies at the third question
    with pytest.raises(IndexError):
        solver.run_labelling(context)
    rest = Voters("C" * 10)
    monkeypatch.setattr(engines, "open_engine", lambda config, checkpoint: rest)
    solver.run_labelling(context)
    assert [row["answer"] for row in artefacts.read_jsonl(context.folder / "labels.jsonl")] == ["A", "B", "C"]
    assert len(rest.asked) == 1


def test_a_question_that_is_too_long_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_for(tmp_path, "label", [question(0), question(1), question(2)], [])
    monkeypatch.setattr(engines, "open_engine", lambda config, checkpoint: Voters("A" * 10, "", "CCCBBA----"))
    facts = solver.run_labelling(context)
    assert (facts["valid"], facts["too_long"], facts["kept"]) == (3, 1, 1)
    labels = artefacts.read_jsonl(context.folder / "labels.jsonl")
    assert [row["question_id"] for row in labels] == ["1-i0", "1-i2"]
    monkeypatch.setattr(engines, "open_engine", lambda config, checkpoint: Voters())
    assert solver.run_labelling(context) == facts  # by a resumed attempt it is not asked again


def test_no_valid_question_labels_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_for(tmp_path, "label", [question(0, valid=False)], [])
    monkeypatch.setattr(engines, "open_engine", lambda config, checkpoint: Voters())
    assert solver.run_labelling(context) == {
        "written": 1,
        "valid": 0,
        "kept": 0,
        "mean_confidence": None,
        "tokens": 0,
    }
    assert artefacts.read_jsonl(context.folder / "labels.jsonl") == []


def test_label_reward_by_hand() -> None:
    texts = ("<think> w </think> \\boxed{ B }", "\\boxed{C}", "B", "\\boxed{ b }", "<think> \\boxed{B")
    group = Group(
        Prompt("q", (), ImageRecord("i", Path("x"), "", 2, 2), "B"),
        tuple(Completion(text, (1,), (0.0,), "stop") for text in texts),
    )
    assert objectives.label_reward([group], 0).rewards == [[1.0, 0.0, 0.0, 1.0, 0.0]]


def label(image: int, kept: bool) -> dict:
    return {
        "question_id": f"1-i{image}",
        "image_id": f"i{image}",
        "text": TEXT,
        "intuitive": "A",
        "votes": ["A"] * 10,
        "answer": "A",
        "confidence": 0.5,
        "kept": kept,
    }


def test_only_kept_questions_are_trained_on(tmp_path: Path) -> None:
    context = context_for(tmp_path, "train-solver", [], [label(0, True), label(1, False), label(2, True)])
    assert solver.run_training(context) == {"prompts": 2, "prompts_used": 2, "generations": 1, "steps": 1}
    [row] = artefacts.read_jsonl(context.folder / "metrics.jsonl")
    assert {
        "step",
        "generation",
        "loss",
        "kl",
        "grad_norm",
        "reward",
        "reward_std",
        "clip_ratio",
        "completion_tokens",
        "truncated",
        "unanimous",
    } <= row.keys()
    assert (context.folder / "checkpoint" / "model.safetensors").exists()


def test_a_training_pays_by_a_reward_out_of_a_file(tmp_path: Path) -> None:
    """What was written down of each completion earns what the file says of its text, its question's votes and
    label."""
    context = context_for(tmp_path, "train-solver", [], [label(0, True), label(2, True)])
    source = "def solver_reward(one): return one.text.count('w') + one.votes.count(one.label) / 4"
    preset = changed(context.preset, {"solver.objective": "own", "solver.reward_source": source})
    solver.run_training(replace(context, preset=preset))
    rows = artefacts.read_jsonl(context.folder / "rollouts.jsonl")
    assert [row["reward"] for row in rows] == [row["text"].count("w") + 2.5 for row in rows] and len(
        {row["reward"] for row in rows}
    ) > 1


def test_no_kept_question_leaves_the_solver_as_it_was(tmp_path: Path) -> None:
    context = context_for(tmp_path, "train-solver", [], [label(0, False)])
    assert solver.run_training(context) == {"prompts": 0, "prompts_used": 0, "generations": 0, "steps": 0}
    before = load_file(context.inputs["solver"] / "model.safetensors")
    after = load_file(context.folder / "checkpoint" / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
