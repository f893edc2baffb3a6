"""Plans against sums done by hand, published totals, the real image processor, and what stages really took on
the CPU."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from harness.cost.meter import Meter, scoring_passes, trained_shape
from harness.cost.shapes import ModelSize, image_tokens, size_of
from harness.perf.hardware import Machine, Rates
from harness.perf.plan import gains, memory, work
from harness.perf.plan.plan import FILL, Plan, choose_machine, make
from harness.perf.plan.work import Assumptions
from tests.warm import Warm
from tools.plan_check import predicted
from vzero.errors import InputError
from vzero.presets import load_preset, preset_names

ROOT = Path(__file__).resolve().parents[2]
THREE, SEVEN = "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"
QWEN3, SMOL = "Qwen/Qwen3-VL", "HuggingFaceTB/SmolVLM-256M-Instruct"
PICTURE = (640, 480)


@pytest.fixture(scope="module")
def three() -> ModelSize:
    return size_of(THREE)


@pytest.fixture(scope="module")
def seven() -> ModelSize:
    return size_of(SEVEN)


def planned(
    name: str,
    gpus: int | None = None,
    kind: str | None = "a100-80",
    gigabytes: float | None = None,
    **sets: object,
) -> Plan:
    preset = load_preset(name, changes={key.replace("__", "."): value for key, value in sets.items()})
    there = preset.launch.gpus + preset.launch.solver_gpus if gpus is None else gpus
    return make(
        preset, there, choose_machine(there, kind if there else None, gigabytes), PICTURE, 3, Assumptions()
    )


@pytest.mark.slow
def test_full_size_shapes_have_the_known_numbers_of_parameters(three: ModelSize, seven: ModelSize) -> None:
    assert f"{three.total / 1e9:.3f}" == "3.755" and f"{seven.total / 1e9:.3f}" == "8.292"
    four, eight, smol = map(size_of, (f"{QWEN3}-4B-Instruct", f"{QWEN3}-8B-Instruct", SMOL))
    assert (four.total, eight.total, smol.total) == (4_437_815_808, 8_767_123_696, 256_484_928)
    assert 2 * four.kv == 144 * 1024  # 2 x 36 layers x 8 heads x 128, which is not hidden size by heads


def test_a_tower_of_tiles_sees_each_by_itself() -> None:
    """SmolVLM-256M: 12 layers over tiles of 32 x 32 patches, of which 16 make a token."""
    shape = size_of(SMOL).flops
    assert (shape.full_layers, shape.window_layers, shape.window) == (0, 12, 1024)
    assert shape.vision_pairs(3 * 1024) == 12 * 3 * 1024**2
    block = 4 * 768 * 768 + 2 * 768 * 3072
    assert shape.vision_weights == 768 * 3 * 16 * 16 + 12 * block + 768 * 16 * 576 / 16
    assert shape.text_weights == 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)


def test_tokens_of_a_picture_in_tiles() -> None:
    # 2,048 x 1,536 pixels are 4 x 3 tiles of 64 tokens with two marks each; a row ends with one; the whole,
    # once more, has three.
    assert image_tokens(size_of(SMOL), 1024, 768) == 3 * (4 * 66 + 1) + 67


def test_keys_and_values_of_a_token(three: ModelSize, seven: ModelSize) -> None:
    assert 2 * three.kv == 36 * 1024  # bytes in bfloat16: 2 x 36 layers x 2 heads x 128
    assert 2 * seven.kv == 56 * 1024  # 2 x 28 layers x 4 heads x 128


@pytest.mark.parametrize(
    ("model", "layers", "h", "kv", "i", "vocabulary"),
    [(THREE, 36, 2048, 256, 11008, 151936), (SEVEN, 28, 3584, 512, 18944, 152064)],
)
def test_sizes_that_operations_follow_from(
    model: str, layers: int, h: int, kv: int, i: int, vocabulary: int
) -> None:
    shape = size_of(model).flops
    assert shape.text_weights == layers * (2 * h * h + 2 * h * kv + 3 * h * i)
    assert shape.head_weights == h * vocabulary
    block = 3 * 1280 * 1280 + 1280 * 1280 + 3 * 1280 * 3420
    assert shape.vision_weights == 1280 * 3 * 2 * 14 * 14 + 32 * block + (5120 * 5120 + 5120 * h) / 4
    assert (shape.full_layers, shape.window_layers, shape.window, shape.vision_trained) == (4, 28, 64, True)


def test_adapters_sit_on_every_linear_layer_of_the_language_model(three: ModelSize) -> None:
    h, kv, i = 2048, 256, 11008
    per_layer = (
        2 * (h + h) + 2 * (h + kv) + 3 * (h + i)
    )  # queries and output, keys and values, gate, up and down
    assert three.adapters == 36 * per_layer
    assert memory.trained(load_preset("qwen2.5-vl-3b-lora-1gpu"), three) == 64 * 36 * per_layer


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (640, 480, 23 * 17),  # 22.86 and 17.14 sides of 28 pixels, rounded
        (1024, 768, 37 * 27),
        (28, 28, 4),  # 28 x 28 has fewer than the least 3,136 pixels: enlarged to 56 x 56
        (8000, 6000, 147 * 110),  # 48 Mpx, scaled to at most 12,845,056: by 1.9331, then down to whole tokens
    ],
)
def test_tokens_of_a_picture(three: ModelSize, width: int, height: int, tokens: int) -> None:
    assert image_tokens(three, width, height) == tokens


def test_tokens_are_those_of_the_real_processor() -> None:
    from PIL import Image

    from vzero.runtime.checkpoints import POCKET, load_processor

    pocket, processor = size_of("pocket"), load_processor(POCKET)
    for pixels in ((42, 42), (20, 70), (200, 100)):
        grid = processor.image_processor(images=[Image.new("RGB", pixels)], return_tensors="pt")[
            "image_grid_thw"
        ][0].tolist()
        assert image_tokens(pocket, *pixels) == math.prod(grid) // 4


def test_a_picture_that_the_processor_refuses_is_refused(three: ModelSize) -> None:
    with pytest.raises(InputError, match="8000 x 20"):
        image_tokens(three, 8000, 20)


def test_an_unknown_model_is_said_to_be() -> None:
    with pytest.raises(InputError, match=r"Qwen/Qwen2\.5-VL-3B-Instruct"):
        size_of("someone/something")


def parts(plan: Plan, phase: str) -> dict[str, float]:
    return next(one.parts for one in plan.phases if one.name == phase)


def test_states_of_full_training_are_sixteen_bytes_a_weight_and_two_for_the_reference() -> None:
    update = parts(planned("qwen2.5-vl-3b-1gpu", kind="h200"), "solver: update")
    states = update["weights"] + update["gradients"] + update["optimizer"]
    assert states == pytest.approx(16 * 3.755e9, rel=1e-3)
    # Two bytes a weight, four where autocast rounds nothing: in the embeddings, which are the head as well.
    assert update["reference"] == pytest.approx(2 * 3.755e9 + 2 * 151_936 * 2048, rel=1e-3)


def test_fsdp_splits_the_states_over_the_gpus_that_train_and_ddp_does_not() -> None:
    states = ("weights", "gradients", "optimizer", "reference")
    paper = parts(planned("qwen2.5-vl-7b-paper"), "solver: update")
    assert sum(paper[name] for name in states) == pytest.approx(18 * 8.292e9 / 4, rel=1e-3)
    nodes = parts(planned("qwen2.5-vl-7b-2nodes"), "solver: update")
    assert sum(nodes[name] for name in states) == pytest.approx(18 * 8.292e9 / 8, rel=1e-3)
    copies = parts(planned("qwen2.5-vl-7b-paper", launch__strategy="ddp"), "solver: update")
    tables = 2 * 2 * 152_064 * 3584  # embeddings and head, two bytes more each
    assert sum(copies[name] for name in states) == pytest.approx(18 * 8.292e9 + tables, rel=1e-3)


def test_moments_in_the_hosts_memory_leave_the_gpu_to_the_rest() -> None:
    here, there = (
        parts(planned("qwen2.5-vl-3b-1gpu-80gb", launch__optimizer_states=place), "solver: update")
        for place in ("device", "host")
    )
    assert here["optimizer"] == pytest.approx(8 * 3.755e9, rel=1e-3)
    assert there["optimizer"] == 8 * 151_936 * 2048  # the largest weight's, on a visit
    assert {name for name in here if here[name] != there[name]} == {"optimizer"}


def test_keys_and_values_of_the_papers_rollouts() -> None:
    drawn = parts(planned("qwen2.5-vl-7b-paper", rollouts__engine="transformers"), "questioner: rollout")[
        "keys and values"
    ]
    # 256 sequences on four GPUs, four with one prompt; storage grows by a quarter (test_plan_cache).
    needed = 64 * 2 * 28 * 1024 * ((391 + 245) / 4 + 2048)
    assert needed <= drawn < 1.3 * needed


def test_layer_inputs_with_gradient_checkpointing() -> None:
    update = parts(planned("qwen2.5-vl-3b-1gpu", kind="h200"), "questioner: update")
    tokens = 2 * (391 + 245) + 8 * 2048  # two groups of four
    patches = 4 * 2 * 391
    assert update["layer inputs"] == pytest.approx(4 * tokens * 2048 * (36 + 3) + 2 * patches * 1280 * 32)


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    small = planned("qwen2.5-vl-7b", gpus=1)
    assert len(small.refusals) == 1 and "8 GPUs a node" in small.refusals[0]
    assert small.fitting == ["qwen2.5-vl-7b-lora-1gpu"]
    full = planned("qwen2.5-vl-3b-1gpu", kind="a100-80")
    assert "of a GPU" in full.refusals[0] and "qwen2.5-vl-3b-lora-1gpu" in full.fitting
    assert planned("qwen2.5-vl-3b-1gpu", kind="h200").refusals == []
    assert planned("qwen2.5-vl-3b-lora-1gpu", gigabytes=6.0).fitting == []


@pytest.mark.parametrize("name", [name for name in preset_names() if load_preset(name).launch.gpus])
def test_every_preset_fits_the_cards_its_first_lines_name(name: str) -> None:
    text = (ROOT / "vzero" / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    named = [gigabytes for gigabytes in (140, 80, 40, 24, 8) if f"of {gigabytes} GB" in text]
    plan = planned(name, gigabytes=float(named[0] if named else 80))
    assert plan.refusals == []
    assert max(phase.total for phase in plan.phases) <= FILL * plan.machine.memory


def test_a_share_for_vllm_that_cannot_hold_the_model_is_refused() -> None:
    assert "engine.gpu_memory" in planned("qwen2.5-vl-7b-lora-1gpu", engine__gpu_memory=0.1).refusals[0]
    assert (
        "rollouts.gpu_memory = 0.1"
        in planned("qwen2.5-vl-7b-lora-1gpu", rollouts__gpu_memory=0.1).refusals[0]
    )
    drawn = next(
        one
        for one in planned("qwen2.5-vl-7b-lora-1gpu", gigabytes=80.0).phases
        if one.name == "solver: rollout"
    )
    assert (
        drawn.parts[memory.POLICY_SHARE] == pytest.approx(0.3 * 80e9) and "keys and values" not in drawn.parts
    )


def test_steps_of_the_paper() -> None:
    found = {part.name: part for part in planned("qwen2.5-vl-7b-paper").parts}
    assert (
        found["train the Questioner"].steps == 2 * 62 * 2
    )  # 4,000 pictures are 62 batches of 64, two steps each, two iterations
    assert found["votes in its reward"].tokens == pytest.approx(2 * 62 * 64 * 4 * 0.9 * 10 * 400)
    assert found["votes for labels"].tokens == pytest.approx(2 * 3600 * 10 * 400)


def test_further_nodes_take_part_in_everything() -> None:
    """Half of what is drawn on twice the machines; around it, what a stage takes to start stays."""
    one, two = (
        {part.name: part.hours for part in planned("qwen2.5-vl-7b", launch__nodes=nodes).parts}
        for nodes in (1, 2)
    )
    assert all(one[name] / 2 <= two[name] * (1 + 1e-9) and two[name] < one[name] for name in one)


def test_hours_scale_as_work_does() -> None:
    one, two = planned("qwen2.5-vl-7b", seed=0), planned("qwen2.5-vl-7b", images__count=8000)
    trained = [
        next(part.hours - part.around for part in plan.parts if part.name == "train the Questioner")
        for plan in (one, two)
    ]
    assert trained[1] / trained[0] == pytest.approx(125 / 62)
    assert all(part.hours > part.around for part in one.parts if part.around)
    assert planned("qwen2.5-vl-7b", kind="h100").hours < one.hours
    assert one.hours == pytest.approx(sum(part.hours for part in one.parts))


def test_rollouts_take_the_time_of_the_engine_that_draws_them() -> None:
    """In several processes too; decoding by transformers reaches a fifth of the bandwidth, and reads weights
    of twice the size."""
    slow, fast = (planned("qwen2.5-vl-7b", rollouts__engine=name) for name in ("transformers", "vllm"))
    before, after = ({part.name: part.hours for part in plan.parts} for plan in (slow, fast))
    trained = "train the Questioner"
    assert before[trained] > 1.5 * after[trained]
    assert before.items() - after.items() == {(name, before[name]) for name in (trained, "train the Solver")}


def test_an_update_costs_six_operations_a_weight_and_token_and_two_more_where_it_is_recomputed(
    three: ModelSize,
) -> None:
    machine = choose_machine(1, "h200", None)
    clock = work._Clock(load_preset("qwen2.5-vl-3b-1gpu"), three, machine, Assumptions(), 0)
    seconds = clock._computing(work.Work(1000, 0, 0), three.flops)
    assert seconds == pytest.approx(8 * three.flops.text_weights * 1000 / (989e12 * 0.35))


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("qwen2.5-vl-3b-1gpu", {}),
        ("qwen2.5-vl-3b-1gpu", {"solver__grpo__freeze_vision": True, "solver__grpo__kl_coefficient": 0}),
        ("qwen2.5-vl-3b-lora-1gpu", {"solver__grpo__importance_correction": "none"}),
    ],
)
def test_a_plan_counts_the_operations_that_the_analysis_of_a_run_counts(
    three: ModelSize, name: str, sets: dict[str, object]
) -> None:
    """On a machine that does nothing but compute, a training's hours are its operations."""
    preset = load_preset(name, changes={key.replace("__", "."): value for key, value in sets.items()})
    nothing = Rates(1.0, 1.0, 1.0, 0.0, math.inf, math.inf, 0.0, 0.0)
    computer = Machine("computes", 1e-3, 1e300, None, nothing)
    part = work.parts(preset, three, 391, computer, Assumptions(), 0)[4]
    grpo, prompt, prompts = preset.solver.grpo, 391 + 107 + 80, 28 * 64  # of 1,800 kept, 28 batches
    groups = [(prompt, [400] * grpo.group_size)]
    meter = Meter(three, None, "natural")
    passes = scoring_passes(grpo, 2)
    expected = meter.trained(groups, [391], trained_shape(preset, grpo, three), passes)
    expected += meter.drawn([prompt], [(prompt, 400)] * grpo.group_size, [391])
    assert part.name == "train the Solver" and part.steps == 2 * 2 * 28
    assert part.hours * 3600 * 1e9 == pytest.approx(2 * prompts * expected, rel=0.03)


