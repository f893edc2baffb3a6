"""Real suites, from fixture rows, through the command line and lmms-eval's own code: scores, faults,
interruptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.evals import catalogue
from tests.fixtures import clones, suite_rows
from tests.warm import Warm
from vzero.pocket.suites import items
from vzero.runtime import artefacts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, warm: Warm) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    suite_rows.write(folder / "data")
    (folder / "gold.json").write_text(json.dumps(suite_rows.GOLD))
    clone = clones.write(folder / "clone", clones.spoilt())
    (clone / "images" / "13.png").write_bytes(b"\x89PNG")
    (clone / "images" / "15.png").unlink()
    done = warm.run(str(ROOT / "tests" / "e2e" / "suite_runs.py"), str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def report(ran) -> dict[str, dict]:
    return json.loads((ran / "report.json").read_text())


def results(ran: Path, name: str) -> dict:
    return artefacts.read_json(ran / name / "results.json")


def test_a_strangers_unfinished_evaluation_is_resumed_and_runs_no_code_of_it(ran, report):
    assert report["strange"]["code"] == 1 and report["strange, resumed"]["code"] == 0
    assert results(ran, "strange")["suites"] == results(ran, "dying")["suites"]
    assert not (ran / "ran-a-strangers-code").exists()


def test_right_answers_to_every_suite_are_right(ran, report):
    assert report["gold"]["code"] == 0, report["gold"]["err"]
    found = results(ran, "gold")
    assert list(found["suites"]) == catalogue.members("all") and found["complete"]
    for name, suite in found["suites"].items():
        golds = suite_rows.GOLD[name]
        assert suite["status"] == "complete"
        assert (suite["n"], suite["rows"]) == (len([gold for gold in golds if gold]), len(golds)), name
        greedy = suite["greedy"]
        assert (greedy["verified"], greedy["parsed"], greedy["truncated"]) == (1, 1, 0), name
        assert all(one["verified"] == 1 for one in suite["headlines"].values()), name
        assert all(
            (one["official"] is None) == bool(one["official_missing"]) for one in suite["headlines"].values()
        )
        assert any(
            "rows" in deviation for deviation in suite["deviations"]
        )  # a handful of rows is no benchmark
    official = {name: next(iter(one["headlines"].values())) for name, one in found["suites"].items()}
    assert {name for name, one in official.items() if one["official_missing"] == "needs a judge"} == {
        "hallusionbench",
        "mathverse",
        "mathverse_vision_only",
        "mathvista",
    }
    # What each rule makes of boxes: see tests/unit/test_official.py.
    assert {name for name, one in official.items() if one["official"] == 1} >= {
        "dynamath",
        "logicvista",
        "mathvision",
        "mathvision_testmini",
        "mmstar",
        "visulogic",
    }
    assert found["suites"]["logicvista"]["without_gold"] == ["v1_2"]
    assert (
        found["groups"]["math"]["members"] == catalogue.members("math")
        and found["groups"]["math"]["missing"] == []
    )
    assert len(found["suites"]["blink"]["lmms_eval"]["results"]) == 14


def test_the_same_command_asks_nothing_again(report):
    assert report["again"]["code"] == 0 and report["again"]["asked"] == 0
    assert report["gold"]["asked"] == sum(map(len, suite_rows.GOLD.values()))


def test_scoring_again_needs_no_model_and_finds_the_same(report):
    assert report["rescored"]["code"] == 0 and report["rescored"]["asked"] == 0 and report["rescored"]["same"]


def test_every_prompt_is_the_boxed_one_and_says_what_goes_into_the_box(report):
    texts = report["gold"]["texts"]
    assert all("\\boxed{" in text and "<think>" in text for text in texts)
    assert any("image 1 to image 2" in text for text in texts)
    assert any("a number with 1 decimal inside" in text for text in texts)


def test_lmms_evals_own_scoring_agrees_where_it_can_read_the_answer(ran, report):
    """The untouched in-tree tasks, on the same rows, for right answers in the form each of them reads."""
    assert report["bare"]["code"] == 0, report["bare"]["err"]
    assert report["tags"]["code"] == 0, report["tags"]["err"]
    own = {
        name: {
            key.split(",")[0]: value
            for values in suite["lmms_eval"]["results"].values()
            for key, value in values.items()
        }
        for run in ("bare", "tags")
        for name, suite in results(ran, run)["suites"].items()
    }
    assert own["mmstar"]["average"] == own["realworldqa"]["exact_match"] == own["blink"]["blink_acc"] == 1
    assert (
        own["cv_bench_2d"]["cv_bench_acc"]
        == own["cv_bench_3d"]["cv_bench_acc"]
        == own["mmmu_val"]["mmmu_acc"]
        == 1
    )
    assert (
        own["vstar"]["vstar_overall_acc"] == 100
        and own["dynamath"]["dynamath_worst"] == own["wemath"]["acc_score"] == 1
    )
    assert own["mmvp"]["mmvp_pair_accuracy"] in (1, 100)
    # lmms-eval counts the row without gold, and an empty box there as right; ours scores two of the three.
    assert own["logicvista"]["acc_score"] == 1 and results(ran, "tags")["suites"]["logicvista"]["n"] == 2
    for run in ("bare", "tags"):
        for name, suite in results(ran, run)["suites"].items():
            assert suite["greedy"]["verified"] == 1, name
            if name != "wemath":  # of all its rows alone
                assert next(iter(suite["headlines"].values()))["official"] == 1, name
            sent = list(suite["lmms_eval"]["sent"].values())
            assert all(one["temperature"] == 0 for one in sent)
    sent = results(ran, "bare")["suites"]["vstar"]["lmms_eval"]["sent"]
    assert [one["max_new_tokens"] for one in sent.values()] == [16]  # untouched


@pytest.mark.parametrize(
    ("suite", "why"),
    [
        ("mathvista", "asks a judge model"),
        ("hallusionbench", "no --profile stock"),
        ("visulogic", "no --profile stock"),
    ],
)
def test_a_stock_task_that_would_score_nonsense_is_refused(report, suite, why):
    told = report[f"stock {suite}"]
    assert told["code"] == 2 and why in told["err"] and told["asked"] == 0


def test_samples_have_a_mean_a_majority_and_a_best(ran, report):
    assert report["sampled"]["code"] == 0, report["sampled"]["err"]
    found = results(ran, "sampled")
    assert json.loads(report["sampled"]["out"]) == found
    suite = found["suites"]["mmvp"]  # gold A and B; greedy B; samples A, A, B
    assert suite["greedy"]["verified"] == 0.5
    assert suite["sampled"]["verified"] == {"mean": 0.5, "maj@3": 0.5, "pass@3": 1.0}
    row = artefacts.read_jsonl(ran / "sampled" / "responses" / "mmvp.jsonl")[-1]
    assert row["purpose"] == "sampled" and len(row["answers"]) == 3


def test_a_server_that_dies_midway_scores_nothing_and_loses_nothing(ran, report):
    told = report["dying"]
    assert told["code"] == 1 and "hung up" in told["err"] and "Traceback" not in told["err"]
    looked = report["dying, looked at"]
    assert (
        looked["code"] == 0
        and "incomplete" in looked["out"]
        and "2 of 3 items answered; not scored" in looked["out"]
    )
    assert report["dying, resumed"]["code"] == 0 and report["dying, resumed"]["asked"] == 1
    assert results(ran, "dying")["suites"]["logicvista"]["status"] == "complete"


def test_an_evaluation_that_is_asked_to_end_resumes_at_the_item(report):
    assert report["ended"]["code"] == 75 and "resume" in report["ended"]["err"]
    assert report["ended, resumed"]["code"] == 0 and report["ended, resumed"]["asked"] == 2
    assert (
        report["other settings"]["code"] == 2 and "greedy.max_new_tokens" in report["other settings"]["err"]
    )


def test_answers_that_were_lost_after_the_scoring_are_drawn_again(ran, report):
    looked, again = report["shortened, looked at"], report["shortened, again"]
    assert looked["code"] == 1 and "logicvista.jsonl is damaged" in looked["err"]
    assert again["code"] == 0 and again["asked"] == 1
    assert results(ran, "ended")["suites"] == results(ran, "dying")["suites"]


def test_another_checkpoint_is_never_answered_by_the_responses_of_the_first(report):
    assert report["mine"]["code"] == 0 and report["mine"]["asked"] == 3
    assert report["mine, changed"]["code"] == 2 and "checkpoint_sha256" in report["mine, changed"]["err"]
    assert report["mine, anew"]["code"] == 0 and report["mine, anew"]["asked"] == 3
    mixed = report["mine, with theirs"]  # all asked again, and nothing scored from the mixture
    assert mixed["asked"] == 3 and mixed["code"] == 1 and "two different conditions" in mixed["err"]


def test_pixel_limits_are_kept_and_recorded(ran, report):
    assert report["limits"]["code"] == 0 and report["limits"]["asked"] == 2
    ((width, height),) = report["limits"]["sizes"]
    assert 900 < width * height <= 1000 and width / height == pytest.approx(64 / 48, rel=0.05)
    said = results(ran, "limits")
    assert said["suites"]["logicvista"]["lmms_eval"]["pixels"] == {"least": 100, "most": 1000}
    assert said["protocol"]["image_processor"]["size"] == {"longest_edge": 1764, "shortest_edge": 196}
    assert said["protocol"]["stop_tokens"] == ["<|im_end|> (3)"]


def test_drawn_suites_and_benchmarks_are_asked_together(ran, report):
    """Under one limit: a question of each of the seven families, shown as drawn, and a benchmark's pair."""
    assert report["mixed"]["code"] == 0 and report["mixed"]["asked"] == 7 + 2
    assert [42, 42] in report["mixed"]["sizes"] and len(report["mixed"]["sizes"]) == 2
    suites = results(ran, "mixed")["suites"]
    pocket, asked = suites["pocket_math"], artefacts.read_jsonl(ran / "mixed" / "items" / "pocket_math.jsonl")
    assert (pocket["rows"], pocket["rows_expected"]) == (7, 525) and "--limit" in pocket["deviations"][0]
    assert [one["n"] for one in pocket["by"]["family"].values()] == [1] * 7
    gold = {one.item_id: one.gold for one in items("pocket_math", "test", 75)}
    right = sum(gold[one["item"]["id"]] == "A" for one in asked)
    assert pocket["greedy"]["verified"] == pytest.approx(right / 7)
    assert suites["mmvp"]["greedy"]["verified"] == 0.5


