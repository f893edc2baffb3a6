"""Low-rank adapters: what they leave alone, what they add up to, what a kill leaves of them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from trl.trainer.utils import add_fused_lm_head

from tests import tiny_idefics3, tiny_model
from tests.unit.test_grpo_training import SETTINGS, Killed, even_tokens, job_for, weights
from tests.unit.test_grpo_training import base as base
from tests.unit.test_grpo_training import prompts as prompts
from tests.unit.test_packing import add_exact_head, batch_of, one_at_a_time
from tests.unit.test_packing import float64 as float64
from vzero.config import LoraConfig
from vzero.errors import InputError, InterruptedRun
from vzero.grpo import adapters, log_probs, states
from vzero.grpo import train as stage
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.train import train
from vzero.grpo.trainer import GroupTrainer
from vzero.presets import load_preset
from vzero.rollout.transformers_engine import unwrap
from vzero.runtime import artefacts, checkpoints
from vzero.selfplay import plan

pytestmark = pytest.mark.slow

LORA = LoraConfig(rank=2, alpha=6)
LAYERS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
ADAPTED = {f"language_model.layers.{i}.{layer}" for i in range(2) for layer in LAYERS}


def adapted_model(filled: bool):
    """The tiny model under adapters; `filled` makes them differ from nothing."""
    model = tiny_model.model(tiny_model.vocabulary(144))
    model = get_peft_model(model, adapters.peft_config(model, LORA))
    if filled:
        torch.manual_seed(1)
        for name, one in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(one, std=0.1)
    return model


def test_every_linear_layer_of_the_language_model_and_no_other() -> None:
    qwen = tiny_model.model(tiny_model.vocabulary(144))
    targets = adapters.peft_config(qwen, LORA).target_modules
    assert {name.removeprefix("model.") for name in targets} == ADAPTED
    trained = {name for name, one in adapted_model(False).named_parameters() if one.requires_grad}
    assert trained == {
        f"base_model.model.model.{name}.lora_{side}.default.weight" for name in ADAPTED for side in "AB"
    }


def test_another_family_has_its_language_model_found() -> None:
    model = tiny_idefics3.model(tiny_idefics3.processor(["a"]).tokenizer)
    targets = adapters.peft_config(model, LORA).target_modules
    layers = model.config.text_config.num_hidden_layers
    assert len(targets) == layers * len(LAYERS) and all(
        name.startswith("model.text_model.layers.") for name in targets
    )


def test_packed_log_probabilities_through_adapters(float64: None) -> None:
    """New adapters change nothing; filled ones give what weights merged by hand give, one unpadded sequence
    at a time; off, the base."""
    torch.set_num_threads(1)
    words = tiny_model.vocabulary(144)
    plain, new, filled = (
        one.double() for one in (tiny_model.model(words), adapted_model(False), adapted_model(True))
    )
    batch, rows = batch_of(torch.Generator().manual_seed(4), [3, 2])
    with torch.no_grad():
        expected = one_at_a_time(plain, batch, rows)[0]
        by_hand = tiny_model.model(words).double()
        factors = dict(filled.named_parameters())
        for name in ADAPTED:
            down, up = (factors[f"base_model.model.model.{name}.lora_{side}.default.weight"] for side in "AB")
            by_hand.get_submodule(f"model.{name}").weight += LORA.alpha / LORA.rank * up @ down
        adapted = one_at_a_time(by_hand, batch, rows)[0]
    for model in (new, filled):
        add_exact_head(unwrap(model))
        assert log_probs.prepare(model)

    def packed(model) -> torch.Tensor:
        return log_probs.completion_log_probs(model, batch)[0]

    with torch.no_grad():
        assert torch.allclose(packed(new), expected, rtol=0, atol=1e-12)
        assert torch.allclose(packed(filled), adapted, rtol=0, atol=1e-12)
        assert (adapted - expected).abs().max() > 0.01
        with filled.disable_adapter():
            assert torch.allclose(packed(filled), expected, rtol=0, atol=1e-12)
    packed(filled).sum().backward()
    assert {name for name, one in filled.named_parameters() if one.grad is not None} == {
        name for name in factors if "lora_" in name
    }


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, base: Path, prompts: list[Prompt]
) -> tuple[Path, list[dict[str, torch.Tensor]], torch.Tensor]:
    """A whole training; its micro-batches, and the trained model's logits of a sentence."""
    folder = tmp_path_factory.mktemp("adapted")
    batches, models = [], []
    prepare = GroupTrainer._prepare_inputs

    def watched(self: GroupTrainer, rows: object) -> MicroBatch:
        batches.append(prepare(self, rows))
        models.append(self.model)
        return batches[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupTrainer, "_prepare_inputs", watched)
        train(
            replace(
                job_for(folder, base, prompts),
                lora=LORA,
                settings=SETTINGS.model_copy(update={"learning_rate": 0.03}),
            )
        )
    return folder, batches, logits(models[-1])


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return unwrap(model)(input_ids=torch.arange(10, 60)[None]).logits


