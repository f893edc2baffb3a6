"""Benchmarks in a preset: which lists are taken, what pins their data, and what verdicts stored beside
answers come to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import format_gain, items
from harness.analysis.accuracies import HeldOut
from harness.analysis.checkpoints import checkpoints
from harness.analysis.load import Loaded
from harness.analysis.results import Results
from harness.analysis.verdicts import verdicts
from harness.evals import catalogue, metrics
from harness.evals.pinned import pinned
from harness.perf.plan import gains
from tests.fixtures import suite_rows
from vzero.config import EvaluationConfig
from vzero.errors import InputError
from vzero.presets import content_differences, load_preset
from vzero.selfplay import plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MMSTAR = 'evaluation.suites=["mmstar"]'


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return suite_rows.write(tmp_path_factory.mktemp("rows"))


def test_unknown_lists_are_refused_in_one_sentence() -> None:
    for changes, words in (
        (['evaluation.suites=["mmstar", "nosuch"]'], "no suite 'nosuch'"),
        ([MMSTAR, "evaluation.prefill_words=2"], "prefill_words"),
    ):
        with pytest.raises(InputError, match=words):
            catalogue.asked(load_preset("smoke", changes).evaluation)


def test_a_preset_may_mix_drawn_suites_and_benchmarks(rows: Path, tmp_path: Path) -> None:
    mixed = load_preset("smoke", ['evaluation.suites=["mmstar", "pocket_math"]', f"evaluation.data={rows}"])
    found = catalogue.asked(mixed.evaluation)
    assert [(suite.name, suite.drawn, suite.scored) for suite in found] == [
        ("mmstar", 0, 1500),
        ("pocket_math", 8, 56),
    ]
    alone = pinned(load_preset("smoke", [MMSTAR, f"evaluation.data={rows}"]), tmp_path)
    assert pinned(mixed, tmp_path).evaluation.data_sha256 == alone.evaluation.data_sha256 is not None
    assert pinned(load_preset("smoke"), tmp_path) == load_preset("smoke")
    assert [suite.name for suite in catalogue.asked(load_preset("qwen2.5-vl-3b-1gpu").evaluation)][:3] == [
        "mathvista",
        "mathvision_testmini",
        "logicvista",
    ]


def test_the_data_is_pinned_by_content_and_its_place_determines_nothing(rows: Path, tmp_path: Path) -> None:
    asked = load_preset("smoke", [MMSTAR, f"evaluation.data={rows}"])
    one = pinned(asked, tmp_path / "scratch")
    moved = tmp_path / "moved"
    shutil.copytree(rows / "mmstar", moved / "mmstar")
    other = pinned(load_preset("smoke", [MMSTAR, f"evaluation.data={moved}"]), tmp_path / "scratch")
    assert one.evaluation.data_sha256 == other.evaluation.data_sha256 is not None
    assert one.evaluation.data != other.evaluation.data
    assert [stage.config for stage in plan(one)] == [stage.config for stage in plan(other)]
    assert content_differences(one.model_dump(mode="json"), other.model_dump(mode="json")) == []
    assert pinned(one, tmp_path / "scratch") == one
    assert content_differences(asked.model_dump(mode="json"), one.model_dump(mode="json")) == [], (
        "trained first, evaluated later"
    )
    assert content_differences(one.model_dump(mode="json"), asked.model_dump(mode="json")) == [
        "evaluation.data_sha256"
    ]


def test_other_rows_are_another_stage_and_refused_where_they_are_stated(rows: Path, tmp_path: Path) -> None:
    import datasets

    one = pinned(load_preset("smoke", [MMSTAR, f"evaluation.data={rows}"]), tmp_path)
    found = datasets.load_from_disk(str(rows / "mmstar"))
    split = next(iter(found))
    found[split] = found[split].map(lambda row: {"question": row["question"] + " "})
    found.save_to_disk(str(tmp_path / "changed" / "mmstar"))
    place = f"evaluation.data={tmp_path / 'changed'}"
    other = pinned(load_preset("smoke", [MMSTAR, place]), tmp_path)
    assert plan(one)[1].config != plan(other)[1].config
    assert plan(one)[2].config == plan(other)[2].config  # training does not depend on it
    with pytest.raises(InputError, match="not those of"):
        pinned(
            load_preset("smoke", [MMSTAR, place, f"evaluation.data_sha256={one.evaluation.data_sha256}"]),
            tmp_path,
        )


def test_missing_data_is_said_before_anything_is_written(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "reproduce",
        "--preset",
        "smoke",
        "--set",
        MMSTAR,
        "--data",
        str(tmp_path / "none"),
    ]
    answer = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: There is no mmstar in") and len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_doctor_names_the_benchmarks_that_are_missing(rows: Path) -> None:
    found = {}
    for place in (rows, rows / "none"):
        command = [
            sys.executable,
            "-m",
            "harness",
            "doctor",
            "--preset",
            "smoke",
            "--quick",
            "--json",
            "--set",
            MMSTAR,
            "--set",
            f"evaluation.data={place}",
        ]
        said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        found[place] = next(one for one in json.loads(said.stdout)["checks"] if one["name"] == "benchmarks")
    assert found[rows]["level"] == "ok"
    assert found[rows / "none"]["level"] == "fail" and "fetch --suites mmstar" in found[rows / "none"]["fix"]


def answer(letter: str | None, right: bool, strict: bool | None = None) -> dict[str, Any]:
    return {
        "answer": letter,
        "official": right,
        "verified": right if strict is None else strict,
        "finish_reason": "stop",
        "text": "",
        "tokens": 1,
    }


def row(item: str, greedy: dict[str, Any], *sampled: dict[str, Any]) -> dict[str, Any]:
    return {
        "suite": "mmstar",
        "item_id": item,
        "family": "f",
        "image_sha256": item,
        "gold": "A",
        "greedy": greedy,
        "sampled": list(sampled),
    }


def held_out(rows: dict[str, dict[str, list[dict[str, Any]]]]) -> HeldOut:
    """Of one suite."""
    ((suite, one),) = rows["base"].items()
    return HeldOut(rows, items.outcomes_of(rows), (suite,), len(one[0]["sampled"]), 0)


def test_stored_verified_verdicts_decide_and_not_the_letters() -> None:
    """A nearest-option gift is official alone; an answer may be right under another name than the gold's."""
    one = row(
        "1", answer("1.0", False, True), answer("1.0", True), answer("1.0", True), answer("B", True, False)
    )
    assert metrics.greedy_correct(one) and metrics.right_samples(one) == 2
    assert metrics.majority_correct(one)
    assert not metrics.greedy_correct(row("4", answer(None, True, False)))
    measured = held_out({"base": {"mmstar": [one]}}).measured("mmstar", "base")
    assert measured.unparsed_greedy.value == 0 and measured.unparsed_sampled.value == 0
    found = items.outcomes_of({"base": {"mmstar": [one]}})
    block = items.encode(found, ["mmstar"])["mmstar"].outcomes["base"]
    assert (block.greedy, block.majority, block.right) == ("1", "1", "2")
    lost = row(
        "2", answer("B", False), answer(None, True, False), answer("B", False), answer(None, True, False)
    )
    assert not metrics.majority_correct(lost), "answers that cannot be read do not vote"
    assert not metrics.majority_correct(row("3", answer(None, False), answer(None, True, False)))


