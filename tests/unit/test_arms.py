"""Arms as data: which stages each has, which of them two arms share, and what the settings refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vzero.arms import ARMS, CATEGORIES, changes_of, chosen, known, matched_by
from vzero.config import Preset
from vzero.errors import InputError
from vzero.presets import changed, load_preset
from vzero.runtime import artefacts
from vzero.selfplay import plan

BASE = load_preset("pocket")


def preset_of(name: str, **more: Any) -> Preset:
    return changed(BASE, {**changes_of(ARMS[name], [100, 50]), **more})


def specs(name: str, **more: Any) -> dict[str, str]:
    """Stage name -> digest of what determines it, the inputs by their own digests: what
    `vzero.runtime.stage.spec_of` finds once they are done."""
    found: dict[str, str] = {"base": "base"}
    for stage in plan(preset_of(name, **more)):
        inputs = {role: found[source] for role, source in stage.inputs.items()}
        spec = {"kind": stage.kind, "iteration": stage.iteration, "config": stage.config, "inputs": inputs}
        found[stage.name] = artefacts.digest(spec)
    del found["base"]
    return found


def shared(one: str, other: str) -> set[str]:
    """Kinds (with iteration) of `one`'s stages that `other` has too."""
    mine, theirs = specs(one), set(specs(other).values())
    return {name.split("-", 1)[1] for name, digest in mine.items() if digest in theirs}


def test_v_zero_is_the_preset_itself() -> None:
    assert plan(preset_of("v-zero")) == plan(BASE)
    assert [stage.name for stage in plan(BASE)][:7] == [
        "00-images",
        "01-evaluate-base",
        "02-train-questioner-1",
        "03-write-questions-1",
        "04-label-1",
        "05-train-solver-1",
        "06-evaluate-1",
    ]
    assert len(plan(BASE)) == 13


def test_every_arm_has_a_plan_of_stages_that_read_earlier_ones() -> None:
    for name, arm in ARMS.items():
        stages = plan(preset_of(name))
        seen = {"base"}
        for stage in stages:
            assert set(stage.inputs.values()) <= seen, (name, stage.name)
            seen.add(stage.name)
        assert len(seen) == len(stages) + 1 and arm.summary and arm.source and arm.category in CATEGORIES
        assert sum(stage.kind == "train-solver" for stage in stages) == (1 if name == "one-iteration" else 2)
        assert [stage.kind for stage in stages[-3:]] == ["train-solver", "evaluate", "probe"]


def test_what_each_arm_leaves_out_or_adds() -> None:
    kinds = {name: [stage.kind for stage in plan(preset_of(name)) if stage.iteration == 1] for name in ARMS}
    whole = ["train-questioner", "write-questions", "label", "train-solver", "evaluate"]
    for name in (
        "single-uncertainty",
        "zero-sum",
        "random-reward",
        "format-only",
        "blind-solver",
        "sft-votes",
        "r-zero",
        "frozen-intuition",
    ):
        assert kinds[name] == whole, name
    assert kinds["frozen-questioner"] == whole[1:]
    assert kinds["random-label"] == [*whole[:3], "select", *whole[3:]]
    assert kinds["majority-voting"] == ["write-questions", "select", "train-solver", "evaluate"]
    assert kinds["answerable"] == [*whole[:3], "check-options", "select", *whole[3:]]
    assert kinds["recycled"] == [whole[0], "recycle", *whole[3:]]
    assert kinds["recycled-beside"] == [*whole[:3], "recycle", *whole[3:]]
    assert kinds["recycled-step-matched"] == [whole[0], "recycle", "select", *whole[3:]]
    assert kinds["frozen-twice"] == ["write-questions", "label", "select", "train-solver", "evaluate"]


def test_the_base_is_evaluated_once_for_all_arms() -> None:
    for name in ARMS:
        wanted = {"images"} if name == "shuffled-images" else {"images", "evaluate-base"}
        assert wanted <= shared(name, "v-zero"), name


