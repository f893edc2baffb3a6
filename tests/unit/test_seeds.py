"""Several seeds as one result: a two-level bootstrap worked out by hand, and synthetic runs against plain
counting of their answers."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from harness.analysis.seeds import summarise

from harness.analysis.results import build
from harness.report import seeds as report
from harness.runs.sealed import read_run
from harness.stats import Pairs, Spread, gain_over_seeds
from vzero.errors import InputError
from vzero.runtime import artefacts

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location(
    "synthetic_run", ROOT / "tests" / "fixtures" / "synthetic_run.py"
)
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


def gains_of(table: list[list[float]], images: list[int] | None = None) -> list[Pairs]:
    """One suite whose seeds (rows) differ from the base by these numbers."""
    return [Pairs([0.0] * len(row), row, images or list(range(len(row)))) for row in table]


def test_two_levels_by_hand():
    """Two seeds, two images: 4 x 4 equally likely draws of (seeds, images); seed 0 gains on image 0 only,
    seed 1 on both."""
    table = [[1.0, 0.0], [1.0, 1.0]]
    draws = list(itertools.product(range(2), repeat=2))
    values = sorted(
        fmean(table[seed][image] for seed in seeds for image in images) for seeds in draws for images in draws
    )
    assert values == [0.0] + [0.5] * 4 + [0.75] * 4 + [1.0] * 7
    found = gain_over_seeds([gains_of(table)], seed=3, level=0.7, resamples=40_000)
    assert found.mean == 0.75
    assert (found.low, found.high) == (values[math.ceil(0.15 * 16) - 1], 1.0) == (0.5, 1.0)
    # t: seeds' gains .5 and 1, variance of their mean 1/16 with 1 degree of freedom; image means 1 and .5,
    # the same sum 1/8, Welch-Satterthwaite: (1/8)^2 / (2 (1/16)^2) = 2 degrees of freedom
    two = 0.7 * math.sqrt(2 / (1 - 0.7**2))  # the quantile of t with 2 degrees of freedom, in closed form
    assert found.t_high - 0.75 == pytest.approx(two * math.sqrt(1 / 8)) == pytest.approx(0.75 - found.t_low)


def test_both_levels_widen_the_interval():
    """Additive world, 40 seeds and 300 images: the variance of the mean is the sum of both levels', in either
    interval."""
    rng = np.random.default_rng(4)
    luck, items = rng.normal(0, 0.03, 40), rng.normal(0.1, 0.4, 300)
    table = [[float(shift + value) for value in items] for shift in luck]
    error = math.sqrt(luck.var(ddof=1) / 40 + items.var(ddof=1) / 300)
    found = gain_over_seeds([gains_of(table)], seed=1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found.t_high - found.t_low == pytest.approx(2 * 1.97 * error, rel=0.02)
    alone = gain_over_seeds(
        [gains_of([list(items)] * 40)], seed=1
    )  # seeds without luck: the images' spread is left
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * items.std(ddof=1) / math.sqrt(300), rel=0.05)
    same = gain_over_seeds(
        [gains_of([[shift] * 300 for shift in luck])], seed=1
    )  # images all alike: the seeds' luck is left
    assert same.t_high - same.t_low == pytest.approx(2 * 2.0227 * luck.std(ddof=1) / math.sqrt(40), rel=1e-3)


def test_one_draw_of_seeds_serves_all_suites():
    """A seed's luck is the same in every suite, so averaging suites does not shrink it."""
    luck = [[shift] * 50 for shift in (-0.1, 0.0, 0.1, 0.2)]
    one, three = (gain_over_seeds([gains_of(luck)] * count, seed=2) for count in (1, 3))
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1e-12)
    assert (three.t_low, three.t_high) == pytest.approx((one.t_low, one.t_high))


def test_images_not_items_are_resampled():
    table = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    found = gain_over_seeds([gains_of(table, [7, 7, 8, 8])], seed=0, level=0.6)
    assert (found.low, found.high) == (0.0, 1.0)  # a quarter of the draws takes one image twice: 0 or 1


def test_no_interval_without_two_seeds_and_two_images():
    assert gain_over_seeds([gains_of([[1.0, 0.0]])], 0) == Spread(0.5, None, None, None, None)
    assert gain_over_seeds([gains_of([[1.0, 1.0], [0.0, 0.0]], [5, 5])], 0).direction == "unclear"
    with pytest.raises(ValueError, match="same items"):
        gain_over_seeds([[*gains_of([[1.0, 0.0]]), *gains_of([[1.0, 0.0]], [1, 0])]], 0)
    with pytest.raises(ValueError, match="same items"):
        gain_over_seeds([gains_of([[1.0, 0.0]]), gains_of([[1.0, 0.0], [1.0, 0.0]])], 0)


