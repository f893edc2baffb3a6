"""What the campaign attacks of trainings: a run of a tiny random model that comes to the Solver's training
next, by GRPO or by imitation, and saves a checkpoint to resume from after each generation batch."""

from __future__ import annotations

import atexit
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers.utils import logging

from tests import tiny_model
from tests.faults.trainings import IMAGES, LABELS, QUESTIONER, SOLVER, WRITTEN, seal_made
from tests.fixtures.stage_rows import ROWS
from vzero.presets import load_preset
from vzero.runtime import artefacts, stage
from vzero.runtime.stage import run_stage, stage_folder
from vzero.stages import PROGRAMS

OBJECTIVES = {"grpo": "labels", "sft": "sft"}
SETTINGS = [
    *("images.count=4", "engine.threads=1", "rollouts.max_logprob_gap=9"),  # of random weights it is large
    *(f"solver.grpo.{name}=2" for name in ("prompts_per_generation", "prompts_per_step", "group_size")),
    *("solver.grpo.micro_batch=4", "solver.grpo.max_completion_tokens=3", "solver.grpo.max_generations=3"),
]


@cache
def begun(target: str) -> Path:
    """The run, to be copied. What its training needs is imported and loaded once here, and not in each
    attempt."""
    from vzero.arms import sft  # noqa: F401
    from vzero.grpo import train  # noqa: F401

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # else it is said in each fork
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    place = Path(mkdtemp(prefix="vzero-training-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    base = tiny_model.build(place / "model")
    preset = load_preset("smoke", [f"model={base}", f"solver.objective={OBJECTIVES[target]}", *SETTINGS])
    run = place / "run"
    artefacts.write_json(run / "run.json", {"preset": preset.model_dump(mode="json")})
    run_stage(run, IMAGES, PROGRAMS)
    pictures = artefacts.read_jsonl(stage_folder(run, IMAGES) / "images.jsonl")
    labels, votes = [], []
    for number in range(6):
        name, answer = f"q{number}", "ABCD"[number % 4]
        text = f"how many {'circle ' * (number % 3)}? A) w1 B) w2 C) w3 D) w4"
        about = {"question_id": name, "image_id": pictures[number % 4]["image_id"], "text": text}
        labels.append({**ROWS["label/labels.jsonl"], **about, "answer": answer})
        vote = {**ROWS["votes.jsonl"], "question_id": name, "answer": answer}
        votes += [{**vote, "text": f"\\boxed{{ {answer} }} w{number + i}"} for i in range(2)]
    artefacts.write_jsonl(stage_folder(run, LABELS) / "labels.jsonl", labels)
    artefacts.write_jsonl(stage_folder(run, LABELS) / "votes.jsonl", votes)
    seal_made(run, preset, QUESTIONER, WRITTEN, LABELS)
    return run


def train(folder: Path) -> int:
    """The training, as its own process runs it."""
    return stage.main(PROGRAMS, [str(folder), SOLVER])
