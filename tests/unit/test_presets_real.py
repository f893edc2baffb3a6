"""The presets of real models: the paper's numbers, and refused, in words, as long as something they need is
missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.doctor import capabilities
from harness.evals.pictures import DEFAULT, context, fit
from harness.evals.results import Limits
from harness.evals.stage import evaluation_engine
from harness.runs.environment import environment
from vzero.errors import InputError
from vzero.presets import content_differences, load_preset, preset_names
from vzero.runtime import stage
from vzero.selfplay import plan

ROOT = Path(__file__).resolve().parents[2]
REAL = [name for name in preset_names() if name.startswith("qwen")]


def test_the_presets_that_are_promised_are_there() -> None:
    assert {
        "qwen2.5-vl-3b",
        "qwen2.5-vl-7b",
        "qwen2.5-vl-7b-paper",
        "qwen2.5-vl-3b-1gpu-80gb",
        "qwen2.5-vl-3b-lora-1gpu",
        "qwen2.5-vl-3b-lora-24gb",
        "qwen2.5-vl-7b-4gpu",
        "qwen2.5-vl-7b-lora-1gpu",
        "qwen3-vl-4b",
        "qwen3-vl-8b",
    } <= set(REAL)
    assert "smolvlm-256m" in preset_names()


@pytest.mark.parametrize("name", REAL)
def test_the_numbers_are_the_papers(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert (preset.iterations, preset.images.count, preset.prompt_format) == (2, 4000, "natural")
    assert (preset.solver.keep_low, preset.solver.keep_high) == (0.3, 0.8)
    for grpo, group, tokens in ((preset.questioner.grpo, 4, 2048), (preset.solver.grpo, 5, 4096)):
        assert (grpo.prompts_per_generation, grpo.prompts_per_step, grpo.group_size) == (64, 32, group)
        assert (grpo.kl_coefficient, grpo.clip_epsilon, grpo.dual_clip, grpo.weight_decay) == (
            0.01,
            0.2,
            3.0,
            0.01,
        )
        assert (grpo.max_completion_tokens, grpo.epochs, grpo.max_generations, grpo.freeze_vision) == (
            tokens,
            1,
            None,
            False,
        )
        assert grpo.learning_rate == (1e-5 if preset.lora else 1e-6)
    inside = preset.questioner.votes
    assert (inside.n, inside.temperature, inside.top_p, inside.top_k, inside.max_new_tokens) == (
        10,
        1.0,
        1.0,
        40,
        2048,
    )
    labels = preset.solver.votes
    assert (labels.n, labels.temperature, labels.top_p, labels.repetition_penalty, labels.max_new_tokens) == (
        10,
        1.0,
        0.9,
        1.1,
        2048,
    )
    write = preset.questioner.write
    assert (write.temperature, write.repetition_penalty, write.max_new_tokens) == (1.0, 1.1, 1024)


@pytest.mark.parametrize("name", REAL)
def test_the_batches_divide_over_the_gpus(name: str) -> None:
    preset = load_preset(name)
    ranks = max(1, preset.launch.gpus) * preset.launch.nodes
    for grpo in (preset.questioner.grpo, preset.solver.grpo):
        sequences = grpo.prompts_per_step * grpo.group_size
        assert sequences % (grpo.micro_batch * ranks) == 0, (
            "an optimizer step is whole micro-batches on every GPU"
        )


def test_the_topologies_are_as_named() -> None:
    shapes = {name: load_preset(name).launch for name in REAL}
    assert (shapes["qwen2.5-vl-7b-paper"].gpus, shapes["qwen2.5-vl-7b-paper"].solver_gpus) == (4, 2)
    assert (
        shapes["qwen2.5-vl-7b"].gpus,
        shapes["qwen2.5-vl-7b"].solver_gpus,
        shapes["qwen2.5-vl-7b"].nodes,
    ) == (4, 4, 1)
    assert shapes["qwen2.5-vl-7b-2nodes"].nodes == 2
    assert all(
        shapes[name].gpus == 1 and shapes[name].solver_gpus == 0 for name in REAL if name.endswith("1gpu")
    )


@pytest.mark.parametrize("name", REAL)
def test_rollouts_of_another_engine_are_corrected_and_the_papers_are_not(name: str) -> None:
    """`-paper` is verl's to the letter; where vLLM draws, its distribution is not quite the trainer's."""
    preset = load_preset(name)
    for grpo in (preset.questioner.grpo, preset.solver.grpo):
        assert (grpo.loss == "bnpo") == name.endswith("-paper")
        assert (grpo.importance_correction == "token_truncate", grpo.importance_cap) == (
            not name.endswith("-paper"),
            2.0,
        )
        assert (
            preset.engine.max_model_len >= 1024 + grpo.max_completion_tokens
        )  # the paper filters prompts at 1,024 tokens
    # A card of 24 GB has no room for a second copy of the policy.
    assert preset.rollouts.engine == ("transformers" if name.endswith("24gb") else "vllm")


def test_a_launch_that_contradicts_itself_is_refused() -> None:
    for change in ("launch.strategy=single", "launch.gpus=1"):
        with pytest.raises(InputError, match="launch"):
            load_preset("qwen2.5-vl-7b", [change, "launch.solver_gpus=0"])


def test_servers_take_the_gpus_after_the_training_ones() -> None:
    engine = load_preset("qwen2.5-vl-7b", ["engine.gpus=[]", "engine.servers=1"]).placed_engine()
    assert (engine.servers, engine.gpus) == (4, (4, 5, 6, 7))
    named = load_preset("qwen2.5-vl-7b", ["engine.gpus=[0, 1, 2, 3]"])
    assert named.placed_engine() == named.engine
    assert load_preset("pocket").placed_engine() == load_preset("pocket").engine
    for change in ("engine.name=vllm", "launch.solver_gpus=3"):
        with pytest.raises(InputError, match="solver_gpus"):
            load_preset("qwen2.5-vl-7b", [change])


@pytest.mark.parametrize(
    ("visible", "own", "every"), [(None, "0,1", "0,1,2,3"), ("4,5,6,7", "4,5", "4,5,6,7")]
)
def test_a_training_sees_its_own_gpus_only(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, own: str, every: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    preset = load_preset("qwen2.5-vl-3b", ["launch.strategy=ddp"])
    found = {stage.kind: environment(preset, stage) for stage in plan(preset)}
    for kind in ("train-questioner", "train-solver"):
        assert (found[kind]["CUDA_VISIBLE_DEVICES"], found[kind]["VZERO_ALL_GPUS"]) == (own, every)
        assert found[kind]["OMP_NUM_THREADS"] == "4"  # engine.threads = 8, for two processes
    assert found["label"].get("CUDA_VISIBLE_DEVICES") == visible and "VZERO_ALL_GPUS" not in found["label"]


def test_a_launcher_around_the_runner_is_not_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    preset = load_preset("smoke")
    assert not {"WORLD_SIZE", "RANK"} & environment(preset, plan(preset)[0]).keys()


def test_what_is_missing_is_named_and_nothing_that_is_there() -> None:
    assert capabilities.missing(load_preset("pocket")) == []
    changes = [
        "launch.gpus=2",
        "launch.nodes=2",
        "launch.cluster=auto",
        "launch.strategy=ddp",
        "lora={rank=4, alpha=8}",
        'evaluation.suites=["pocket_math", "mathvista", "nosuch"]',
    ]
    found = " ".join(capabilities.missing(load_preset("pocket", changes)))
    assert "nosuch" in found
    for word in ("nodes", "pocket_math", "mathvista", "adapters"):
        assert word not in found
    assert "rollouts" not in found
    for way in ("ddp", "fsdp2"):
        drawn = load_preset("pocket", ["launch.gpus=2", f"launch.strategy={way}", "rollouts.engine=vllm"])
        assert capabilities.missing(drawn, evaluates=False) == []
    split = load_preset("qwen2.5-vl-7b", ["lora={rank=4, alpha=8}"])
    assert "adapters on weights that are split" in " ".join(capabilities.missing(split, evaluates=False))
    assert "nosuch" not in " ".join(capabilities.missing(load_preset("pocket", changes), evaluates=False))


def test_a_preset_that_cannot_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    command = [
        sys.executable,
        "-m",
        "harness",
        "reproduce",
        "--preset",
        "qwen2.5-vl-7b-2nodes",
        "--images",
        str(pictures),
    ]
    command += ["--set", "lora={rank=4, alpha=8}"]
    answer = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: The preset qwen2.5-vl-7b-2nodes cannot be run")
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", REAL)
def test_a_stage_without_training_has_every_gpu_of_a_node_whole(name: str) -> None:
    preset = load_preset(name)
    alone, gpus = preset.bulk_engine(), preset.launch.gpus + preset.launch.solver_gpus
    assert (alone.batch_sequences, alone.gpu_memory) == (512, 0.9)
    if gpus == 1:
        assert (alone.name, alone.servers, alone.gpus) == ("vllm", 1, ())
        assert preset.placed_engine().gpu_memory < 0.5  # beside a trainer
    else:
        assert (alone.name, alone.servers, alone.gpus) == ("server", gpus, tuple(range(gpus)))
        assert preset.placed_engine().servers < gpus
    mine = load_preset(name, ["engine.bulk_sequences=7", "engine.bulk_gpu_memory=0.5"])
    assert (mine.bulk_engine().batch_sequences, mine.bulk_engine().gpu_memory) == (7, 0.5)
    # Where and how much at a time is no content: finished stages stay finished.
    assert [one.config for one in plan(mine)] == [one.config for one in plan(preset)]
    assert content_differences(preset.model_dump(mode="json"), mine.model_dump(mode="json")) == []


def test_without_gpus_or_by_transformers_a_stage_has_the_engine_of_the_preset() -> None:
    for name, changes in (("pocket", []), ("smoke", ["engine.name=vllm"])):
        preset = load_preset(name, changes)
        assert preset.bulk_engine() == preset.engine
    slow = load_preset("qwen2.5-vl-3b-1gpu", ["engine.name=transformers"])
    assert slow.bulk_engine() == slow.engine


@pytest.mark.parametrize("kind", ["train-questioner", "label", "write-questions", "evaluate"])
def test_a_stage_is_given_the_engine_for_its_kind(kind: str) -> None:
    preset = load_preset("qwen2.5-vl-7b")
    of_kind = next(one for one in plan(preset) if one.kind == kind)
    engine = stage._share_of(preset, of_kind, stage.World()).engine
    assert engine.gpus == ((4, 5, 6, 7) if kind.startswith("train-") else tuple(range(8)))


@pytest.mark.parametrize("name", REAL)
def test_no_picture_of_a_suite_exceeds_the_evaluations_context(name: str) -> None:
    """The processor's own arithmetic over pictures of all shapes it takes, as large as they are shown; what a
    training's pictures are limited to would not do."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    preset = load_preset(name)
    engine = evaluation_engine(preset)
    room = engine.max_model_len - max(
        preset.evaluation.greedy.max_new_tokens, preset.evaluation.sampled.max_new_tokens
    )
    most = 0
    for area in (DEFAULT.least, 500_000, 3_000_000, DEFAULT.most):
        for ratio in (1, 1.0001, 4 / 3, 16 / 9, 3, 7.7, 30, 99, 199):
            sides = (max(1, int((area * ratio) ** 0.5)), max(1, int((area / ratio) ** 0.5)))
            shown = fit(Image.new("1", sides), DEFAULT)
            for width, height in (shown.size, shown.size[::-1]):
                if max(width, height) / min(width, height) > 200:
                    continue
                limits = {"min_pixels": 3136, "max_pixels": 12_845_056}
                high, wide = smart_resize(height, width, 28, **limits)
                most = max(most, high * wide // 28**2)
    assert most > 16_000 and most + 2048 <= room  # with the question
    assert preset.engine.max_model_len < most
    assert 20_480 <= engine.max_model_len <= 22_000 and engine.urls == ()


@given(st.integers(3136, 12_845_056), st.floats(1, 200), st.sampled_from([1_003_520, 5_000_000, 12_845_056]))
def test_the_context_holds_whatever_is_shown(area: int, ratio: float, most: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    limits = Limits(least=3136, most=most)
    area = min(area, most)
    width, height = max(1, int((area * ratio) ** 0.5)), max(1, int((area / ratio) ** 0.5))
    if max(width, height) > 200 * min(width, height):
        return
    high, wide = smart_resize(height, width, 28, min_pixels=3136, max_pixels=12_845_056)
    assert high * wide // 28**2 + 2048 + 17 <= context(limits, 17)