def test_a_direction_needs_both_intervals():
    assert Spread(0.1, 0.05, 0.15, -0.01, 0.21).direction == "unclear"
    assert Spread(0.1, 0.05, 0.15, 0.01, 0.19).direction == "positive"
    assert Spread(-0.1, -0.15, -0.05, -0.19, -0.01).direction == "negative"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (0, 1, 2):
        synthetic.make(folder / str(seed), count=16, seed=seed)
    return [folder / str(seed) for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def summary(runs) -> dict:
    return summarise([runs[2], runs[0], runs[1]])


def counted(run: Path, stage: str, suite: str) -> dict[str, float]:
    rows = [
        row for row in artefacts.read_jsonl(run / "stages" / stage / "samples.jsonl") if row["suite"] == suite
    ]
    right = [sum(one["answer"] == row["gold"] for one in row["sampled"]) for row in rows]
    return {
        "greedy": fmean(row["greedy"]["answer"] == row["gold"] for row in rows),
        "sampled": sum(right) / (10 * len(rows)),
        "pass@10": fmean(count > 0 for count in right),
    }


def test_gains_by_seed_are_counted_from_the_answers(runs, summary):
    assert summary["seeds"] == [0, 1, 2]
    for metric in ("greedy", "sampled", "pass@10"):
        by_suite = [
            [
                counted(run, "11-evaluate-2", suite)[metric] - counted(run, "01-evaluate-base", suite)[metric]
                for suite in summary["suites"]
            ]
            for run in runs
        ]
        math_gain = summary["gains"]["S2"]["pocket_math"][metric]
        assert [one["gain"] for one in math_gain["by_seed"].values()] == pytest.approx(
            [row[0] for row in by_suite], abs=1e-8
        )
        average = summary["gains"]["S2"]["average"][metric]
        gains = [fmean(row) for row in by_suite]
        assert [average[key] for key in ("mean", "min", "max")] == pytest.approx(
            [fmean(gains), min(gains), max(gains)], abs=1e-8
        )
        assert average["positive"] == sum(gain > 0 for gain in gains)
        assert [one["sign"] for one in average["by_seed"].values()] == [
            "+" if gain > 0 else "-" for gain in gains
        ]
        assert average["t_high"] - average["mean"] > 1.96 * stdev(gains) / math.sqrt(3)
        assert average["low"] < average["mean"] < average["high"]


def test_each_seed_is_as_in_its_own_results(runs, summary):
    own = build(read_run(runs[1]))
    for key in ("gain", "low", "high", "direction", "n"):
        assert (
            summary["gains"]["S1"]["average"]["maj@10"]["by_seed"]["1"][key]
            == own["gains"]["S1"]["average"]["maj@10"][key]
        )
    assert (
        summary["accuracy"]["pocket_logic"]["base"]["greedy"]["by_seed"]["1"]
        == own["suites"]["pocket_logic"]["base"]["greedy"]["value"]
    )


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="at least two runs"):
        summarise(runs[:1])
    with pytest.raises(InputError, match="the same seed 0"):
        summarise([runs[0], runs[0]])
    synthetic.make(tmp_path / "half", count=16, seed=3, stop_after="06-evaluate-1")
    with pytest.raises(InputError, match="not finished"):
        summarise([runs[0], tmp_path / "half"])
    synthetic.make(tmp_path / "larger", count=24, seed=4)
    with pytest.raises(InputError, match=r"more than the seed \(images\.count\)"):
        summarise([runs[0], tmp_path / "larger"])
    with pytest.raises(InputError):
        summarise([runs[0], tmp_path / "nowhere"])
    other = shutil.copytree(runs[1], tmp_path / "other")
    stage = other / "stages" / "06-evaluate-1"
    rows = artefacts.read_jsonl(stage / "samples.jsonl")
    artefacts.write_jsonl(stage / "samples.jsonl", [{**row, "prompt_sha256": "1"} for row in rows])
    manifest = artefacts.sealed(stage)
    artefacts.seal(stage, manifest["spec"], manifest["facts"])
    with pytest.raises(InputError, match="S1 of seed 1 answered other held-out questions"):
        summarise([runs[0], other])


def test_words_follow_the_numbers(summary):
    [greedy, *_] = report.findings(summary)
    assert greedy.startswith("S2 answers more held-out questions right than the base, greedy: +")
    assert "Sign by seed: + + +" in greedy
    gain = {**summary["gains"]["S2"]["average"]["greedy"], "direction": "unclear"}
    unclear = {**summary, "gains": {"S2": {"average": {"greedy": gain, "sampled": gain}}}}
    assert report.findings(unclear)[0].startswith("Over seeds, S2 cannot be told from the base, greedy: +")


def test_the_command_writes_both_files_whatever_the_order_of_the_runs(runs, summary, tmp_path):
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import app; app(prog_name='vzero-harness')"
    words = ["seeds", *map(str, runs), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (
        json.loads(done.stdout)
        == json.loads((tmp_path / "out" / "seeds.json").read_text())
        == json.loads(json.dumps(summary))
    )
    text = (tmp_path / "out" / "seeds.md").read_text()
    assert "| S2\u00a0\u2212\u00a0base | average | greedy | +" in text and "seed 2, commit" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seeds.json", "seeds.md"]
    failed = subprocess.run(
        [sys.executable, "-c", program, "seeds", str(runs[0])], capture_output=True, text=True, timeout=120
    )
    assert (failed.returncode, failed.stdout) == (2, "") and failed.stderr.count("\n") == 1
