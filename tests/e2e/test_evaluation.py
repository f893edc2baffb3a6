"""The evaluate stage as its own process, with the real engine and lmms-eval: undisturbed, failing, killed,
resumed."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.warm import Warm
from vzero.config import EngineConfig
from vzero.parsing import parse_answer
from vzero.pocket.suites import SUITES, items
from vzero.presets import load_preset
from vzero.prompts import solver_messages
from vzero.rollout.protocol import Request
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive

STAGE = "01-evaluate-base"
FAMILIES = sum(map(len, SUITES.values()))
OUTPUTS = ("samples.jsonl", "evaluation.json")
# The real stage around the real engine, of which answer number argv[3] is lost, by argv[4].
FAULTY = """
import os, signal, sys
from harness.evals.stage import evaluate
from vzero.errors import RolloutError
from vzero.rollout import engines
from vzero.runtime.stage import main
opened, calls = engines.open_engine, []
class Faulty:
    def __init__(self, engine):
        self.engine = engine
    def stream(self, requests, sampling, finished):
        def told(i, answer):
            calls.append(i)
            if len(calls) == int(sys.argv[3]):
                if sys.argv[4] == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RolloutError("The engine lost its server.")
            finished(i, answer)
        self.engine.stream(requests, sampling, told)
engines.open_engine = lambda config, checkpoint: Faulty(opened(config, checkpoint))
sys.exit(main({"evaluate": evaluate}, sys.argv[1:3]))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    from tests.tiny_model import build

    return build(tmp_path_factory.mktemp("model") / "tiny")


def new_run(folder: Path, checkpoint: Path, slots: int = 30) -> Path:
    preset = load_preset(
        "smoke",
        changes={
            "model": str(checkpoint),
            "evaluation.items_per_family": 1,
            "evaluation.greedy.max_new_tokens": 6,
            "evaluation.sampled.max_new_tokens": 6,
            "engine.batch_sequences": slots,
            "engine.threads": 1,
        },
    )
    artefacts.write_json(folder / "run.json", {"preset": preset.model_dump(mode="json")})
    return folder


def attempt(warm: Warm, run: Path, *fault: str) -> subprocess.CompletedProcess[str]:
    program = ["-c", FAULTY] if fault else ["-m", "harness.evals.stage"]
    temporary = run.with_name(f"{run.name}-temporary")
    temporary.mkdir(exist_ok=True)
    return warm.run(*program, str(run), STAGE, *fault, TMPDIR=str(temporary))


@pytest.fixture(scope="module")
def evaluated(checkpoint, warm: Warm, tmp_path_factory) -> Path:
    run = new_run(tmp_path_factory.mktemp("run"), checkpoint)
    done = attempt(warm, run)
    assert done.returncode == 0, done.stderr
    assert "Postprocessing" not in done.stderr + done.stdout  # lmms-eval's noise stays in its log
    return run / "stages" / STAGE


def test_every_item_has_all_its_answers(evaluated):
    rows = artefacts.read_jsonl(evaluated / "samples.jsonl")
    assert [(row["suite"], row["item_id"]) for row in rows] == [
        (suite, item.item_id) for suite in SUITES for item in items(suite, "test", 1)
    ]
    for row in rows:
        assert list(row) == [
            "suite",
            "item_id",
            "family",
            "image_sha256",
            "prompt_sha256",
            "group",
            "together",
            "gold",
            "greedy",
            "sampled",
        ]
        assert len(row["sampled"]) == 10
        for answer in [row["greedy"], *row["sampled"]]:
            assert answer["answer"] == parse_answer(answer["text"])
            assert answer["finish_reason"] in ("stop", "length") and 1 <= answer["tokens"] <= 6
    assert not (evaluated / "work").exists()
    assert set(artefacts.sealed(evaluated)["files"]) == set(OUTPUTS)


def test_the_engine_was_asked_what_the_suite_asks(evaluated, checkpoint):
    """One item, asked by hand and alone, gives the answers that lmms-eval's detour brought back."""
    from vzero.rollout.engines import open_engine

    evaluation = artefacts.read_json(evaluated / "evaluation.json")["evaluation"]
    preset = load_preset(
        "smoke",
        changes={"evaluation.greedy": evaluation["greedy"], "evaluation.sampled": evaluation["sampled"]},
    )
    assert preset.evaluation.greedy.max_new_tokens == preset.evaluation.sampled.max_new_tokens == 6
    item = items("pocket_logic", "test", 1)[0]
    row = next(
        one for one in artefacts.read_jsonl(evaluated / "samples.jsonl") if one["item_id"] == item.item_id
    )
    engine = open_engine(EngineConfig(batch_sequences=30), checkpoint)
    for purpose in ("greedy", "sampled"):
        seed = derive(0, "evaluate", "pocket_logic", item.item_id, purpose)
        (rollout,) = engine.generate(
            [Request(solver_messages("pocket", item.question), item.image, seed)],
            getattr(preset.evaluation, purpose),
        )
        stored = [row["greedy"]] if purpose == "greedy" else row["sampled"]
        assert [one.text for one in rollout.completions] == [answer["text"] for answer in stored]
    assert len({answer["text"] for answer in row["sampled"]}) > 1  # ten draws, not one ten times
    pixels = hashlib.sha256(b"RGB 42x42\n" + item.image.tobytes()).hexdigest()
    assert row["image_sha256"] == pixels