def test_which_stages_two_arms_share() -> None:
    before = {"images", "evaluate-base", "train-questioner-1", "write-questions-1", "label-1"}
    for name in (
        "no-filter",
        "random-label",
        "random-reward",
        "format-only",
        "supervised",
        "sft-votes",
        "answerable",
    ):
        assert shared(name, "v-zero") == before, name
    assert shared("recycled-beside", "v-zero") == before
    assert shared("recycled", "v-zero") == before - {"write-questions-1", "label-1"}
    assert shared("one-iteration", "v-zero") == before | {"train-solver-1", "evaluate-1"}
    whole = {stage.name.split("-", 1)[1] for stage in plan(BASE)}
    assert shared("shuffled-images", "v-zero") == {
        name for name in whole if not name.startswith(("evaluate", "probe"))
    }
    assert shared("majority-voting", "frozen-questioner") >= {"write-questions-1", "write-questions-2"}
    for name in (
        "single-uncertainty",
        "zero-sum",
        "blind-solver",
        "r-zero",
        "visplay",
        "evolmm",
        "token-entropy",
        "frozen-intuition",
        "capped-mismatch",
    ):
        assert shared(name, "v-zero") == {"images", "evaluate-base"}, name
    assert shared("frozen-twice", "frozen-questioner") == {"images", "evaluate-base"}
    assert shared("three-prompts", "v-zero") == before - {"label-1"}


def test_another_seed_shares_nothing() -> None:
    assert not set(specs("v-zero").values()) & set(specs("v-zero", seed=1).values())


def test_a_setting_at_its_default_is_no_part_of_a_spec() -> None:
    text = repr([stage.config for stage in plan(BASE)])
    assert "per_image" not in text and "objective" not in text and "votes_see" not in text
    assert "'per_image': 2" in repr([stage.config for stage in plan(preset_of("frozen-twice"))])


def test_names_and_groups() -> None:
    assert [arm.name for arm in chosen("random-label, v-zero,random-label")] == ["v-zero", "random-label"]
    assert {arm.category for arm in chosen("paper,baselines")} == {"paper", "baselines"}
    assert {arm.name for arm in chosen("all")} == {
        name for name, arm in ARMS.items() if arm.category != "defects"
    }
    for text in ("nonsense", "", ",", "v-zero,nonsense"):
        with pytest.raises(InputError, match="choose among all, paper"):
            chosen(text)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for changes in (
        {"solver.labels": "none"},
        {"solver.labels": "none", "solver.objective": "group_majority", "solver.answerable": True},
        {"solver.objective": "sft", "solver.labels": "random"},
        {"solver.questions": "recycled", "questioner.trained": False},
        {"solver.questions": "both", "questioner.votes_see": "nothing"},
        {"solver.questions": "recycled", "solver.objective": "sft"},
        {"solver.questions": "both", "solver.labels": "none", "solver.objective": "group_majority"},
        {"questioner.reward": "anything"},
        {"defects": ["no such defect"]},
    ):
        with pytest.raises(InputError):
            changed(BASE, changes)
    limited = plan(preset_of("no-filter"))
    assert [stage.config.get("at_most") for stage in limited if stage.kind == "select"] == [100, 50]


def test_the_documentation_names_every_arm() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "arms.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in ARMS)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("dialect=pocket", "'dialect' is now called 'prompt_format'"),
        ("matched=[3]", "'matched' is now called 'step_matched'"),
        ("evaluation.opening_words=2", "'evaluation.opening_words' is now called 'evaluation.prefill_words'"),
        ("questioner.reward=dual-track", "questioner.reward: 'dual-track' is now written 'dual_track'"),
        ("questioner.reward=r-zero", "'r-zero' is now written 'r_zero'"),
        ("solver.objective=group-majority", "'group-majority' is now written 'group_majority'"),
        ("solver.grpo.importance_correction=token-truncate", "is now written 'token_truncate'"),
        ('defects=["article-votes"]', "defects.0: 'article-votes' is now written 'article_votes'"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(setting: str, said: str) -> None:
    with pytest.raises(InputError) as found:
        load_preset("pocket", [setting])
    assert said in str(found.value)


def test_the_best_arms_preset_is_the_arm_and_nothing_else() -> None:
    best, pocket = load_preset("pocket-best"), load_preset("pocket")
    arm = known(best.arm)
    assert arm is not None and arm.name == "recycled-uncertainty" and matched_by(best.arm) == "compute"
    changes = [f"{key}={value}" for key, value in arm.changes.items()]
    expected = load_preset("pocket", changes).model_dump() | {"name": best.name, "arm": best.arm}
    assert best.model_dump() == expected | {"step_matched": best.step_matched}
    assert best.step_matched is not None and len(best.step_matched) == pocket.iterations
