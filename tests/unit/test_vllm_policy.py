"""vLLM drawing from a policy in training: it answers by the weights of this moment, and where it does not
that is seen.

Skipped where vLLM is not installed (`make vllm` adds it).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import get_peft_model

from tests import tiny_model
from tests.unit.test_vllm_engine import FORBIDDEN, WORDS, config, several
from vzero.config import GrpoSettings, LoraConfig, RolloutsConfig, SamplingConfig
from vzero.errors import RolloutError
from vzero.grpo import adapters
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.train import Job, train
from vzero.images.records import load_records
from vzero.pocket.images import write
from vzero.prompts import questioner_messages
from vzero.rollout import Rollout
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.rollout.vllm_policy import VllmPolicy, open_policy
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` adds it"
)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=12)


def gap(model: torch.nn.Module, processor: object, rollouts: list[Rollout]) -> float:
    """Largest difference of the engine's log-probabilities from an unpadded forward of `model` over the same
    tokens."""
    found = []
    for one, rollout in zip(several(), rollouts, strict=True):
        picture = "<vs><img><ve> " if one.image else ""
        text = f"<sys> {one.messages[0].text} <user> {picture}{one.messages[1].text} <go>"
        inputs = processor(text=[text], images=[[one.image]] if one.image else None, return_tensors="pt")
        pictures = {key: inputs[key] for key in ("pixel_values", "image_grid_thw") if key in inputs}
        width = inputs["input_ids"].shape[1]
        for completion in rollout.completions:
            drawn = torch.tensor([completion.token_ids])
            whole = torch.cat([inputs["input_ids"], drawn], 1)
            types = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, drawn.shape[1]))
            with torch.no_grad():
                logits = model(
                    input_ids=whole,
                    attention_mask=torch.ones_like(whole),
                    mm_token_type_ids=types,
                    **pictures,
                ).logits
            scores = (
                logits[0, width - 1 : -1]
                .index_fill(1, torch.tensor(sorted(FORBIDDEN)), -torch.inf)
                .log_softmax(-1)
            )
            found.append(
                (scores.gather(1, drawn[0][:, None])[:, 0] - torch.tensor(completion.logprobs)).abs().max()
            )
    return float(torch.stack(found).max())


def test_every_weight_is_taken_before_every_draw(tmp_path: Path) -> None:
    """The same prompts and pictures again and again, so that anything remembered from other weights would
    show: each part of the model changed by itself, then adapters put on and filled."""
    torch.set_num_threads(1)
    tiny_model.build(tmp_path / "model")
    model, processor = (
        checkpoints.load_model(tmp_path / "model"),
        checkpoints.load_processor(tmp_path / "model"),
    )
    holder = [model]
    policy = open_policy(config("vllm"), tmp_path / "model", lambda: adapters.whole_weights(holder[0]))
    sampling = SamplingConfig(n=3, max_new_tokens=10)
    seen = [policy.generate(several(), sampling)]
    assert gap(model, processor, seen[0]) < 1e-3
    generator = torch.Generator().manual_seed(0)
    for part in (
        "embed_tokens",
        "visual.patch_embed",
        "visual.merger",
        "layers.0.self_attn",
        "layers.1.mlp",
        "norm",
    ):
        with torch.no_grad():
            for name, one in model.named_parameters():
                if part in name:
                    one += 0.1 * torch.randn(one.shape, generator=generator)
        seen.append(policy.generate(several(), sampling))
        assert gap(model, processor, seen[-1]) < 1e-3 < gap(model, processor, seen[-2]), part
    wrapped = get_peft_model(model, adapters.peft_config(model, LoraConfig(rank=2, alpha=8)))
    with torch.no_grad():
        for name, one in wrapped.named_parameters():
            if "lora_B" in name:
                one += 0.1 * torch.randn(one.shape, generator=generator)
    assert gap(model, processor, policy.generate(several(), sampling)) < 1e-3
    assert policy.generate(several(), GREEDY) == TransformersEngine(model, processor, 64).generate(
        several(), GREEDY
    )

    holder[0] = tiny_model.model(WORDS)
    del holder[0].model.language_model.layers[1].mlp
    with pytest.raises(RolloutError, match=r"layers\.1\.mlp"):
        policy.generate(several(), sampling)


def by_length(groups: list[Group], generation: int) -> Scores:
    return Scores([[float(len(one.token_ids) % 5) for one in group.completions] for group in groups], {})


@pytest.mark.parametrize("stale", [False, True])
def test_the_parity_watch_sees_an_engine_with_old_weights(
    tmp_path: Path, stale: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    artefacts.write_jsonl(tmp_path / "images.jsonl", write(tmp_path, seed=5, count=24))
    prompts = [
        Prompt(record.image_id, questioner_messages("pocket"), record) for record in load_records(tmp_path)
    ]
    settings = GrpoSettings(
        prompts_per_generation=8,
        prompts_per_step=4,
        group_size=4,
        micro_batch=8,
        max_completion_tokens=48,
        learning_rate=5e-4,
        importance_correction="token_truncate",
    )
    if stale:
        monkeypatch.setattr(VllmPolicy, "_take_weights", lambda self: None)
    work, progress = tmp_path / "work", Progress(tmp_path / "progress.jsonl")
    job = Job(
        "questioner",
        1,
        0,
        settings,
        config("vllm"),
        checkpoints.POCKET,
        prompts,
        by_length,
        tmp_path,
        work,
        progress,
    )
    train(Job(**{**vars(job), "rollouts": RolloutsConfig(engine="vllm")}))
    gaps = {row["generation"]: row["logprob_gap"] for row in artefacts.read_jsonl(tmp_path / "metrics.jsonl")}
    said = capfd.readouterr().err
    assert gaps[1] < 1e-3  # before any step the base is the policy
    if stale:
        assert gaps[3] > 0.05 and "after optimizer step 4" in said
    else:
        assert max(gaps.values()) < 1e-3 and "warning" not in said