def test_the_checkpoint_is_whole_and_is_the_adapted_model(undisturbed: tuple, base: Path) -> None:
    folder, _, trained = undisturbed
    before, after = load_file(base / "model.safetensors"), weights(folder)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(moved) == len(ADAPTED) and all(
        name.endswith(tuple(f"{layer}.weight" for layer in LAYERS)) for name in moved
    )
    assert not any("visual" in name for name in moved)
    merged = logits(checkpoints.load_model(folder / "checkpoint"))
    assert (merged - trained).abs().max() <= 1e-5 * merged.abs().max()
    assert (merged - logits(checkpoints.load_model(base))).abs().max() > 0.1
    assert {path.suffix for path in (folder / "checkpoint").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert not list((folder / "checkpoint").glob("adapter*"))


def test_the_reference_is_the_base(undisturbed: tuple, base: Path) -> None:
    """In the second generation the policy has left the base, and the reference has not."""
    _, batches, _ = undisturbed
    model = checkpoints.load_model(base)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    log_probs.prepare(model)
    last = batches[-1]
    with torch.no_grad():
        expected = log_probs.completion_log_probs(model, last)[0]
    kept = last.completion_mask.bool()
    assert torch.allclose(last.ref_log_probs[kept], expected[kept], atol=1e-5)
    assert (last.old_log_probs - last.ref_log_probs)[kept].abs().max() > 0.01


def test_killed_training_ends_in_the_same_bits(
    undisturbed: tuple, base: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    def dies(groups: Sequence[Group], generation: int) -> Scores:
        if generation == 1:
            raise Killed
        return even_tokens(groups, generation)

    job = replace(
        job_for(tmp_path, base, prompts),
        lora=LORA,
        settings=SETTINGS.model_copy(update={"learning_rate": 0.03}),
    )
    with pytest.raises(Killed):
        train(replace(job, reward=dies))
    saved = list((tmp_path / "work" / "trainer").glob("checkpoint-*/*.safetensors"))
    names = {name for path in saved for name in load_file(path)}
    assert names and all("lora_" in name for name in names)  # what is frozen is not written again and again
    train(job)
    whole = undisturbed[0]
    assert (tmp_path / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert (tmp_path / "checkpoint" / "model.safetensors").read_bytes() == (
        whole / "checkpoint" / "model.safetensors"
    ).read_bytes()


def test_adapters_come_back_whole_or_not_at_all(tmp_path: Path) -> None:
    model, other = adapted_model(True), adapted_model(False)
    states.save(model, torch.optim.AdamW(model.parameters()), tmp_path)
    states.load_weights(other, tmp_path)
    assert all(
        torch.equal(one, dict(other.named_parameters())[name]) for name, one in model.named_parameters()
    )
    file = tmp_path / "weight-0-of-1.safetensors"
    saved = load_file(file)
    save_file({name: one for i, (name, one) in enumerate(sorted(saved.items())) if i}, file)
    with pytest.raises(InputError, match="other weights"):
        states.load_weights(other, tmp_path)


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_frozen_tower_is_never_differentiated(
    base: Path,
    prompts: list[Prompt],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lora: LoraConfig | None,
) -> None:
    """Under gradient checkpointing its output would be made to require gradients. Training is the same to the
    bit with and without checkpointing."""
    stock, build, needed = stage.trl_config, stage.build_trainer, []

    def config(*args, **options):
        made = stock(*args, **options)
        made.gradient_checkpointing = True
        return made

    def watched(*args, **options) -> GroupTrainer:
        made = build(*args, **options)
        tower = unwrap(made.model).model.visual
        tower.register_forward_hook(lambda _, __, out: needed.append(out.pooler_output.requires_grad))
        return made

    once = SETTINGS.model_copy(update={"max_generations": 1, "learning_rate": 0.03})
    for name in ("plain", "checkpointed"):
        train(replace(job_for(tmp_path / name, base, prompts), lora=lora, settings=once))
        monkeypatch.setattr(stage, "trl_config", config)
        monkeypatch.setattr(stage, "build_trainer", watched)
    assert needed and not any(needed)
    plain, checkpointed = weights(tmp_path / "plain"), weights(tmp_path / "checkpointed")
    assert all(torch.equal(one, checkpointed[name]) for name, one in plain.items())


def test_nothing_to_train_on_saves_the_model_unchanged(base: Path, tmp_path: Path) -> None:
    assert train(replace(job_for(tmp_path, base, []), lora=LORA))["steps"] == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_disk_that_is_full_when_the_adapter_is_written_is_an_oserror(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        stage._save(replace(job_for(tmp_path, base, []), lora=LORA), adapted_model(True), trained=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and an adapter over it that changes something."""
    folder = tmp_path_factory.mktemp("written")
    words = tiny_model.vocabulary(144)
    checkpoints.save(tiny_model.model(words), tiny_model.processor(words), folder / "base")
    adapters.save(adapted_model(True), LORA, folder / "adapter")
    return folder / "base", folder / "adapter"


def test_an_adapter_that_fits_is_added_in(written: tuple[Path, Path]) -> None:
    expected = adapters.merged(adapted_model(True), written[0]).state_dict()
    found = adapters.load_adapted(*written).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.allclose(one, expected[name], rtol=0, atol=1e-6) for name, one in found.items())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "missing",
            r"fits .*: weights are missing or have no place in the model, \S*q_proj\.lora_A",
        ),
        (
            "unexpected",
            r"is no adapter that fits .*: weights are missing or have no place in the model, \S*nowhere",
        ),
        ("shape", "is no adapter that fits"),
        ("nan", r"has a weight that is NaN or infinite, \S*q_proj"),
        ("cut", "is no adapter that fits"),
        ("empty", "is no adapter that fits"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_in_one_sentence(
    written: tuple[Path, Path], tmp_path: Path, damage: str, said: str
) -> None:
    base, bad = written[0], shutil.copytree(written[1], tmp_path / "bad")
    file = bad / "adapter_model.safetensors"
    factors = load_file(file)
    first = next(name for name in sorted(factors) if "q_proj.lora_A" in name)
    if damage == "missing":
        factors.pop(first)
    elif damage == "unexpected":
        factors[first.replace("q_proj", "nowhere")] = factors[first].clone()
    elif damage == "shape":
        factors[first] = factors[first][:, :-1].contiguous()
    elif damage == "nan":
        factors[first][0, 0] = float("nan")
    save_file(factors, file, {"format": "pt"})
    if damage in ("cut", "empty"):
        file.write_bytes(file.read_bytes()[: 100 if damage == "cut" else 0])
    with pytest.raises(InputError, match=said) as found:
        adapters.load_adapted(base, bad)
    assert str(bad) in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"init_lora_weights": "corda", "corda_config": {"cache_file": "/etc/passwd"}},  # loads that file
        {"megatron_config": {"a": 1}, "megatron_core": "megatron.core.evil"},  # imports that module
        {"layer_replication": [[0, 1_000_000]]},
        {"rank_pattern": {"(a+)+$": 3}},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"r": 10**9},
        {"r": "2"},
        {"lora_alpha": [6]},
        {"target_modules": {"a": 1}},
        {"target_modules": ["nowhere"]},
        {"peft_type": "LOHA"},
        {"of a later version": 1},
    ],
)
def test_of_an_adapters_settings_rank_scale_and_layers_are_read_and_no_others(
    written: tuple[Path, Path], tmp_path: Path, setting: dict[str, object]
) -> None:
    bad = shutil.copytree(written[1], tmp_path / "bad")
    path = bad / "adapter_config.json"
    artefacts.write_json(path, {**artefacts.read_json(path), **setting})
    with pytest.raises(InputError, match="is no adapter that fits") as found:
        adapters.load_adapted(written[0], bad)
    assert len(str(found.value)) < 1000 and "\n" not in str(found.value)


@pytest.mark.parametrize(
    "setting",
    [{"target_modules": "(.*a)*"}, {"target_modules": "all-linear"}, {"init_lora_weights": "pissa"}],
)
def test_the_layers_are_those_that_an_adapter_has_weights_of(
    written: tuple[Path, Path], tmp_path: Path, setting: dict[str, object]
) -> None:
    other = shutil.copytree(written[1], tmp_path / "other")
    path = other / "adapter_config.json"
    artefacts.write_json(path, {**artefacts.read_json(path), **setting})
    expected = adapters.load_adapted(*written).state_dict()
    found = adapters.load_adapted(written[0], other).state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in found.items())


def test_a_disk_that_fails_under_an_adapter_is_no_bad_adapter(
    written: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("peft.peft_model.load_peft_weights", fails)
    with pytest.raises(InterruptedRun, match="failed"):
        adapters.load_adapted(*written)


@pytest.mark.parametrize("objective", ["labels", "sft"])
def test_adapters_and_the_engine_that_draws_are_part_of_training_stages_where_they_are_set(
    objective: str,
) -> None:
    objectives = [f"solver.objective={objective}"]
    changes = ["lora={rank=4, alpha=8}", "rollouts.engine=vllm", "rollouts.gpu_memory=0.5"]
    without, with_both = (
        plan(load_preset("smoke", objectives)),
        plan(load_preset("smoke", [*objectives, *changes])),
    )
    lora, rollouts = {"lora": {"rank": 4, "alpha": 8.0}}, {"rollouts": {"engine": "vllm"}}
    for one, other in zip(without, with_both, strict=True):
        assert not {"lora", "rollouts"} & one.config.keys()
        drawn = one.kind == "train-questioner" or (one.kind == "train-solver" and objective != "sft")
        expected = {**(lora if one.kind.startswith("train-") else {}), **(rollouts if drawn else {})}
        assert other.config == {**one.config, **expected}
