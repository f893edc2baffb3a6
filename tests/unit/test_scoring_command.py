"""`vzero-harness score` as its user meets it: results, incomplete files, every kind of wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.evals.layouts import items as load
from harness.evals.options import written_out
from harness.scoring.files import read_answers
from harness.scoring.score import as_json, score
from vzero.errors import InputError


def logic(name: str, question: str, answer: str, skill: str = "spatial") -> dict[str, Any]:
    return {
        "question": question,
        "answer": answer,
        "skill": [skill],
        "imagename": f"{name}.png",
        "broad_capability": ["diagram"],
    }


def problem(
    pid: str, choices: list[str] | None, answer: str, kind: str, precision: int | None = None
) -> dict[str, Any]:
    meta = {
        "skills": ["arithmetic reasoning"],
        "task": "math word problem",
        "category": "math-targeted-vqa",
        "context": "table",
    }
    shared = {
        "question": "How much?",
        "image": f"images/{pid}.jpg",
        "unit": None,
        "pid": pid,
        "metadata": meta,
    }
    form = "multi_choice" if choices else "free_form"
    return {
        **shared,
        "choices": choices,
        "precision": precision,
        "answer": answer,
        "question_type": form,
        "answer_type": kind,
    }


ROWS = {
    "v1_0": logic("v1_0", "Which one? Select from A-D", "C", "inductive"),
    "v1_1": logic("v1_1", "Which belong to it?", "A, C"),
    "v1_2": logic("v1_2", "", ""),
    "v1_3": logic("v1_3", "Select from 1-5", "3"),
}
PROBLEMS = {"1": problem("1", None, "1.2", "float", 1), "2": problem("2", ["yes", "no"], "no", "text")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(ROWS))
    (folder / "testmini.json").write_text(json.dumps(PROBLEMS))
    return folder


def answers(path: Path, rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.app(list(words), prog_name="vzero-harness")
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


RESPONSES = {"v1_0": "The answer is (C).", "v1_1": "C and A", "v1_2": "A", "v1_3": "two"}
LOGIC = [{"id": name, "response": response} for name, response in RESPONSES.items()]


@pytest.mark.slow
def test_json_holds_what_is_promised(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    path = answers(tmp_path / "r.jsonl", LOGIC)
    code, out, err = run(capsys, "score", str(path), "--suite", "logicvista", "--data", str(data), "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert list(found)[:6] == ["suite", "n", "official", "verified", "parsed", "items"]
    assert (found["suite"], found["n"], found["official"], found["verified"], found["parsed"]) == (
        "logicvista",
        3,
        0.0,
        2 / 3,
        2 / 3,
    )
    assert [
        {key: item[key] for key in ("id", "extracted", "official", "verified")} for item in found["items"]
    ] == [
        {"id": "v1_0", "extracted": ["C"], "official": False, "verified": True},  # reads tags and boxes alone
        {"id": "v1_1", "extracted": ["A", "C"], "official": False, "verified": True},
        {"id": "v1_2", "extracted": ["A"], "official": None, "verified": False},
        {"id": "v1_3", "extracted": [], "official": False, "verified": False},
    ]
    assert (found["complete"], found["expected"], found["without_gold"]) == (True, 4, ["v1_2"])
    assert found["verified_all"] == pytest.approx(2 / 4)
    assert found["groups"]["skill"]["spatial"]["n"] == 2


def test_free_answers_are_one_value_and_ids_may_be_numbers(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    path = answers(
        tmp_path / "r.jsonl",
        [{"id": 1, "response": "It is 1.23 m."}, {"id": 2, "response": "no idea", "model": "x"}],
    )
    code, out, _ = run(capsys, "score", str(path), "--suite", "mathvista", "--data", str(data), "--json")
    items = {item["id"]: item for item in json.loads(out)["items"]}
    assert (
        code == 0
        and items["1"]["extracted"] == ["1.23"]
        and items["1"]["official"] is None  # asks a judge
        and items["1"]["verified"]
    )


@pytest.mark.slow
def test_a_part_is_scored_as_a_part(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    path = answers(tmp_path / "r.jsonl", LOGIC[:1])
    code, out, _ = run(capsys, "score", str(path), "--suite", "logicvista", "--data", str(data))
    assert code == 0 and "incomplete: 1 of 4 answered" in out and "100.0" in out
    code, out, err = run(capsys, "score", str(path), "--suite", "logicvista", "--data", str(data), "--json")
    found = json.loads(out)
    assert "incomplete: 1 of 4 answered" in err
    assert (found["n"], found["official"], found["complete"], found["unanswered"]) == (
        1,
        0.0,
        False,
        ["v1_1", "v1_2", "v1_3"],
    )


@pytest.mark.slow
def test_the_table_shows_both_counts_of_rows(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    path = answers(tmp_path / "r.jsonl", LOGIC)
    _, out, _ = run(capsys, "score", str(path), "--suite", "logicvista", "--data", str(data))
    assert "inductive" in out and "3 of the 4 answered rows have a gold answer" in out and "50.0 %" in out


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no line"),
        (["", " "], "holds no line"),
        (["{not json"], "Line 1 of"),
        (["[1, 2]"], 'has no "id" that is a text or a number'),
        (["null"], 'has no "id" that is a text or a number'),
        (["[" * 100_000], "is not JSON"),
        ([{"response": "A"}], 'has no "id" that is a text or a number'),
        ([{"id": None, "response": "A"}], 'has no "id" that is a text or a number'),
        ([{"id": True, "response": "A"}], 'has no "id" that is a text or a number'),
        ([{"id": "v1_0"}], 'has no "response" text'),
        ([{"id": "v1_0", "response": None}], 'has no "response" text'),
        ([{"id": "v1_0", "response": 3}], 'has no "response" text'),
        ([{"id": "v9_9", "response": "A"}], "which the items do not have"),
        ([{"id": "\x1b[31m", "response": "A"}], "which the items do not have"),
        ([LOGIC[0], LOGIC[0]], "again"),
        ([LOGIC[0], '{"id": "v1_1", "resp'], "Line 2 of"),
    ],
)
def test_wrong_responses_are_refused(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, rows: list[Any], sentence: str
) -> None:
    path = answers(tmp_path / "r.jsonl", rows)
    code, out, err = run(capsys, "score", str(path), "--suite", "logicvista", "--data", str(data), "--json")
    assert code == 2 and out == ""
    [line] = err.splitlines()
    found = json.loads(line)["error"]
    assert sentence in found and "\x1b" not in line


SCORED = ["R", "--suite", "logicvista", "--data", "DATA"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.jsonl", "--suite", "logicvista", "--data", "DATA"], "Cannot read nowhere.jsonl"),
        (
            ["R", "--suite", "mathvisat", "--data", "DATA"],
            "There is no suite 'mathvisat'; choose one of",
        ),
        (["R", "--suite", "logicvista", "--data", "nowhere"], "There is no logicvista in nowhere"),
        (["R", "--suite", "logicvista", "--data", ""], "is empty"),
        (["R", "--suite", "logicvista"], "--suite NAME with --data DIR"),
        ([*SCORED, "--extractor-url", "http://127.0.0.1:1/v1"], "go together"),
        ([*SCORED, "--extractor-url", "ftp://x", "--extractor-model", "m"], "no http address"),
        ([*SCORED, "--extractor-url", "http://10.0.0.1/v1", "--extractor-model", "m"], "not this machine"),
        ([*SCORED, "--extractor-url", "http://a:b@127.0.0.1/v1", "--extractor-model", "m"], "password"),
        ([*SCORED, "--extractor-url", "http://[/v1", "--extractor-model", "m"], "no http address"),
    ],
)
def test_wrong_use_is_refused(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    path = answers(tmp_path / "r.jsonl", LOGIC)
    given = [str(path) if word == "R" else str(data) if word == "DATA" else word for word in words]
    code, out, err = run(capsys, "score", *given)
    assert code == 2 and out == ""
    assert sentence in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no JSON that holds rows"),
        ("[]", "No row of logicvista"),
        ("{}", "no JSON that holds rows"),
        ('{"a": 1}', "a because it is no JSON object"),
        ('{"v1_0": {"question": "?"}}', "has no field 'answer'"),
        ('{"v1_0": {"question": "?", "answer": 3.5, "skill": [], "imagename": "x"}}', "'3.5' is none of"),
        ('{"v1_0": {"question": null, "answer": "A", "skill": [], "imagename": "x"}}', "question is missing"),
    ],
)
def test_wrong_data_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=sentence.replace("'", ".")):
        load("logicvista", tmp_path)


def test_not_utf8_is_refused(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"id": "v1_0", "response": "\xff"}\n')
    with pytest.raises(InputError, match="not UTF-8"):
        read_answers(path, load("logicvista", data))


def test_hostile_responses_are_scored_and_can_be_written(data: Path, tmp_path: Path) -> None:
    hostile = ["\ud800 \x00 <think>" * 300, "x" * 20_000, "<b>" * 5_000 + "{" * 1_000, "\\boxed{" * 2_000]
    rows = [{"id": one["id"], "response": text} for one, text in zip(LOGIC, hostile, strict=True)]
    items = load("logicvista", data)
    found = score("logicvista", items, read_answers(answers(tmp_path / "r.jsonl", rows), items))
    assert json.loads(json.dumps(as_json(found)))["verified"] == 0.0


@pytest.mark.parametrize(
    ("question", "options"),
    [
        (
            "Which? (A) True (B)False (C)Insufficient Information",
            ("True", "False", "Insufficient Information"),
        ),
        ("Which? \n A) 10 B) 12 C) 14", ("10", "12", "14")),
        ("Select from (A), (B). (A) Use a spanner, (B) Use a saw, ", ("Use a spanner", "Use a saw")),
        ("Which figure?", ()),
        ("Is (A) right?", ()),
    ],
)
def test_options_written_into_a_question(question: str, options: tuple[str, ...]) -> None:
    assert written_out(question) == options


@pytest.mark.slow
def test_scoring_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    program = (
        "import sys; import harness.scoring.score, harness.scoring.endpoint\n"
        "heavy = ('torch', 'transformers', 'lmms_eval', 'numpy', 'pandas', 'PIL', 'httpx', 'rich'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stderr


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_items_of_ones_own_may_be_written_in_several_ways(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    items = lines(
        tmp_path / "items.jsonl",
        {"id": 1, "kind": "choice", "options": {"a": "pear", "b": "plum"}, "answer": "plum"},
        {"id": 2, "kind": "multi", "options": [10, 20, 30], "answer": "AC"},
        {"id": 3, "kind": "choice", "options": [f"tree {n}" for n in range(12)], "answer": "K"},
        {"id": 4, "kind": "integer", "answer": "none"},
        {"id": 5, "kind": "choice", "options": ["x", "y"], "answer": "Z"},
    )
    said = ("The answer is (b).", "\\boxed{A, C}", "The answer is (K).", "7", "A")
    given = lines(tmp_path / "a.jsonl", *({"id": n, "response": one} for n, one in enumerate(said, 1)))
    code, out, err = run(capsys, "score", str(given), "--items", str(items), "--json")
    found = json.loads(out)
    assert code == 0 and found["n"] == 3 and found["verified"] == 1
    assert found["without_gold"] == ["4", "5"] and "not scored: 4, 5" in err


def test_nothing_to_score_by_is_wrong_input_but_readings_are_a_result(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    items = lines(tmp_path / "items.jsonl", {"id": 1, "kind": "integer"})
    given = lines(tmp_path / "a.jsonl", {"id": 1, "response": "\\boxed{3}"})
    code, out, err = run(capsys, "score", str(given), "--items", str(items))
    assert code == 2 and out == "" and "gold answer" in err
    code, out, err = run(capsys, "score", str(given), "--items", str(items), "--json")
    assert code == 0 and json.loads(out)["items"][0]["extracted"] == ["3"] and "gold answer" in err


def test_labels_are_one_letter_or_digit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    items = lines(
        tmp_path / "items.jsonl", {"id": 1, "kind": "choice", "labels": ["yes", "no"], "answer": "no"}
    )
    code, _, err = run(capsys, "score", str(items), "--items", str(items))
    assert code == 2 and "one letter or digit" in err and "Value error" not in err


def own(tmp_path: Path, capsys: pytest.CaptureFixture[str], *rows: tuple[dict[str, Any], str]) -> list[Any]:
    """(verified, scored) of each pair of an item of one's own and a response."""
    items = lines(tmp_path / "own.jsonl", *({"id": i, **item} for i, (item, _) in enumerate(rows)))
    said = lines(tmp_path / "said.jsonl", *({"id": i, "response": one} for i, (_, one) in enumerate(rows)))
    _, out, _ = run(capsys, "score", str(said), "--items", str(items), "--json")
    return [(one["verified"], one["scored"]) for one in json.loads(out)["items"]]


def test_the_tenth_option_is_read_as_the_third(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"plant {name}" for name in "abcdefghij"]
    said = ("Option {} is correct.", "The answer is {} because of its leaves.", "({}) is the right one.")
    rows = [
        ({"kind": "choice", "options": options, "answer": label}, text.format(label))
        for label in "CJ"
        for text in said
    ]
    assert own(tmp_path, capsys, *rows) == [(True, True)] * 6


def test_golds_that_no_answer_could_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = own(
        tmp_path,
        capsys,
        ({"kind": "list", "answer": [5]}, "The answer is [5]."),
        ({"kind": "list", "answer": ["x", "y"]}, "[x, y]"),
        ({"kind": "text", "answer": True}, "True"),
        ({"kind": "text", "answer": True}, "1"),
    )
    assert found == [(True, True), (False, False), (True, True), (False, True)]
