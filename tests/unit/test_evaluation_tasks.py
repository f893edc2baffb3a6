"""Drawn suites, task files, the functions lmms-eval calls, and the check of its numbers against ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from harness.evals import catalogue, fields, folder, hooks, rows, run, runner, tasks
from harness.evals.folder import AskedItem
from harness.evals.pictures import DEFAULT
from harness.evals.results import LmmsEval
from harness.evals.store import Response, Store
from vzero.config import EvaluationConfig, SamplingConfig
from vzero.errors import InputError, VZeroError
from vzero.pocket.suites import items

MATH = catalogue.find("pocket_math")


def row(number: int, gold: str = "A") -> dict:
    """As a drawn suite's rows are stored."""
    question = f"how many {number} ? A) 1 B) 2 C) 3 D) 4"
    return {"item_id": f"i{number}", "family": "count", "question": question, "gold": gold}


def table(folder: Path, name: str = "pocket_math", split: str = "test", per_family: int = 2) -> rows.OpenPart:
    (found,) = rows.open_parts(catalogue.find(name).sized(per_family, split), folder / "none", folder)
    return found


@pytest.mark.slow
def test_the_pocket_suites_load_balanced_and_the_same_each_time(tmp_path):
    for name in catalogue.members("pocket"):
        one, dev = table(tmp_path, name), table(tmp_path / "dev", name, "dev")
        again = table(tmp_path, name)  # a killed attempt left one behind
        families = [dict(question.item.group)["family"] for question in one.questions]
        assert {families.count(family) for family in families} == {2}
        assert (one.questions, one.digests) == (again.questions, again.digests)
        ids = {question.item.id for question in one.questions}
        assert ids.isdisjoint(question.item.id for question in dev.questions)
        assert len(one.questions) == one.suite.rows == one.suite.scored


def test_a_drawn_suite_keeps_pixels_and_fields(tmp_path):
    stored, drawn = table(tmp_path), items("pocket_math", "test", 2)
    for index, (question, one) in enumerate(zip(stored.questions, drawn, strict=True)):
        assert stored.pictures(index)["image"].tobytes() == one.image.tobytes()
        item = question.item
        assert (item.id, question.text, item.gold) == (one.item_id, one.question, (one.gold,))
        assert item.group == (("family", one.family),)
    dealt = replace(stored, dealt=True)
    shown = [dealt.pictures(index)["image"].tobytes() for index in range(len(drawn))]
    own = [one.image.tobytes() for one in drawn]
    assert sorted(shown) == sorted(own) and all(a != b for a, b in zip(shown, own, strict=True))


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [(row(1, gold="E"), "'E' is none of A, B, C, D"), (row(1, gold=""), "no gold answer"), ({}, "no field")],
)
def test_a_faulty_row_is_refused(faulty, sentence):
    with pytest.raises(InputError, match=sentence):
        fields.read(MATH, faulty, 0)


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(InputError, match="pocket_logic, pocket_math, pocket_vision"):
        catalogue.find("pocket_maths")


def written(task: tasks.Task, folder: Path) -> dict:
    text = (folder / f"{task.name}.yaml").read_text().replace("!function ", "")
    return yaml.safe_load(text)


def test_a_sampled_task_hands_all_its_answers_to_the_scorer(tmp_path):
    given = {"temperature": 0.5, "top_p": 0.00001, "top_k": 3, "repetition_penalty": 1.1, "max_new_tokens": 9}
    sampling = SamplingConfig(n=7, **given)
    task = tasks.write_boxed(table(tmp_path), "sampled", sampling, "natural", tmp_path)
    found = written(task, tmp_path)
    assert found["task"] == task.name == "vzero_boxed_pocket_math_sampled"
    assert found["generation_kwargs"] == given
    assert found["repeats"] == 7
    assert found["filter_list"] == [{"name": "all", "filter": [{"function": "take_first_k", "k": 7}]}]
    assert found["lmms_eval_specific_kwargs"] == {"suite": "pocket_math", "prompt_format": "natural"}


def test_a_greedy_task_asks_once(tmp_path):
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=9)
    found = written(tasks.write_boxed(table(tmp_path), "greedy", sampling, "pocket", tmp_path), tmp_path)
    assert "repeats" not in found and "filter_list" not in found
    assert found["generation_kwargs"]["temperature"] == 0.0


def test_the_image_comes_before_the_question():
    image = Image.new("RGB", (8, 6), (3, 20, 30))
    about = {"suite": "pocket_math", "prompt_format": "pocket"}
    system, user = hooks.doc_to_messages({**row(3), "image": image}, about)
    assert system == {"role": "system", "content": [{"type": "text", "text": "solve"}]}
    assert [part["type"] for part in user["content"]] == ["image", "text"]
    assert user["content"][1]["text"] == row(3)["question"]
    assert user["content"][0]["url"].tobytes() == image.tobytes()


def test_scores_of_answers_by_hand():
    def scores(*texts: str) -> dict[str, float]:
        found = hooks.process_pocket_math(row(1, "B"), list(texts))
        return {name: found[name] for name in ("verified", "majority", "any_correct", "parsed")}

    right, none = dict.fromkeys(("verified", "majority", "any_correct", "parsed"), 1.0), {}
    none = dict.fromkeys(right, 0.0)
    assert scores("<think> \\boxed{ A } </think> \\boxed{ B }") == right
    assert scores("the answer is B") == none  # only a box counts, as in training
    found = scores(r"\boxed{B}", r"\boxed{C}", "B", r"\boxed{B}", r"\boxed{E}")
    assert found == {"verified": 0.4, "majority": 1.0, "any_correct": 1.0, "parsed": 0.6}
    assert scores("", "B") == none


