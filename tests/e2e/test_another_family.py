"""The whole loop with a model of another family than Qwen's, in the natural prompt_format, on a folder of
ordinary pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from tests import tiny_idefics3
from vzero.config import Preset
from vzero.presets import load_preset
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.stage import run_stage, stage_folder
from vzero.selfplay import plan
from vzero.stages import PROGRAMS


def photograph(seed: int) -> Image.Image:
    """Soft blobs of colour with grain, in a size of its own."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(90, 240)), int(rng.integers(90, 240)))
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    return Image.blend(small, Image.effect_noise(size, 60).convert("RGB"), 0.15).filter(
        ImageFilter.GaussianBlur(1)
    )


def preset(model: Path, images: Path, count: int) -> Preset:
    grpo = {
        "group_size": 2,
        "micro_batch": 2,
        "prompts_per_generation": 4,
        "prompts_per_step": 2,
        "max_generations": 1,
        "learning_rate": 1e-4,
    }
    changes = {
        "model": str(model),
        "prompt_format": "natural",
        "images.source": str(images),
        "images.count": count,
        "engine.threads": 1,
    }
    changes |= {
        f"{role}.grpo.{name}": value for role in ("questioner", "solver") for name, value in grpo.items()
    }
    changes |= {
        "questioner.grpo.max_completion_tokens": 96,
        "questioner.write.max_new_tokens": 96,
        "solver.keep_high": 0.9,
    }
    return load_preset("smoke", changes=changes)


def run(folder: Path, settings: Preset) -> dict[str, Path]:
    """All stages but the evaluations, in this process; kind -> folder."""
    artefacts.write_json(folder / "run.json", {"preset": settings.model_dump(mode="json")})
    stages = [stage for stage in plan(settings) if stage.kind != "evaluate"]
    for stage in stages:
        run_stage(folder, stage.name, PROGRAMS)
    return {stage.kind: stage_folder(folder, stage.name) for stage in stages}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_idefics3.build(
        tmp_path_factory.mktemp("idefics3") / "base", [photograph(i) for i in range(100, 104)]
    )


def test_idefics3_goes_through_the_loop(base: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "photographs"
    for i in range(24):
        path = pictures / f"day {i % 3}" / f"IMG_{i:04d}.{('jpg', 'png', 'webp')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(i).save(path)
    made = run(tmp_path / "run", preset(base, pictures, 24))
    questions = artefacts.read_jsonl(made["write-questions"] / "questions.jsonl")
    labels = artefacts.read_jsonl(made["label"] / "labels.jsonl")
    assert len(questions) == 24 and len(labels) == sum(row["valid"] for row in questions) > 4
    assert all("A)" in row["text"] and len(row["votes"]) == 10 for row in labels)
    assert sum(row["kept"] for row in labels) >= 2
    for kind in ("train-questioner", "train-solver"):
        steps = artefacts.read_jsonl(made[kind] / "metrics.jsonl")
        assert len(steps) == 2 and any(row["grad_norm"] > 0 for row in steps)
        before, after = (
            checkpoints.load_model(folder).state_dict() for folder in (base, made[kind] / "checkpoint")
        )
        moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
        assert before.keys() == after.keys()
        assert any("text_model" in name for name in moved) and not any(
            "vision_model" in name for name in moved
        )  # frozen there


def test_real_photographs_and_charts_are_images_like_any(base: Path, tmp_path: Path) -> None:
    data = os.environ.get("VZERO_DATA")
    if not data or not (Path(data) / "logicvista" / "images").is_dir():
        pytest.skip("VZERO_DATA names no folder with logicvista/images")
    made = run(tmp_path / "run", preset(base, Path(data) / "logicvista" / "images", 8))
    assert len(artefacts.read_jsonl(made["write-questions"] / "questions.jsonl")) == 8
    assert (made["train-solver"] / "checkpoint" / "model.safetensors").exists()