def test_a_gain_in_reading_alone_is_a_format_gain() -> None:
    base = [
        row(str(i), answer(None, i % 4 == 0, False) if i < 40 else answer("A", i % 2 == 0)) for i in range(80)
    ]
    after = [row(str(i), answer("A", i % 4 == 0) if i < 40 else answer("A", i % 2 == 0)) for i in range(80)]
    found = format_gain.scorings({"base": {"mmstar": base}, "S1": {"mmstar": after}}, 0)["mmstar"]
    one = found["base"]
    assert (one.official, one.verified, one.parsed, one.truncated) == (30 / 80, 20 / 80, 0.5, 0.0)
    assert found["S1"].gain_official.gain == 0 and found["S1"].gain_verified.gain == pytest.approx(10 / 80)
    assert found["S1"].format_gain is True
    assert "FORMAT GAIN" in format_gain.warnings({"mmstar": found})[0]
    learnt = [row(str(i), answer("A", True)) for i in range(80)]
    found = format_gain.scorings({"base": {"mmstar": base}, "S1": {"mmstar": learnt}}, 0)["mmstar"]
    assert found["S1"].format_gain is False
    pocket = [
        {**one, "greedy": {key: value for key, value in one["greedy"].items() if key != "verified"}}
        for one in base
    ]
    assert format_gain.scorings({"base": {"pocket_math": pocket}}, 0) == {}


def test_claims_are_judged_against_a_run_over_benchmarks() -> None:
    """A claim about MathVista and the 7B model, from stored verdicts of a whole suite and of a part of it."""
    base = [
        {**row(str(i), answer("A", i % 2 == 0), answer("A", i % 2 == 0)), "suite": "mathvista"}
        for i in range(1000)
    ]
    after = [
        {**row(str(i), answer("A", i % 2 == 0 or i < 40), answer("A", i % 2 == 0)), "suite": "mathvista"}
        for i in range(1000)
    ]
    verdict = {}
    for n in (1000, 100):
        by_model = {"base": {"mathvista": base[:n]}, "S1": {"mathvista": after[:n]}}
        whole = held_out(by_model)
        found = Results(
            preset="x",
            arm="evolmm",
            seed=0,
            model="Qwen/Qwen2.5-VL-7B-Instruct",
            split="test",
            samples=1,
            models=["base", "S1"],
            metrics=whole.metrics,
            suites={"mathvista": {model: whole.measured("mathvista", model) for model in by_model}},
            items=items.encode(whole.outcomes, ["mathvista"]),
            expected={"mathvista": 1000},
        )
        runs = checkpoints([Loaded("run", "evolmm", found, Path())])
        told = next(one for one in verdicts(runs, ["mathvista"], "greedy") if one.id == "evolmm.7b.mathvista")
        assert told.verdict != "NOT RUN"
        verdict[n] = told
    assert verdict[1000].verdict == "REPRODUCED"
    assert verdict[1000].measured.gain == pytest.approx(0.02)
    assert verdict[100].verdict == "PROTOCOL DEVIATION" and "100 of 1000 items" in verdict[100].sentence


def test_sizes_of_benchmarks_are_those_of_their_records() -> None:
    real = load_preset("qwen2.5-vl-3b-1gpu").evaluation
    assert gains.items(real) == 1000 + 304 + 447 + 900 + 1500
    assert gains.items(EvaluationConfig.model_validate({**real.model_dump(), "limit": 100})) == 500
