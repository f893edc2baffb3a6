"""Official scores: lmms-eval's own code on answers in rows of the suites' real form. What is right was read
off each rule by hand; nothing here calls the rules' code but the worker."""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evals import build, catalogue, fields, folder, headline, isolation, official
from harness.evals.catalogue import Headline
from harness.evals.folder import AskedItem
from harness.evals.headline import Judged
from harness.evals.official_job import AnsweredRow, Job, Judge, Outcome
from harness.scoring import judge, read
from harness.scoring.files import Answer
from harness.scoring.score import ScoredFile
from tests.faults.test_extractor_endpoint import completion, server
from tests.fixtures import suite_rows
from tests.fixtures.evaluations import answer, run_folder
from vzero.errors import VZeroError
from vzero.runtime import artefacts

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

# suite, its row, an answer, whether it is right by the suite's rule, and verified; why they differ.
CASES = [
    ("blink", 0, "The answer is (C).", True, True, ""),
    ("blink", 0, "\\boxed{C}", False, True, "no pattern of the rule holds a box"),
    ("blink", 0, "Counting them is hopeless.", True, False, "the rule takes a leading C"),
    ("cv_bench_2d", 0, "(B) 1", True, True, ""),
    ("cv_bench_3d", 0, "The answer is (B).", False, True, "the rule takes the first letter, T"),
    ("dynamath", 2, "<answer>2.5</answer>", True, True, ""),
    ("dynamath", 2, "I took 3 points and got 2.5", True, False, "the rule takes a last number"),
    ("logicvista", 0, "<think>A?</think> \\boxed{C}", True, True, ""),
    ("logicvista", 0, "The answer is C.", False, True, "the rule reads tags, boxes and numbers alone"),
    ("logicvista", 1, "\\boxed{A}", True, False, "the rule takes the gold's first label"),
    ("mathvision", 0, "\\boxed{E}", True, True, ""),
    ("mathvision", 1, "The answer is 7.", True, True, ""),
    ("mathvision", 1, "\\boxed{7.004}", True, False, "the rule rounds to two decimals"),
    ("mathvision_testmini", 1, "\\boxed{\\frac{14}{2}}", True, True, ""),
    ("mmmu_val", 0, "(B)", True, True, ""),
    ("mmmu_val", 1, "\\boxed{3}", True, True, ""),
    ("mmmu_val", 1, "It is 3 of 14, or 5.", True, False, "the rule accepts any number in the sentence"),
    ("mmstar", 0, "The answer is (B).", True, True, ""),
    ("mmstar", 0, "The answer is C, and not B.", True, False, "the rule ranks a last letter above a cue"),
    ("mmvp", 0, "(a)", True, True, ""),
    ("mmvp", 0, "\\boxed{A}", False, True, "no pattern of the rule holds a box"),
    ("realworldqa", 0, "B.", True, True, ""),
    ("realworldqa", 1, "\\boxed{3}", False, True, "free answers must be equal as text"),
    ("visulogic", 0, "<think>x</think> \\boxed{D}", True, True, ""),
    (
        "visulogic",
        0,
        "I would never take option D here.",
        True,
        False,
        "the rule takes what follows `option`",
    ),
    ("vstar", 0, "A", True, True, ""),
    ("vstar", 0, "\\boxed{A}", False, True, "the rule sees the letters B, D and A of the box"),
    ("wemath", 0, "\\boxed{A}", True, True, ""),
    ("wemath", 0, "The answer is A.", False, True, "the rule reads tags, boxes and numbers alone"),
]
JUDGED = {"mathvista", "mathverse", "mathverse_vision_only", "hallusionbench"}


def asked(suite: str, row: int = 0, **changes: Any) -> AskedItem:
    found = catalogue.find(suite)
    part = found.parts[0].config if (suite, found.parts[0].config) in suite_rows.SPLITS else None
    stored = copy.deepcopy(suite_rows.SPLITS[suite, part][1][row]) | changes
    return AskedItem.of(fields.read(found, stored, row), part)


def job(suite: str, *answered: tuple[AskedItem, str], judge: Judge | None = None) -> Job:
    found = official.job(catalogue.find(suite), answered, judge)
    assert isinstance(found, Job), found
    return found


def outcome(one: Job) -> Outcome:
    return next(official.run([one]))


def several(suite: str, changes: list[dict[str, Any]], texts: list[str]) -> list[tuple[AskedItem, str]]:
    return [(asked(suite, **change), text) for change, text in zip(changes, texts, strict=True)]


