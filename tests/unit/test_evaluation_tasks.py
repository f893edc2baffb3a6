"""Suites, their task files and data, the functions lmms-eval calls, and the check of its numbers against
ours."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from harness.evals import pocket_hooks, pocket_suites, pocket_tasks, runner, stage
from vzero.config import EvaluationConfig, SamplingConfig
from vzero.errors import InputError, VZeroError


@dataclass(frozen=True)
class Item:
    item_id: str
    family: str
    image: Image.Image
    question: str
    gold: str


def item(number: int, gold: str = "A") -> Item:
    return Item(
        f"i{number}",
        "count",
        Image.new("RGB", (8, 6), (number, 20, 30)),
        f"how many {number} ? A) 1 B) 2 C) 3 D) 4",
        gold,
    )


def test_the_pocket_suites_load_balanced_and_the_same_each_time():
    for name in pocket_suites.SUITES:
        one, two = pocket_suites.load(name, "test", 2), pocket_suites.load(name, "test", 2)
        families = [entry.family for entry in one]
        assert {families.count(family) for family in families} == {2}
        assert [(a.item_id, a.question, a.gold, a.image.tobytes()) for a in one] == [
            (b.item_id, b.question, b.gold, b.image.tobytes()) for b in two
        ]
        assert {entry.item_id for entry in one}.isdisjoint(
            entry.item_id for entry in pocket_suites.load(name, "dev", 2)
        )


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([], "no items"),
        ([item(1), item(1)], "'i1'"),
        ([item(1, gold="E")], "gold answer 'E'"),
        ([item(1, gold="")], "gold answer ''"),
    ],
)
def test_a_faulty_suite_is_refused(found, sentence):
    with pytest.raises(InputError, match=sentence):
        pocket_suites.load("mine", "test", 2, {"mine": lambda split, per_family: found})


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(InputError, match="pocket_logic, pocket_math, pocket_vision"):
        pocket_suites.load("mathvista", "test", 2)


def test_a_dataset_keeps_pixels_and_fields(tmp_path):
    import datasets

    for _ in range(2):  # a killed attempt left one behind
        pocket_tasks.write_dataset([item(1), item(2, "D")], tmp_path / "data")
    ((split, rows),) = datasets.load_from_disk(str(tmp_path / "data")).items()
    assert split == "test" and len(rows) == 2
    assert rows[1]["image"].convert("RGB").tobytes() == item(2).image.tobytes()
    assert {key: value for key, value in rows[1].items() if key != "image"} == {
        "question": item(2).question,
        "gold": "D",
        "family": "count",
        "item_id": "i2",
    }


def test_a_sampled_task_hands_all_its_answers_to_the_scorer(tmp_path):
    given = {"temperature": 0.5, "top_p": 0.00001, "top_k": 3, "repetition_penalty": 1.1, "max_new_tokens": 9}
    sampling = SamplingConfig(n=7, **given)
    name = pocket_tasks.write_task("mine", "sampled", sampling, "natural", tmp_path / "data", tmp_path)
    written = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
    assert written["task"] == name == "vzero_mine_sampled"
    assert written["generation_kwargs"] == given
    assert written["repeats"] == 7
    assert written["filter_list"] == [{"name": "all", "filter": [{"function": "take_first_k", "k": 7}]}]
    assert written["lmms_eval_specific_kwargs"] == {"prompt_format": "natural"}


def test_a_greedy_task_asks_once(tmp_path):
    name = pocket_tasks.write_task(
        "mine",
        "greedy",
        SamplingConfig(temperature=0.0, max_new_tokens=9),
        "pocket",
        tmp_path / "data",
        tmp_path,
    )
    written = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
    assert "repeats" not in written and "filter_list" not in written
    assert written["generation_kwargs"]["temperature"] == 0.0


def test_the_image_comes_before_the_question():
    one = item(3)
    doc = {"image": one.image, "question": one.question, "gold": "A"}
    system, user = pocket_hooks.doc_to_messages(doc, {"prompt_format": "pocket"})
    assert system == {"role": "system", "content": [{"type": "text", "text": "solve"}]}
    assert [part["type"] for part in user["content"]] == ["image", "text"]
    assert user["content"][1]["text"] == one.question
    assert user["content"][0]["url"].tobytes() == one.image.tobytes()


def test_scores_of_answers_by_hand():
    doc = {"gold": "B"}
    assert pocket_hooks.score_greedy(doc, ["<think> \\boxed{ A } </think> \\boxed{ B }"]) == {
        "greedy": 1.0,
        "parsed": 1.0,
    }
    assert pocket_hooks.score_greedy(doc, ["the answer is B"]) == {"greedy": 0.0, "parsed": 0.0}
    texts = [r"\boxed{B}", r"\boxed{C}", "B", r"\boxed{B}", r"\boxed{E}"]
    assert pocket_hooks.score_sampled(doc, texts) == {
        "sampled": 0.4,
        "majority": 1.0,
        "any_correct": 1.0,
        "parsed": 0.6,
    }
    assert pocket_hooks.score_sampled(doc, ["", "B"]) == {
        "sampled": 0.0,
        "majority": 0.0,
        "any_correct": 0.0,
        "parsed": 0.0,
    }


def rows() -> list[dict]:
    def answer(letter):
        return {"text": "", "answer": letter, "finish_reason": "stop", "tokens": 1}

    return [
        {
            "suite": "mine",
            "item_id": str(i),
            "family": "f",
            "gold": "A",
            "greedy": answer(greedy),
            "sampled": [answer(letter) for letter in sampled],
        }
        for i, (greedy, sampled) in enumerate([("A", "AB"), ("B", "BB"), (None, "AA")])
    ]


def results() -> dict:
    """What lmms-eval would return for `rows`, with the things that change from run to run."""
    return {
        "results": {
            "vzero_mine_greedy": {
                "alias": "x",
                "greedy,none": 1 / 3,
                "parsed,none": 2 / 3,
                "greedy_stderr,none": "N/A",
            },
            "vzero_mine_sampled": {
                "sampled,all": 0.5,
                "majority,all": 2 / 3,
                "any_correct,all": 2 / 3,
                "parsed,all": 1.0,
            },
        },
        "n-samples": {
            f"vzero_mine_{purpose}": {"original": 3, "effective": 3} for purpose in pocket_tasks.PURPOSES
        },
        "higher_is_better": {"vzero_mine_greedy": {"greedy": True}},
        "versions": {"vzero_mine_greedy": 1},
        "date": "20990101",
        "git_hash": "abc",
        "config": {"model": SimpleNamespace()},
        "configs": {
            "vzero_mine_greedy": {"dataset_path": "/somewhere/data", "process_results": "<function at 0x7f>"}
        },
    }


def test_the_report_keeps_numbers_and_nothing_of_the_moment():
    text = str(runner.report(results()))
    assert "0.333" in text
    assert not any(word in text for word in ("2099", "abc", "/somewhere", "0x7f", "N/A", "alias"))


def test_numbers_that_agree_pass():
    runner.cross_check(runner.report(results()), rows())


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("vzero_mine_greedy", "greedy,none"),
        ("vzero_mine_greedy", "parsed,none"),
        ("vzero_mine_sampled", "sampled,all"),
        ("vzero_mine_sampled", "majority,all"),
        ("vzero_mine_sampled", "any_correct,all"),
        ("vzero_mine_sampled", "parsed,all"),
    ],
)
@pytest.mark.parametrize("change", [1e-8, float("nan"), None])
def test_any_number_that_differs_fails_loudly(task, metric, change):
    changed = results()
    if change is None:
        del changed["results"][task][metric]
    else:
        changed["results"][task][metric] += change
    with pytest.raises(VZeroError, match="not to be trusted"):
        runner.cross_check(runner.report(changed), rows())


def test_a_partial_suite_fails():
    changed = results()
    changed["n-samples"]["vzero_mine_sampled"]["effective"] = 2
    with pytest.raises(VZeroError, match="2 sampled items"):
        runner.cross_check(runner.report(changed), rows())


def test_an_item_without_all_its_answers_fails():
    records = {("mine", "i1"): {"suite": "mine", "greedy": {}}}
    with pytest.raises(VZeroError, match="sampled answer to i1 of mine"):
        stage._rows({"mine": [item(1)]}, records)


def test_a_launch_on_several_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        runner.prepare(tmp_path)


GREEDY, SAMPLED = {"temperature": 0.0, "max_new_tokens": 9}, {"n": 2, "max_new_tokens": 9}


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
    stage._check(EvaluationConfig(items_per_family=1, greedy=GREEDY, sampled=SAMPLED))
    with pytest.raises(InputError, match=r"^evaluation\."):
        stage._check(
            EvaluationConfig(**{"items_per_family": 1, "greedy": GREEDY, "sampled": SAMPLED, **change})
        )
