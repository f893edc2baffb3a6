"""The mapping to TRL: each field against the public code's value, the batches by hand, the order of prompts,
whole checkpoints."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vzero.config import GrpoSettings
from vzero.errors import InputError
from vzero.grpo.data import training_order
from vzero.grpo.settings import Batches, plan_batches, trl_config
from vzero.presets import load_preset

QUESTIONER = GrpoSettings(group_size=4, micro_batch=8, max_completion_tokens=2048)
SOLVER = GrpoSettings(group_size=5, micro_batch=10, max_completion_tokens=4096)

# What the public code sets (research notes, section 2), by the name TRL gives it.
PUBLIC_CODE = {
    "num_iterations": 1,
    "num_train_epochs": 1,
    "beta": 0.01,
    "use_bias_correction_kl": False,
    "epsilon": 0.2,
    "delta": 3.0,
    "scale_rewards": "group",
    "vllm_importance_sampling_correction": False,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "entropy_coef": 0.0,
    "mask_truncated_completions": False,
}
# What our own design adds: exact token mean, resumability, no reports to anybody.
OURS = {
    "loss_type": "dapo",
    "importance_sampling_level": "token",
    "epsilon_high": 0.2,
    "shuffle_dataset": False,
    "report_to": [],
    "disable_tqdm": True,
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "save_strategy": "no",
    "save_only_model": False,
    "remove_unused_columns": False,
    "dataloader_num_workers": 0,
    "use_vllm": False,
    "trust_remote_code": False,
    "push_to_hub": False,
    "sync_ref_model": False,
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "pad_to_multiple_of": None,
    "multi_objective_aggregation": "sum_then_normalize",
    "optim": "adamw_torch",
    "fp16": False,
    "generation_kwargs": None,
    "disable_dropout": True,
}


@pytest.mark.parametrize(("role", "sequences", "tokens"), [(QUESTIONER, 4, 2048), (SOLVER, 5, 4096)])
def test_every_field_is_the_public_codes(
    role: GrpoSettings, sequences: int, tokens: int, tmp_path: Path
) -> None:
    config = trl_config(role, plan_batches(role, 4000), tmp_path, seed=7, cuda=False)
    for name, value in {**PUBLIC_CODE, **OURS}.items():
        assert getattr(config, name) == value, name
    assert config.num_generations == sequences
    assert config.max_completion_length == tokens
    # 64 prompts a generation, 32 an optimizer step, micro-batches of 8 and 10 on one device
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 32 * sequences
    assert config.generation_batch_size == 64 * sequences
    assert config.steps_per_generation == 2 * config.gradient_accumulation_steps == 32
    assert (config.use_cpu, config.bf16, config.gradient_checkpointing) == (True, False, False)
    assert (config.seed, config.data_seed) == (7, 7)


def test_trl_defaults_that_differ_are_not_what_we_run(tmp_path: Path) -> None:
    """Should a new TRL move its defaults, this says which of ours stopped being a departure."""
    from trl import GRPOConfig

    ours = trl_config(SOLVER, plan_batches(SOLVER, 4000), tmp_path, 0, cuda=False)
    stock = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    differing = (
        "beta",
        "use_bias_correction_kl",
        "lr_scheduler_type",
        "weight_decay",
        "num_train_epochs",
        "num_generations",
        "delta",
        "max_completion_length",
        "vllm_importance_sampling_correction",
        "shuffle_dataset",
        "logging_nan_inf_filter",
    )
    assert [name for name in differing if getattr(ours, name) == getattr(stock, name)] == []


def test_settings_reach_trl(tmp_path: Path) -> None:
    changed = SOLVER.model_copy(
        update={
            "learning_rate": 3e-4,
            "kl_coefficient": 0.5,
            "clip_epsilon": 0.1,
            "dual_clip": 2.0,
            "weight_decay": 0.2,
            "max_grad_norm": 0.3,
            "loss": "bnpo",
        }
    )
    config = trl_config(changed, plan_batches(changed, 64), tmp_path, 2**40 + 3, cuda=False)
    seen = (
        config.learning_rate,
        config.beta,
        config.epsilon,
        config.epsilon_high,
        config.delta,
        config.weight_decay,
        config.max_grad_norm,
        config.loss_type,
        config.seed,
    )
    assert seen == (3e-4, 0.5, 0.1, 0.1, 2.0, 0.2, 0.3, "bnpo", 3)


def test_batches_of_the_paper() -> None:
    plan = plan_batches(QUESTIONER, 4000)
    assert (plan.generations, plan.steps, plan.steps_per_generation, plan.accumulation) == (62, 124, 2, 16)
    assert plan.prompts_used == 3968


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (0, Batches(64, 32, 10, 5, 0)),
        (1, Batches(1, 1, 5, 5, 1)),
        (31, Batches(31, 31, 5, 5, 1)),
        (32, Batches(32, 32, 10, 5, 1)),
        (63, Batches(32, 32, 10, 5, 1)),
        (64, Batches(64, 32, 10, 5, 1)),
        (127, Batches(64, 32, 10, 5, 1)),
        (128, Batches(64, 32, 10, 5, 2)),
    ],
)
def test_ragged_tail(available: int, expected: Batches) -> None:
    assert plan_batches(SOLVER, available) == expected


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("solver.grpo.dual_clip=1.2", "dual_clip must be above 1 \\+ clip_epsilon"),
        ("solver.grpo.micro_batch=7", "micro_batch must divide"),
        ("solver.grpo.prompts_per_step=5", "multiple of prompts_per_step"),
        ("solver.keep_low=0.9", "keep_low must not be above keep_high"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_preset("smoke", [change])


def test_limits() -> None:
    assert plan_batches(SOLVER.model_copy(update={"max_generations": 3}), 4000).generations == 3
    assert plan_batches(SOLVER.model_copy(update={"max_generations": 3, "epochs": 2}), 64).generations == 2


@given(
    st.integers(0, 300),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(2, 5),
    st.integers(1, 40),
    st.integers(1, 3),
)
@settings(deadline=None)
def test_batches_divide_and_train_on_something(
    available: int, steps: int, per_step: int, group: int, micro: int, epochs: int
) -> None:
    sequences = per_step * group
    role = GrpoSettings(
        prompts_per_generation=steps * per_step,
        prompts_per_step=per_step,
        group_size=group,
        micro_batch=next(m for m in range(min(micro, sequences), 0, -1) if sequences % m == 0),
        max_completion_tokens=8,
        epochs=epochs,
    )
    plan = plan_batches(role, available)
    assert plan.prompts_per_step * plan.group_size == plan.micro_batch * plan.accumulation
    assert plan.prompts_per_generation == plan.steps_per_generation * plan.prompts_per_step
    assert plan.micro_batch <= role.micro_batch
    assert (plan.steps > 0) == (available > 0)
    order = training_order(available, plan, seed=1)
    assert len(order) == plan.prompts_used
    seen = Counter(order)
    assert all(count <= epochs for count in seen.values()) and set(seen) <= set(range(available))
    per_epoch = available // plan.prompts_per_generation * plan.prompts_per_generation
    for start in range(0, len(order), max(1, per_epoch)):
        assert len(set(order[start : start + per_epoch])) == per_epoch


def test_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    role = SOLVER.model_copy(update={"epochs": 2})
    order = training_order(64, plan_batches(role, 64), seed=5)
    assert order == training_order(64, plan_batches(role, 64), seed=5)
    assert order[:64] != order[64:] and order[:64] != list(range(64))
    assert order != training_order(64, plan_batches(role, 64), seed=6)


def test_shipped_presets_make_whole_batches() -> None:
    for name in ("pocket", "smoke"):
        preset = load_preset(name)
        for role in (preset.questioner.grpo, preset.solver.grpo):
            plan = plan_batches(role, preset.images.count)
            assert plan.generations == (role.max_generations or preset.images.count // 64)


def test_torn_checkpoints_are_ignored(tmp_path: Path) -> None:
    from vzero.grpo.resume import last_whole, mark

    assert last_whole(tmp_path) is None
    for step in (2, 4, 6, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x" * step)
        if step != 10:  # killed before the marker
            mark(folder)
    os.truncate(tmp_path / "checkpoint-6" / "model.safetensors", 5)  # a disk that lost the end of a file
    (tmp_path / "checkpoint-tmp").mkdir()
    assert last_whole(tmp_path) == (tmp_path / "checkpoint-4", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-tmp",
    ]