def test_a_limit_holds_for_lmms_evals_own_tasks(ran, report):
    assert report["stock, limited"]["code"] == 0, report["stock, limited"]["err"]
    suites = results(ran, "few")["suites"]
    assert {name: one["rows"] for name, one in suites.items()} == {"mmvp": 2, "blink": 3}
    assert sum(suites["blink"]["lmms_eval"]["items"].values()) == 3
    assert all(one["lmms_eval"]["results"] for one in suites.values())


def test_hostile_and_truncated_answers_are_counted(ran, report):
    told = report["hostile"]
    assert told["code"] == 0, told["err"]
    suite = results(ran, "hostile")["suites"]["logicvista"]
    assert suite["greedy"]["truncated"] == 1 and any("truncated" in one for one in suite["deviations"])
    for text in (told["out"], told["err"], (ran / "hostile" / "results.md").read_text()):
        assert "\x1b" not in text and "<script>" not in text
    assert (
        len(artefacts.read_jsonl(ran / "hostile" / "responses" / "logicvista.jsonl")[0]["answers"][0]["text"])
        > 18_000
    )


def test_an_empty_answer_is_unparsed_and_strictly_wrong(ran, report):
    suite = results(ran, "silent")["suites"]["mathvista"]
    assert (suite["greedy"]["parsed"], suite["greedy"]["verified"]) == (0, 0)
    assert any("could be read in 0.0 %" in one for one in suite["deviations"])


