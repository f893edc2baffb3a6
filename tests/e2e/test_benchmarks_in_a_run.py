"""A run's evaluate stage over benchmarks: the real stage program, engine and lmms-eval on fixture rows;
killed and resumed."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from harness.analysis.build import build
from harness.evals import write
from harness.evals.pinned import pinned
from harness.runs.directory import opened
from harness.runs.sealed import read_run
from tests.fixtures import suite_rows
from tests.warm import Program, Warm
from vzero.config import Preset
from vzero.presets import load_preset
from vzero.runtime import artefacts

STAGE = "01-evaluate-base"
MARK = "kept "
SUITES = ("logicvista", "mathvista", "mmstar")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    folder = tmp_path_factory.mktemp("benchmarks")
    suite_rows.write(folder / "data")
    split, rows = suite_rows.SPLITS["mathvista", None]
    spoilt = [*rows, {**rows[0], "pid": "9", "answer": "blue"}]  # none of its choices
    write.save(spoilt, ("decoded_image",), split, folder / "data" / "mathvista")
    changes = [
        f"evaluation.suites={list(SUITES)}",
        f"evaluation.data={folder / 'data'}",
        "engine.batch_sequences=1",
    ]
    small = [
        "evaluation.greedy.max_new_tokens=12",
        "evaluation.sampled.max_new_tokens=12",
        "evaluation.sampled.n=3",
    ]
    return pinned(load_preset("smoke", [*changes, *small, "engine.threads=1"]), folder / "scratch")


def stage(warm: Warm, run: Path) -> Program:
    return warm.start("-m", "harness.evals.stage", str(run), STAGE)


def whole(warm: Warm, run: Path) -> Path:
    done = stage(warm, run)
    _, err = done.communicate(timeout=600)
    assert done.returncode == 0, err
    return run / "stages" / STAGE


def started(run: Path, preset: Preset) -> Path:
    with opened(run, preset, "reproduce"):
        return run


def test_a_killed_evaluation_goes_on_at_the_item_and_comes_to_the_same(
    preset: Preset, warm: Warm, tmp_path: Path
) -> None:
    calm, killed = started(tmp_path / "calm", preset), started(tmp_path / "killed", preset)
    kept = killed / "stages" / STAGE / "work" / "evaluation" / "responses" / "logicvista.jsonl"
    process = stage(warm, killed)
    end = time.monotonic() + 300
    while (
        process.poll() is None
        and not (kept.exists() and kept.read_text().count("\n") >= 2)
        and time.monotonic() < end
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "killed while it was answering"
    marked = 0
    with open(kept, encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream.readlines()[:2]]
    for row in rows:
        del row["check"]  # the digest of the row as it was drawn
        for answer in row["answers"]:
            answer["text"] = MARK + answer["text"]  # an answer drawn again would not say so
            marked += 1
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder, undisturbed = whole(warm, killed), whole(warm, calm)
    found, expected = (artefacts.read_jsonl(one / "samples.jsonl") for one in (folder, undisturbed))
    answers = [answer for row in found for answer in (row["greedy"], *row["sampled"])]
    assert sum(answer["text"].startswith(MARK) for answer in answers) == marked == 1 + 3
    for answer in answers:
        answer["text"] = answer["text"].removeprefix(MARK)
    assert found == expected
    _speaks_as_the_rest_does(calm, expected)


def _speaks_as_the_rest_does(run: Path, rows: list[dict]) -> None:
    assert {row["suite"] for row in rows} == set(SUITES)
    golds = {name: [gold for gold in suite_rows.GOLD[name] if gold] for name in SUITES}
    assert [row["gold"] for row in rows if row["suite"] == "mmstar"] == golds["mmstar"]
    assert all(len(row["sampled"]) == 3 for row in rows)
    summary = artefacts.read_json(run / "stages" / STAGE / "evaluation.json")
    found = build(read_run(run))
    assert [one["id"] for one in summary["suites"]["mathvista"]["set_aside"]] == ["9"]
    assert any(
        one.startswith("PROTOCOL DEVIATION: mathvista: 1 row set aside: 9 (") for one in found.warnings
    )
    for name in SUITES:
        accuracy, theirs = found.suites[name]["base"].accuracy, summary["suites"][name]
        assert accuracy["greedy"].n == theirs["n"] == len(golds[name])
        assert accuracy["greedy"].value == pytest.approx(theirs["greedy"]["verified"], abs=1e-8)
        assert accuracy["sampled"].value == pytest.approx(theirs["sampled"]["verified"]["mean"], abs=1e-8)
        assert accuracy["maj@3"].value == pytest.approx(theirs["sampled"]["verified"]["maj@3"], abs=1e-8)
        scored, headline = found.scorings[name]["base"], next(iter(theirs["headlines"].values()))
        assert scored.verified == pytest.approx(headline["verified"], abs=1e-8)
        assert scored.official == pytest.approx(headline["official"], abs=1e-8)
        assert found.expected[name] > accuracy["greedy"].n
    sent = summary["suites"]["mmstar"]["lmms_eval"]["sent"]
    assert sorted(one["n"] for one in sent.values()) == [1, 3]


def test_data_that_changed_meanwhile_is_refused(preset: Preset, warm: Warm, tmp_path: Path) -> None:
    other = preset.model_copy(
        update={"evaluation": preset.evaluation.model_copy(update={"data_sha256": "0" * 64})}
    )
    done = stage(warm, started(tmp_path / "run", other))
    _, err = done.communicate(timeout=600)
    assert done.returncode == 2 and "has changed since this run began" in err and "Traceback" not in err
