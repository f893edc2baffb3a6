"""Does vLLM draw from the policy as it is while it is trained?

    python -m benchmarks.policy_rollouts --out results/vllm-cpu        (needs `make vllm`)

The shipped pocket model is trained as a Questioner for four generation batches of two optimizer steps, with a
reward that needs no votes. Measured is the log-probability gap that the parity watch logs for each batch:
before any step, and after two, four and six. As controls, rollouts by transformers, and by a vLLM that keeps
its first weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from vzero.config import EngineConfig, GrpoSettings, LoraConfig, RolloutsConfig
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.train import Job, train
from vzero.images.records import load_records
from vzero.pocket.images import write
from vzero.prompts import questioner_messages
from vzero.rollout.vllm_policy import VllmPolicy
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET
from vzero.runtime.progress import Progress

IMAGES = 32
CASES: tuple[dict[str, Any], ...] = (
    {"engine": "transformers", "trained": "weights", "learning_rate": 1e-4},
    {"engine": "vllm", "trained": "weights", "learning_rate": 1e-4},
    {"engine": "vllm", "trained": "weights", "learning_rate": 1e-3},
    {"engine": "vllm", "trained": "adapters", "learning_rate": 1e-2},
    {"engine": "vllm, first weights", "trained": "weights", "learning_rate": 1e-4},
    {"engine": "vllm, first weights", "trained": "weights", "learning_rate": 1e-3},
)


def by_length(groups: Sequence[Group], generation: int) -> Scores:
    """Rewards that differ within a group."""
    return Scores([[float(len(one.token_ids) % 5) for one in group.completions] for group in groups], {})


def gaps(case: dict[str, Any], folder: Path) -> list[float]:
    """Nats by generation batch."""
    artefacts.write_jsonl(folder / "images.jsonl", write(folder, seed=5, count=IMAGES))
    settings = GrpoSettings(
        prompts_per_generation=8,
        prompts_per_step=4,
        group_size=4,
        micro_batch=8,
        max_completion_tokens=48,
        learning_rate=case["learning_rate"],
        kl_coefficient=0.01,
    )
    messages = questioner_messages("pocket")
    job = Job(
        role="questioner",
        iteration=1,
        seed=0,
        settings=settings,
        engine=EngineConfig(batch_sequences=64, threads=1),
        checkpoint=POCKET,
        prompts=[Prompt(record.image_id, messages, record) for record in load_records(folder)],
        reward=by_length,
        folder=folder,
        work=folder / "work",
        progress=Progress(folder / "progress.jsonl"),
        lora=LoraConfig(rank=4, alpha=8) if case["trained"] == "adapters" else None,
        rollouts=RolloutsConfig(engine="transformers" if case["engine"] == "transformers" else "vllm"),
    )
    stale = patch.object(VllmPolicy, "_take_weights", lambda self: None)
    with stale if "first" in case["engine"] else nullcontext():
        train(job)
    per_generation = settings.prompts_per_generation // settings.prompts_per_step
    return [row["logprob_gap"] for row in artefacts.read_jsonl(folder / "metrics.jsonl")[::per_generation]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Log-probability gap of a policy that is being trained.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found.append({**case, "gap_nats_by_generation": gaps(case, Path(folder))})
    result = {"command": "python -m benchmarks.policy_rollouts", "cases": found}
    provenance = {"provenance": artefacts.provenance()}
    artefacts.write_json(options.out / "policy_rollouts.json", {**result, **provenance})


if __name__ == "__main__":
    main()