def test_published_figures_stand_beside_a_known_base(ran, report):
    assert report["base"]["code"] == 0
    beside = results(ran, "base")["suites"]["logicvista"]["published"]
    assert beside["model"] == "qwen2.5-vl-3b-instruct" and beside["span"] == [40.3, 40.3]
    assert beside["outside"] == []  # three rows are not compared with a whole benchmark


def test_an_item_that_exceeds_the_context_is_set_aside_by_name_and_the_others_count(ran, report):
    """Greedy and sampled; what was answered beside it is not asked again, neither in the same attempt nor in
    the next."""
    told = report["too long"]
    assert told["code"] == 0 and told["asked"] == 3 + 3, told["err"]
    found = results(ran, "too-long")["suites"]["logicvista"]
    (aside,) = found["set_aside"]
    assert aside["id"] == "v1_1" and "16400 tokens and 2048 new ones exceed the context" in aside["reason"]
    assert (found["status"], found["rows"], found["answered"], found["n"]) == ("complete", 2, 2, 1)
    again = report["too long, again"]
    assert (again["code"], again["asked"]) == (0, 0)


def test_a_killed_evaluation_goes_on_at_the_next_item(ran, warm: Warm, tmp_path):
    """SIGKILL at the real engine's second answer; the real command line then asks for the rest."""
    program = """
import os, signal, sys
from harness import cli
from vzero.rollout import engines
opened, calls = engines.open_engine, []
class Killed:
    def __init__(self, engine):
        self.engine = engine
    def stream(self, requests, sampling, finished):
        def told(i, answer):
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            finished(i, answer)
        self.engine.stream(requests, sampling, told)
engines.open_engine = lambda config, checkpoint: Killed(opened(config, checkpoint))
cli.app(sys.argv[1:])
"""
    words = [
        "evaluate",
        "pocket",
        "--suites",
        "logicvista",
        "--data",
        str(ran / "data"),
        "--batch",
        "1",
        "--max-new-tokens",
        "8",
    ]
    killed = warm.run("-c", program, *words, "--out", str(tmp_path / "run"))
    assert killed.returncode == -9, killed.stderr
    first = artefacts.read_jsonl(tmp_path / "run" / "responses" / "logicvista.jsonl")
    assert [row["id"] for row in first] == ["v1_0"] and not (tmp_path / "run" / "results.json").exists()
    resumed = warm.run("-m", "harness", *words, "--out", str(tmp_path / "run"))
    assert resumed.returncode == 0, resumed.stderr
    rows = artefacts.read_jsonl(tmp_path / "run" / "responses" / "logicvista.jsonl")
    assert rows[0] == first[0] and [row["id"] for row in rows] == ["v1_0", "v1_1", "v1_2"]
    assert results(tmp_path, "run")["complete"]


