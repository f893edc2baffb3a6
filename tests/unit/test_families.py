"""Other families through all that touches a model: decoding as their own `generate` does, two optimizer steps
of each role, what is exported and read again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.report import forms
from tests import tiny_families, tiny_model
from vzero.config import EngineConfig, GrpoSettings, LaunchConfig, SamplingConfig
from vzero.grpo import log_probs
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.train import Job, train
from vzero.images.records import load_records, open_image
from vzero.prompts import questioner_messages, solver_messages
from vzero.rollout.protocol import Request
from vzero.rollout.template import render
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress

CONTROL = [0, 1, 2, 4, 5, 6, 7]  # the template's own tokens, which no answer may hold; 3 ends it
SETTINGS = GrpoSettings(
    prompts_per_generation=2,
    prompts_per_step=1,
    group_size=2,
    micro_batch=2,
    learning_rate=1e-3,
    kl_coefficient=0.1,
    max_completion_tokens=4,
    max_generations=1,
    freeze_vision=True,
)


def prompts(folder: Path) -> list[Prompt]:
    rows = []
    for i in range(2):
        folder.mkdir(exist_ok=True)
        tiny_model.picture(i).save(folder / f"{i}.png")
        digest = artefacts.sha256_file(folder / f"{i}.png")
        rows.append({"image_id": f"i{i}", "path": f"{i}.png", "sha256": digest, "width": 42, "height": 42})
    artefacts.write_jsonl(folder / "images.jsonl", rows)
    texts = ["how many red ? A) w1 B) w2 C) w3 D) w4", "how many ? A) w1 B) w2 C) w3 D) w4"]
    return [
        Prompt(record.image_id, solver_messages("pocket", text), record, "A")
        for record, text in zip(load_records(folder), texts, strict=True)
    ]


def even_tokens(groups: Sequence[Group], generation: int) -> Scores:
    return Scores([[float(one.token_ids[0] % 2) for one in group.completions] for group in groups], {})


@pytest.mark.parametrize("family", tiny_families.MODELS)
def test_a_family_decodes_trains_and_exports(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    base = tiny_families.build(family, tmp_path / "base")
    model, processor = checkpoints.load_model(base), checkpoints.load_processor(base)
    given = prompts(tmp_path / "images")

    # Decoded in one batch as the family's own `generate` decodes each prompt by itself.
    requests = [Request(one.messages, open_image(one.image), 0) for one in given]
    greedy = SamplingConfig(n=1, temperature=0.0, max_new_tokens=5)
    drawn = TransformersEngine(model, processor, 8).generate(requests, greedy)
    for request, rollout in zip(requests, drawn, strict=True):
        text = render(processor, request.messages, with_image=True)
        inputs = processor(text=[text], images=[[request.image]], return_tensors="pt")
        found = model.generate(**inputs, max_new_tokens=5, do_sample=False, suppress_tokens=CONTROL)
        assert rollout.completions[0].token_ids == tuple(found[0, inputs["input_ids"].shape[1] :].tolist())

    # Rows that share a prompt are packed only where that was shown to be exact; these train padded.
    assert log_probs.prepare(model) is False
    place = base
    for role in ("questioner", "solver"):
        messages = questioner_messages("pocket")
        asked = given if role == "solver" else [Prompt(one.key, messages, one.image) for one in given]
        folder = tmp_path / role
        facts = train(
            Job(
                role,
                1,
                3,
                SETTINGS,
                EngineConfig(batch_sequences=8, threads=1),
                place,
                asked,
                even_tokens,
                folder,
                folder / "work",
                Progress(folder / "work" / "progress.jsonl"),
                launch=LaunchConfig(checkpoint_minutes=30),
            )
        )
        assert facts["steps"] == 2
        metrics = artefacts.read_jsonl(folder / "metrics.jsonl")
        assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in metrics)
        # What was drawn has the probabilities under the trainer's padded forward that it was drawn with, but
        # for the share of the seven forbidden tokens of 112, which random weights draw as often as others.
        assert abs(metrics[0]["logprob_gap"] - math.log(112 / 105)) < 0.02
        before = load_file(place / "model.safetensors")
        place = folder / "checkpoint"
        after = load_file(place / "model.safetensors")
        assert before.keys() == after.keys()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved and not any("visual" in name for name in moved)

    forms.rewrite(place, forms.Form(dtype="bf16"))
    assert forms.check_loads(place, tmp_path / "solver" / "checkpoint", forms.Form(dtype="bf16")) < 0.1