ANSWERS = [("A", "AB"), ("B", "BB"), ("", "AA")]  # greedy and sampled letters of three items, all with gold A
TASKS = [
    SimpleNamespace(
        name=f"mine_{purpose}",
        purpose=purpose,
        opened=SimpleNamespace(suite=MATH, part=SimpleNamespace(config=None)),
    )
    for purpose in ("greedy", "sampled")
]


@pytest.fixture
def stored(tmp_path) -> Path:
    """An evaluation's folder with the answers above."""
    questions = [fields.read(MATH, row(number), number) for number in range(3)]
    folder.write_items(
        tmp_path, MATH.name, [AskedItem(item=one.item, together={}, part=None) for one in questions]
    )
    for number, letters in enumerate(ANSWERS):
        for purpose, given in zip(("greedy", "sampled"), letters, strict=True):
            texts = [f"\\boxed{{{letter}}}" for letter in given] or [""]
            put(tmp_path, f"i{number}", purpose, texts)
    return tmp_path


def put(place: Path, item: str, purpose: str, texts: list[str]) -> None:
    answers = [{"text": text, "finish_reason": "stop", "tokens": 1} for text in texts]
    hashes = {"image_sha256": item, "prompt_sha256": item}
    response = Response(
        key=item + purpose, suite=MATH.name, id=item, purpose=purpose, **hashes, answers=answers
    )
    Store(folder.responses(place, MATH.name)).put([response])


def said() -> dict:
    """What lmms-eval would return for them, with the things that change from run to run."""
    greedy = {"verified": 1 / 3, "parsed": 2 / 3, "majority": 1 / 3, "any_correct": 1 / 3}
    sampled = {"verified": 0.5, "parsed": 1.0, "majority": 2 / 3, "any_correct": 2 / 3}
    return {
        "results": {
            "mine_greedy": {
                "alias": "x",
                "verified_stderr,none": "N/A",
                **{f"{key},none": value for key, value in greedy.items()},
            },
            "mine_sampled": {f"{key},all": value for key, value in sampled.items()},
        },
        "n-samples": {task.name: {"original": 3, "effective": 3} for task in TASKS},
        "date": "20990101",
        "git_hash": "abc",
        "config": {"model": SimpleNamespace()},
        "configs": {
            "mine_greedy": {"dataset_path": "/somewhere/data", "process_results": "<function at 0x7f>"}
        },
    }


def recorded(found: dict) -> LmmsEval:
    sampling = SamplingConfig(temperature=0, max_new_tokens=4)
    sent = dict.fromkeys((task.name for task in TASKS), sampling)
    model = SimpleNamespace(
        sent=sent, not_sent={task.name: {"until": ["\n\n"]} for task in TASKS}, limits=DEFAULT
    )
    return runner.record(found, TASKS, model)


def test_the_record_keeps_numbers_and_nothing_of_the_moment():
    text = recorded(said()).model_dump_json()
    assert "0.333" in text
    assert not any(word in text for word in ("2099", "abc", "/somewhere", "0x7f", "N/A", "alias"))


def test_numbers_that_agree_pass(stored):
    runner.cross_check(stored, TASKS, recorded(said()))


@pytest.mark.parametrize("task", ["mine_greedy", "mine_sampled"])
@pytest.mark.parametrize("metric", ["verified", "parsed", "majority", "any_correct"])
@pytest.mark.parametrize("change", [1e-8, float("nan"), None])
def test_any_number_that_differs_fails_loudly(stored, task, metric, change):
    changed = said()
    name = f"{metric},{'none' if task == 'mine_greedy' else 'all'}"
    if change is None:
        del changed["results"][task][name]
    else:
        changed["results"][task][name] += change
    with pytest.raises(VZeroError, match="not to be trusted"):
        runner.cross_check(stored, TASKS, recorded(changed))


def test_a_partial_suite_fails(stored):
    changed = said()
    changed["n-samples"]["mine_sampled"]["effective"] = 2
    with pytest.raises(VZeroError, match="2 items of mine_sampled"):
        runner.cross_check(stored, TASKS, recorded(changed))


def test_an_item_without_all_its_answers_fails(stored):
    path = folder.responses(stored, MATH.name)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(VZeroError, match="sampled answer to i2 of pocket_math"):
        runner.cross_check(stored, TASKS, recorded(said()))


def test_a_launch_on_several_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        runner.prepare()


GREEDY, SAMPLED = {"temperature": 0.0, "max_new_tokens": 9}, {"n": 2, "max_new_tokens": 9}


def checked(**change: object) -> None:
    config = EvaluationConfig(**{"items_per_family": 1, "greedy": GREEDY, "sampled": SAMPLED, **change})
    suites = catalogue.asked(config)
    settings = SimpleNamespace(greedy=config.greedy, sampled=config.sampled, profile="boxed")
    run.check(settings, suites)


@pytest.mark.parametrize(
    "change",
    [
        {"greedy": {**GREEDY, "n": 2}},
        {"greedy": {**GREEDY, "temperature": 0.1}},
        {"sampled": {**SAMPLED, "temperature": 0.0}},
        {"suites": ("pocket_math", "pocket_math")},
        {"suites": ()},
    ],
)
def test_settings_that_would_mean_something_else_are_refused(change):
    checked()
    with pytest.raises(InputError, match=r"^evaluation\."):
        checked(**change)