def test_the_docs_name_the_assumed_shares() -> None:
    machine = choose_machine(6, "a100-80", None)
    page = " ".join((ROOT / "docs" / "plan.md").read_text(encoding="utf-8").split())
    assert f"{100 * machine.rates.computing:.0f} % of peak operations" in page
    assert f"{100 * machine.rates.decoding:.0f} % of peak bandwidth" in page


def test_disk_holds_checkpoints_and_what_a_training_resumes_from(seven: ModelSize) -> None:
    found = work.disk(load_preset("qwen2.5-vl-7b"), seven, seven.total)
    assert found["checkpoints"] == pytest.approx(4 * 4 * 8.292e9, rel=1e-3)
    assert found["scratch of a training"] == pytest.approx(2 * 12 * 8.292e9, rel=1e-3)


def test_gains_that_suites_and_seeds_resolve() -> None:
    rows = {row.suite: row for row in gains.resolvable(load_preset("qwen2.5-vl-7b").evaluation, 3)}
    assert rows["mathvista"].smallest == pytest.approx(
        2.80 * math.sqrt(0.15 / 1000), rel=0.02
    )  # 2.80 standard errors: .05, 80 %
    sizes = (1000, 304, 447, 900, 1500)
    variance = (sum(0.15 / n for n in sizes) / 25 + 0.01**2) / 3
    assert rows["average, 3 seeds"].smallest == pytest.approx(2.80 * math.sqrt(variance), rel=0.01)
    assert gains.items(load_preset("pocket").evaluation) == 1350