COUNTING = """
import json, sys
from harness.evals.stage import evaluate
from vzero.rollout import encoding, transformers_engine
from vzero.runtime.stage import main
TransformersEngine = transformers_engine.TransformersEngine
stream, real, calls, read = TransformersEngine.stream, encoding._read, [], []
def counted(self, requests, sampling, finished):
    calls.append([])
    def each():
        for one in requests:
            calls[-1].append((one.seed, one.sampled_by(sampling).n))
            yield one
    stream(self, each(), sampling, finished)
def reading(*given, **named):
    found = real(*given, **named)
    read.append(len(found.logits))
    return found
TransformersEngine.stream, encoding._read = counted, reading
code = main({"evaluate": evaluate}, sys.argv[1:3])
json.dump({"calls": calls, "prompts": sum(read)}, open(sys.argv[3], "w"))
sys.exit(code)
"""


def test_both_kinds_of_answers_to_an_item_are_asked_for_together(checkpoint, warm: Warm, evaluated, tmp_path):
    """All suites in one call, an item's greedy answer right before its samples; each prompt is read once."""
    run, counts = new_run(tmp_path / "run", checkpoint, slots=64), tmp_path / "counts.json"
    done = warm.run("-c", COUNTING, str(run), STAGE, str(counts))
    assert done.returncode == 0, done.stderr
    assert (run / "stages" / STAGE / "samples.jsonl").read_bytes() == (
        evaluated / "samples.jsonl"
    ).read_bytes()
    found = artefacts.read_json(counts)
    each = [(suite, item.item_id) for suite in sorted(SUITES) for item in items(suite, "test", 1)]
    assert found["calls"] == [
        [
            [derive(0, "evaluate", suite, item, purpose), n]
            for suite, item in each
            for purpose, n in (("greedy", 1), ("sampled", 10))
        ]
    ]
    assert found["prompts"] == len(each)


def test_lmms_eval_scored_all_ten_answers(evaluated):
    """Its own report, against a count from the texts: `repeats` and `take_first_k` must bring every sample to
    the scorer."""
    said = artefacts.read_json(evaluated / "evaluation.json")["suites"]
    rows = artefacts.read_jsonl(evaluated / "samples.jsonl")
    for suite, families in SUITES.items():
        golds = {row["item_id"]: row["gold"] for row in rows if row["suite"] == suite}
        texts = [
            (row["item_id"], answer["text"])
            for row in rows
            if row["suite"] == suite
            for answer in row["sampled"]
        ]
        assert len(golds) == len(families) and len(texts) == 10 * len(families)
        right = Counter(item_id for item_id, text in texts if parse_answer(text) == golds[item_id])
        reported = said[suite]["lmms_eval"]["results"]
        of_sampled = reported[f"vzero_boxed_{suite}_sampled"]
        assert of_sampled["verified,all"] == pytest.approx(right.total() / len(texts), abs=1e-12)
        assert of_sampled["any_correct,all"] == pytest.approx(len(right) / len(golds), abs=1e-12)
        assert set(reported[f"vzero_boxed_{suite}_greedy"]) >= {"verified,none", "parsed,none"}


def test_all_that_was_sent_is_recorded_and_nothing_of_the_place(evaluated):
    found = artefacts.read_json(evaluated / "evaluation.json")
    record = found["suites"]["pocket_math"]["lmms_eval"]
    assert (
        record["sent"]["vzero_boxed_pocket_math_sampled"]
        == found["evaluation"]["sampled"]
        == {
            "n": 10,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "repetition_penalty": 1.0,
            "max_new_tokens": 6,
        }
    )
    assert record["sent"]["vzero_boxed_pocket_math_greedy"]["temperature"] == 0.0
    assert list(record["not_sent"].values()) == [{"until": ["\n\n"]}] * 2
    for name in OUTPUTS:
        assert str(evaluated.parents[1]) not in (evaluated / name).read_text()


def test_an_evaluation_that_failed_and_was_killed_ends_as_an_undisturbed_one(
    evaluated, checkpoint, warm: Warm, tmp_path
):
    run = new_run(tmp_path, checkpoint)
    folder = run / "stages" / STAGE
    failed = attempt(warm, run, "3", "error")
    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1] == "error: The engine lost its server."
    assert not any((folder / name).exists() for name in (*OUTPUTS, "manifest.json"))
    killed = attempt(warm, run, "2", "kill")
    assert killed.returncode < 0
    assert not (folder / "manifest.json").exists()
    resumed = attempt(warm, run)
    assert resumed.returncode == 0, resumed.stderr
    for name in OUTPUTS:
        assert (folder / name).read_bytes() == (evaluated / name).read_bytes(), name
    left = {path.name for path in run.with_name(f"{run.name}-temporary").iterdir()}
    assert not {name for name in left if name.startswith("vzero")}, (
        "what a kill leaves is gone after the next"
    )
    # The first attempt kept the answers to two requests, the second to one: two greedy, ten sampled.
    facts = artefacts.sealed(folder)["facts"]
    assert facts["kept_answers"] == 1 + 1 + 10
    assert facts["answers"] == 11 * FAMILIES