def test_a_request_too_long_under_a_limit_is_set_aside_of_the_whole_suite(ran, report):
    assert report["too long of few"]["code"] == 0, report["too long of few"]["err"]
    suite = results(ran, "too-long-of-few")["suites"]["logicvista"]
    assert (suite["rows"], suite["answered"], len(suite["set_aside"])) == (2, 2, 1)


def test_a_request_too_long_among_dealt_pictures_deals_them_anew(ran):
    """Each other question is then shown another picture, so what was answered before is answered again."""
    suite = results(ran, "too-long-shuffled")["suites"]["logicvista"]
    assert (suite["rows"], suite["answered"], len(suite["set_aside"])) == (2, 2, 1)
    kept = artefacts.read_jsonl(ran / "too-long-shuffled" / "responses" / "logicvista.jsonl")
    assert [row["id"] for row in kept] == ["v1_0", "v1_2"]


def test_damaged_rows_of_a_clone_are_set_aside_and_the_others_answered(ran, report):
    assert report["damaged"]["code"] == 1 and report["damaged, resumed"]["code"] == 0
    assert (report["damaged"]["asked"], report["damaged, resumed"]["asked"]) == (3, 5)
    suite = results(ran, "damaged")["suites"]["mathvision_testmini"]
    assert sorted(one["id"] for one in suite["set_aside"]) == ["12", "13", "15", "16", "17", "17"]
    assert (suite["rows"], suite["answered"], suite["n"], suite["status"]) == (8, 8, 8, "complete")
    lines = artefacts.read_jsonl(ran / "damaged" / "items.scored.jsonl")
    assert [line["id"] for line in lines] == ["10", "11", "14", "16", "18", "19", "20", "21"]
    assert suite["greedy"]["verified"] == 5 / 8  # the choices, whose answer is B
    assert any(one.startswith("6 rows set aside, 50.0 %") for one in suite["deviations"])
    out = " ".join(report["damaged, resumed"]["out"].split())
    assert "in no number: 6 rows set aside: 12 (" in out and "PROTOCOL DEVIATION" in out
    assert "6 rows set aside" in (ran / "damaged" / "results.md").read_text()
    repaired = report["damaged, repaired"]
    assert (repaired["code"], repaired["asked"]) == (2, 0) and "pinned: 15" in repaired["err"]