def test_a_suite_of_unknown_size_is_not_guessed() -> None:
    preset = load_preset("pocket", ['evaluation.suites=["pocket_math", "nowhere"]'])
    rows = gains.resolvable(preset.evaluation, 1)
    assert [row.smallest is None for row in rows] == [False, True, False]


def test_memory_agrees_with_what_the_pocket_stages_took() -> None:
    measured = json.loads((ROOT / "results" / "plan" / "pocket-cpu.json").read_text(encoding="utf-8"))
    plan = predicted(load_preset("pocket"))
    assert {row["kind"] for row in measured["rows"]} == set(plan)
    for row in measured["rows"]:
        assert plan[row["kind"]] == pytest.approx(row["measured_mib"], rel=0.15), row["stage"]


@pytest.mark.slow
def test_the_command_says_whether_it_fits(warm: Warm) -> None:
    words = ["plan", "--preset", "qwen2.5-vl-7b", "--gpus", "1", "--json"]
    answer = warm.run("-m", "harness", *words)
    told = json.loads(answer.stdout)
    assert answer.returncode == 1 and told["fits"] is False and told["fitting"] == ["qwen2.5-vl-7b-lora-1gpu"]
    assert told["model"]["parameters"] == 8_292_166_656
    assert all(phase["total"] == pytest.approx(sum(phase["parts"].values())) for phase in told["memory"])