def problems() -> list[tuple[AskedItem, str]]:
    """We-Math's 525 problems, which lmms-eval's formula assumes, in every pattern of right and wrong."""
    found = []
    for number in range(525):
        steps = 2 if number < 360 else 3
        for place in range(steps + 1):
            key = f"{steps}steps_{'multi' if place == steps else place + 1}"
            text = "\\boxed{A}" if number * 7919 >> place & 1 else "\\boxed{B}"
            found.append((asked("wemath", ID=str(number), key=key, answer="A"), text))
    return found


# suite -> answers, and its headlines by hand.
HEADLINES = {
    # One of one in Counting, one of three in Jigsaw; the items' mean is 1/2. So with sources and axes.
    "blink": (
        [{"idx": str(i), "sub_task": task} for i, task in enumerate(["Counting", *["Jigsaw"] * 3])],
        ["(C)", "(C)", "(A)", "(B)"],
        {"mean over tasks": 2 / 3},
    ),
    "cv_bench_2d": (
        [{"idx": i, "source": source} for i, source in enumerate(["ADE20K", *["COCO"] * 3])],
        ["B", "B", "A", "A"],
        {"mean over sources": 2 / 3},
    ),
    "mmstar": (
        [{"index": i, "l2_category": axis} for i, axis in enumerate("xyyy")],
        ["B", "B", "A", "A"],
        {"mean over axes": 2 / 3},
    ),
    "mmvp": (
        [{"Index": i + 1, "Correct Answer": gold} for i, gold in enumerate(["(a)", "(b)"] * 2)],
        ["(a)", "(b)", "(a)", "(a)"],
        {"pairs": 1 / 2},
    ),
    "dynamath": (
        [
            {"id": str(i // 2), "question_id": str(i), "ground_truth": "2.5", "answer_type": "float"}
            for i in range(4)
        ],
        ["\\boxed{2.5}"] * 3 + ["\\boxed{3}"],
        {"worst-case accuracy": 1 / 2, "average accuracy": 3 / 4},
    ),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[Any, Outcome]:
    """Everything that needs no judge, in one process."""
    guesses = [(asked("mmmu_val", id=f"validation_Art_{i}"), "\\boxed{B}") for i in range(40)]
    broken = asked("mmmu_val", id="validation_Accounting_9")
    broken = broken.model_copy(update={"row": {**broken.row, "options": "no list"}})
    jobs = {
        **{case[:3]: job(case[0], (asked(*case[:2]), case[2])) for case in CASES},
        **{suite: job(suite, *several(suite, rows, texts)) for suite, (rows, texts, _) in HEADLINES.items()},
        "wemath": job("wemath", *problems()),
        "a few problems": job("wemath", *problems()[:9]),
        "guesses": job("mmmu_val", *guesses),
        "guesses again": job("mmmu_val", *guesses),
        "one broken": job("mmmu_val", (asked("mmmu_val"), "B"), (broken, "B")),
        "all broken": job("mmmu_val", (broken, "B")),
    }
    return dict(zip(jobs, official.run(list(jobs.values())), strict=True))


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{case[2][:20]}" for case in CASES])
def test_each_suites_own_rule_decides(outcomes: dict[Any, Outcome], case: Any) -> None:
    suite, row, text, by_official, by_verified, why = case
    item, found = asked(suite, row).item, outcomes[case[:3]]
    assert found.verdicts == {item.id: by_official} and not found.set_aside
    assert judge(item, read(item, text)).verified is by_verified
    assert (by_official != by_verified) == bool(why)


def test_every_benchmark_has_a_rule_or_needs_a_judge() -> None:
    assert {case[0] for case in CASES} | JUDGED == set(catalogue.members("all")) | {
        "mathvision_testmini",
        "mathverse",
    }
    for name in JUDGED:
        found = official.job(catalogue.find(name), [(asked(name), "x")], None)
        assert found == Outcome(unavailable="needs a judge")
    assert official.job(catalogue.find("pocket_math"), [], None) == Outcome()


def ours(suite: str, answered: list[tuple[AskedItem, str]], verdicts: dict[str, bool]) -> dict[str, float]:
    """Our headlines of lmms-eval's own verdicts."""
    rows = [
        Judged(one.item.id, one.item.id, dict(one.item.group), one.together, verdicts[one.item.id])
        for one, _ in answered
    ]
    found = {
        one.name: headline.mean(headline.strata(one, rows), 0) for one in catalogue.find(suite).headlines
    }
    return {name: interval.value for name, interval in found.items() if interval}


@pytest.mark.parametrize("suite", HEADLINES)
def test_headlines_are_the_authors_own(outcomes: dict[Any, Outcome], suite: str) -> None:
    rows, texts, by_hand = HEADLINES[suite]
    found = outcomes[suite]
    assert found.headlines == pytest.approx(by_hand)
    assert ours(suite, several(suite, rows, texts), found.verdicts) == pytest.approx(by_hand)


def test_wemath_is_strict_and_loose_of_all_its_problems(outcomes: dict[Any, Outcome]) -> None:
    found, part = outcomes["wemath"], outcomes["a few problems"]
    assert len(found.verdicts) == catalogue.find("wemath").rows
    # lmms-eval rounds to hundredths of a percent
    assert found.headlines == pytest.approx(ours("wemath", problems(), found.verdicts), abs=6e-5)
    assert found.headlines.keys() == {"strict score", "loose score"}
    assert len(part.verdicts) == 9 and not part.headlines
    assert "all 1,740 rows" in (official.missing(catalogue.find("wemath"), part, "strict score") or "")


def test_the_two_halves_of_cv_bench_have_a_mean() -> None:
    assert catalogue.members("cv_bench") == ["cv_bench_2d", "cv_bench_3d"]


def test_wemath_by_hand_on_its_five_patterns() -> None:
    """Mastered; generalizes badly (half); lucky with one wrong step; lucky with both wrong; wrong. Problem 1
    is asked twice."""
    flags = {"1/2": "TTT", "1/3": "TTTF", "2/2": "FTT", "3/2": "FFT", "4/2": "TFF"}
    rows = []
    for name, letters in flags.items():
        problem, steps = name.split("/")
        for place, letter in enumerate(letters):
            step = "multi" if place == int(steps) else place + 1
            rows.append(Judged(f"{problem}/{steps}steps_{step}", "", {}, {}, letter == "T"))
    for score, worth in (("strict", 1.5), ("loose", 2.5)):
        (found,) = headline.strata(Headline(score=score), rows)
        assert sum(value for _, value in found.values()) == worth and len(found) == 5


def test_hallusionbenchs_average_is_of_items_figures_and_questions() -> None:
    sets = {"a": ("1", "x"), "b": ("1", "y"), "c": ("2", "x")}
    rows = [
        Judged(key, key, {}, {"figure": figure, "question": question}, key != "b")
        for key, (figure, question) in sets.items()
    ]
    *_, average = catalogue.find("hallusionbench").headlines
    found = headline.mean(headline.strata(average, rows), 0)
    assert found and found.value == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    assert headline.strata(average, []) == []


def test_a_gain_is_of_the_headline_and_not_of_the_items() -> None:
    """Of the second pair one more item is right: the pairs gain one half, the items a quarter."""
    before, after = ([True, True, False, True], [True, True, True, True])
    pairs = Headline(sets=("pair",))

    def strata(flags: list[bool]) -> list[headline.Stratum]:
        rows = (Judged(str(i), str(i), {}, {"pair": str(i // 2)}, flag) for i, flag in enumerate(flags))
        return headline.strata(pairs, list(rows))

    (found,) = headline.pairs(strata(before), strata(after))
    assert (found.base, found.other) == ([1, 0], [1, 1]) and len(set(found.images)) == 2


def test_a_row_whose_scoring_breaks_is_set_aside_and_the_others_stand(outcomes: dict[Any, Outcome]) -> None:
    found = outcomes["one broken"]
    assert list(found.verdicts.values()) == [True] and found.headlines == {"accuracy": 1}
    ((key, reason),) = found.set_aside.items()
    assert key == "validation_Accounting_9" and "Error" in reason
    assert "Error" in (outcomes["all broken"].unavailable or "")


def test_a_guess_is_the_same_each_time_and_not_always_the_same_option(outcomes: dict[Any, Outcome]) -> None:
    assert outcomes["guesses"] == outcomes["guesses again"]
    assert set(outcomes["guesses"].verdicts.values()) == {True, False}


def test_hostile_answers_neither_run_nor_hang(tmp_path: Path) -> None:
    """MathVision's rule evaluates answers as Python."""
    trap = tmp_path / "trap"
    texts = [
        f"\\boxed{{\\mathrm{{__import__('os').system('touch {trap}')}}}}",
        f"\\boxed{{open('{trap}','w')}}",
        "\\boxed{9^{9^{9^{9}}}}",
        "\\boxed{" * 3000,
        "x" * 50_000,
    ]
    items = [asked("mathvision", 1, id=str(i)) for i in range(len(texts))]
    found = outcome(job("mathvision", *zip(items, texts, strict=True)))
    assert not trap.exists() and not any(found.verdicts.values())
    assert len(found.verdicts) + len(found.set_aside) == len(texts)


def test_scoring_imports_nothing_from_the_folder_that_the_user_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yaml", "loguru", "harness", "math_verify", "openai", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    found = outcome(job("mmvp", (asked("mmvp", 0), "(a)")))
    assert not (tmp_path / "trap").exists() and list(found.verdicts.values()) == [True]


def test_without_a_judge_the_package_that_asks_one_is_not_imported() -> None:
    program = (
        "import sys\nfrom harness.evals import official_worker\nofficial_worker.main()\n"
        "sys.exit('openai._client' in sys.modules)"
    )
    given = job("logicvista", (asked("logicvista"), "\\boxed{C}")).model_dump_json()
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and '"verdicts": {"v1_0": true}' in done.stdout, done


@given(
    st.recursive(
        st.integers(0, 99).map(str),
        lambda one: st.tuples(one, st.sampled_from("+-*"), one).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        max_leaves=6,
    )
)
def test_arithmetic_is_pythons(text: str) -> None:
    assert isolation.arithmetic(text) == eval(text)


@pytest.mark.parametrize(
    "text", ["x", "__import__('os')", "sqrt.__class__", "[1]", "'a'*9", "9**9**9", "inf()"]
)
def test_nothing_but_arithmetic_is_evaluated(text: str) -> None:
    assert isolation.arithmetic("sqrt(16)/2 + cos(pi)") == 1
    with pytest.raises((ValueError, SyntaxError, ArithmeticError, TypeError)):
        isolation.arithmetic(text)


def test_no_judge_no_network_and_a_local_one_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = (None, ("127.0.0.1", 80)), (None, ("192.0.2.1", 80))
    for named, refused in ((None, [here, there]), (Judge(url="", model=""), [there])):
        monkeypatch.setattr(isolation, "_JUDGE", [named] if named else [])
        for address in (here, there):
            if address in refused:
                with pytest.raises(PermissionError):
                    isolation.guard("socket.connect", address)
            else:
                isolation.guard("socket.connect", address)
    with pytest.raises(PermissionError):
        isolation.guard("os.system", ("true",))


def says(body: dict[str, Any]) -> str:
    """Each rule's judge: MathVista's extracts, MathVerse's says 0 or 1, HallusionBench's in words."""
    asked = str(body["messages"])
    if "Extracted answer" in asked:
        return "1.2" if "one point two" in asked else "9"
    if "intelligent teacher" in asked:
        return "correct" if "yes indeed" in asked else "incorrect"
    return "1" if "twelve" in asked else "0"


def test_rules_that_ask_a_judge_ask_the_one_that_is_named() -> None:
    with server(lambda number, body: completion(says(body))) as (url, bodies, _):
        named = Judge(url=url, model="mine")
        jobs = [
            job("mathvista", (asked("mathvista", 1), "It is one point two."), judge=named),
            job(
                "mathverse",
                (asked("mathverse", 1), "It is twelve."),
                (asked("mathverse", 0), "no"),
                judge=named,
            ),
            job(
                "hallusionbench",
                *((asked("hallusionbench", i), "yes indeed" if i else "no") for i in range(4)),
                judge=named,
            ),
        ]
        vista, verse, hallusion = official.run(jobs)
    assert vista.verdicts == {"2": True} and vista.headlines == {"accuracy": 100}
    assert verse.verdicts == {"2": True, "1": False} and verse.headlines == {"accuracy": 0.5}
    # 3 of 4 items; the second figure; the second question
    expected = {"aAcc": 75, "fAcc": 50, "qAcc": 50, "average of three accuracies": pytest.approx(175 / 3)}
    assert hallusion.headlines == expected and not hallusion.verdicts
    assert {body["model"] for body in bodies} == {"mine"} and len(bodies) == 1 + 2 + 4


def test_a_judge_is_asked_again_only_where_that_may_help_and_repeats_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And scores nothing then: lmms-eval itself would call the answer wrong."""
    monkeypatch.setenv("VZERO_EXTRACTOR_TOKEN", "very-secret")
    for status, attempts in ((503, 3), (404, 1)):
        with (
            server(lambda number, body, status=status: (status, b"not for very-secret")) as (url, bodies, _),
            pytest.raises(VZeroError, match=f"judge failed.* {status}") as failed,
        ):
            outcome(
                job("mathverse", (asked("mathverse", 1), "It is twelve."), judge=Judge(url=url, model="m"))
            )
        assert len(bodies) == attempts and "secret" not in str(failed.value)


def test_an_evaluation_keeps_the_outcome_until_its_answers_change(tmp_path: Path) -> None:
    rows = [asked("logicvista", i) for i in range(2)]
    place = run_folder(tmp_path, [one.item for one in rows], [answer("\\boxed{C}"), answer("\\boxed{A}")])
    assert build.write(place).suites["logicvista"].headlines["accuracy"].official is None, "no rows, no rule"
    folder.write_items(place, "logicvista", rows)
    first = build.write(place).suites["logicvista"]
    assert first.headlines["accuracy"].official == 1 and first.greedy and first.greedy.verified == 0.5
    stored = place / "official" / "logicvista.json"
    kept = stored.stat().st_mtime_ns
    assert build.write(place).suites["logicvista"] == first and stored.stat().st_mtime_ns == kept
    lines = artefacts.read_jsonl(place / "items.scored.jsonl")
    assert [(line["official"], line["verified"]) for line in lines] == [(True, True), (True, False)]
    folder.responses(place, "logicvista").unlink()
    run_folder(place, [one.item for one in rows], [answer("x"), answer("\\boxed{A}")])
    folder.write_items(place, "logicvista", rows)
    assert build.write(place).suites["logicvista"].headlines["accuracy"].official == 0.5


def test_a_file_of_answers_gets_official_verdicts_as_well() -> None:
    row = suite_rows.SPLITS["mmstar", None][1][0]
    question = fields.read(catalogue.find("mmstar"), row, 0)
    text = "The answer is C, and not B."
    scored = ScoredFile("mmstar", (judge(question.item, read(question.item, text)),), ())
    given = {question.item.id: Answer(question.item.id, text)}
    found, outcome = official.added(scored, catalogue.find("mmstar"), [question], given)
    assert (found.judged[0].official, found.judged[0].verified) == (True, False)
    assert outcome.unavailable is None and not outcome.set_aside


def test_what_failed_by_chance_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scoring process that died says nothing about the answers."""
    rows = [asked("logicvista", i) for i in range(2)]
    place = run_folder(tmp_path, [one.item for one in rows], [answer("\\boxed{C}"), answer("\\boxed{A}")])
    folder.write_items(place, "logicvista", rows)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        missing = build.write(place).suites["logicvista"].headlines["accuracy"].official_missing
    assert missing == "lmms-eval's scoring ended with exit code 1"
    assert build.write(place).suites["logicvista"].headlines["accuracy"].official == 1


DATA = Path(os.environ.get("VZERO_DATA", ""))
needs_data = pytest.mark.skipif(
    not os.environ.get("VZERO_DATA"), reason="VZERO_DATA names no folder with the real benchmark data"
)


def published(suite: str, model: str, every: int) -> tuple[Iterator[dict[str, Any]], Path]:
    rows = artefacts.read_jsonl(DATA / suite / "published" / f"{model}.jsonl")
    return itertools.islice(rows, 0, None, every), DATA / suite


@needs_data
def test_mathvisions_published_verdicts_are_the_official_ones() -> None:
    rows, place = published("mathvision", "Qwen-VL-Max", 10)
    docs = {row["id"]: row for row in artefacts.read_jsonl(place / "test.jsonl")}
    theirs = {row["id"]: (row["response"], row["correct"]) for row in rows}
    suite = catalogue.find("mathvision")
    answered = tuple(AnsweredRow(id=key, row=docs[key], answer=text) for key, (text, _) in theirs.items())
    found = outcome(
        Job(
            file=suite.parts[0].file,
            item=suite.verdict,
            headlines={"accuracy": suite.headlines[0].metrics},
            strata={},
            rows=answered,
        )
    )
    same = sum(found.verdicts[key] == right for key, (_, right) in theirs.items())
    share = 100 * sum(right for _, right in theirs.values()) / len(theirs)
    print(f"official {found.headlines['accuracy']:.2f} %, published {share:.2f} % (n = {len(theirs)})")
    assert same / len(theirs) >= 0.99 and abs(found.headlines["accuracy"] - share) < 0.5
