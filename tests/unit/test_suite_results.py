"""Stored responses, their keys, and what is made of them; near-duplicate pictures; published bands. No model,
no lmms-eval."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from harness.evals import catalogue, compare, contamination, extra, published, results, table
from harness.evals.prompt_formats import prompt_format_of
from harness.evals.store import Responses, key_of
from harness.scoring.items import Item
from tests.tiny_model import picture
from vzero.config import SamplingConfig
from vzero.errors import InputError, VZeroError
from vzero.rollout.protocol import Message, Request
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET

GREEDY = SamplingConfig(temperature=0, max_new_tokens=8)
SETTINGS = {
    "model": "Qwen2.5-VL-3B-Instruct",
    "suites": ["logicvista"],
    "profile": "boxed",
    "prompt_format": "natural",
    "limit": None,
    "sampled": None,
    "greedy": GREEDY.model_dump(),
    "pixels": {"least": 1, "most": 9},
    "engine": {"name": "transformers"},
    "checkpoint_sha256": "0" * 64,
    "seed": 0,
}


def request(text: str = "why?", seed: int = 0, shade: int = 0) -> Request:
    return Request((Message("user", text),), Image.new("RGB", (4, 4), (shade, 0, 0)), seed)


def answer(text: str, finish: str = "stop") -> dict:
    return {"text": text, "finish_reason": finish, "tokens": 3}


def test_a_key_depends_on_everything_that_determines_an_answer():
    base = ({"checkpoint": "a", "engine": {"name": "x"}}, request(), GREEDY)
    others = [
        ({"checkpoint": "b", "engine": {"name": "x"}}, *base[1:]),
        ({"checkpoint": "a", "engine": {"name": "y"}}, *base[1:]),
        (base[0], request(text="why not?"), GREEDY),
        (base[0], request(seed=1), GREEDY),
        (base[0], request(shade=1), GREEDY),
        (base[0], request(), SamplingConfig(temperature=0, max_new_tokens=9)),
    ]
    assert key_of(*base) == key_of(*base)
    assert len({key_of(*one) for one in [base, *others]}) == 1 + len(others)


def test_what_was_put_is_there_after_a_kill_in_the_midst_of_a_line(tmp_path):
    path = tmp_path / "responses.jsonl"
    store = Responses(path)
    store.put("k1", {"suite": "s", "id": "1", "purpose": "greedy"}, [answer("A\ud800\x00")])
    store.put("k2", {"suite": "s", "id": "2", "purpose": "greedy"}, [answer("B")])
    with open(path, "ab") as stream:
        stream.write(b'{"key": "k3", "answ')
    again = Responses(path)
    assert (
        again.get("k1") == [answer("A\ud800\x00")]
        and again.get("k2") == [answer("B")]
        and again.get("k3") is None
    )
    again.put("k3", {"suite": "s", "id": "3", "purpose": "greedy"}, [answer("C")])
    assert [row["key"] for row in artefacts.read_jsonl(path)] == ["k1", "k2", "k3"]


@pytest.mark.parametrize(
    "line", ["nonsense", '{"key": 1, "answers": []}', '{"key": "k", "answers": [{"text": "A"}]}', "[]"]
)
def test_a_damaged_store_is_refused(tmp_path, line):
    path = tmp_path / "responses.jsonl"
    path.write_text(line + "\n" + json.dumps({"key": "k", "answers": []}) + "\n")
    with pytest.raises(VZeroError, match="damaged"):
        Responses(path)


def run_folder(
    folder: Path, items: list[Item], greedy: list[dict | None], sampled: list[list[dict]] | None = None
) -> Path:
    """An evaluation's folder as `run` leaves it."""
    settings = {**SETTINGS, "sampled": {"n": len(sampled[0])} if sampled else None}
    artefacts.write_json(folder / "run.json", {"evaluation": settings, "created": "now", "provenance": {}})
    artefacts.write_jsonl(
        folder / "items" / "logicvista.jsonl",
        [{**asdict(item), "together": {"pair": "1"}, "part": None} for item in items],
    )
    artefacts.write_json(folder / "lmms_eval" / "logicvista.json", {"results": {}})
    store = Responses(folder / "responses" / "logicvista.jsonl")
    for number, (item, given) in enumerate(zip(items, greedy, strict=True)):
        if given is not None:
            store.put(
                f"g{number}",
                {"suite": "logicvista", "id": item.id, "purpose": "greedy", "image_sha256": item.id},
                [given],
            )
    for number, (item, several) in enumerate(zip(items, sampled or [], strict=False)):
        store.put(f"s{number}", {"suite": "logicvista", "id": item.id, "purpose": "sampled"}, several)
    return folder


def item(key: str, gold: str, skill: str = "spatial") -> Item:
    return Item(
        key,
        "Which? (A) x (B) y (C) z",
        ("x", "y", "z"),
        ("A", "B", "C"),
        tuple(gold),
        "choice",
        group=(("skill", skill),),
    )


def boxed(label: str) -> dict:
    return answer(f"<think>A or B</think> \\boxed{{{label}}}")


def test_totals_groups_and_counts_by_hand(tmp_path):
    items = [item("1", "A"), item("2", "B"), item("3", "C", "numerical"), item("4", "", "numerical")]
    folder = run_folder(tmp_path, items, [boxed("A"), boxed("A"), answer("", "length"), boxed("A")])
    suite = results.build(folder)["suites"]["logicvista"]
    assert suite["status"] == "complete" and suite["n"] == 3 and suite["without_gold"] == ["4"]
    greedy = suite["greedy"]
    assert greedy["strict"] == pytest.approx(1 / 3) and greedy["parsed"] == pytest.approx(2 / 3)
    assert greedy["strict_given_parsed"] == 1 / 2 and greedy["truncated"] == 1 / 4
    assert {name: one["strict"] for name, one in suite["by"]["skill"].items()} == {
        "spatial": 0.5,
        "numerical": 0.0,
    }
    assert suite["deviations"] == [
        "4 of 448 rows",
        "an answer could be read in 66.7 % of responses",
        "25.0 % of responses were cut off at the token limit",
    ]


def test_samples_by_hand(tmp_path):
    samples = [
        [boxed("B"), boxed("A"), boxed("A"), answer("")],
        [boxed("A"), boxed("B"), answer(""), answer("")],
        [answer("")] * 4,
    ]
    folder = run_folder(tmp_path, [item("1", "A"), item("2", "B"), item("3", "C")], [boxed("A")] * 3, samples)
    sampled = results.build(folder)["suites"]["logicvista"]["sampled"]
    assert sampled["strict"]["mean"] == pytest.approx((2 / 4 + 1 / 4 + 0) / 3)
    assert sampled["strict"]["maj@4"] == pytest.approx(1 / 3)  # A; a tie whose first is A; nothing
    assert sampled["strict"]["pass@4"] == pytest.approx(2 / 3)
    assert sampled["parsed"] == pytest.approx(5 / 12)


def test_names_from_a_dataset_cannot_break_a_table_or_a_terminal(tmp_path):
    folder = run_folder(
        tmp_path, [item("\x1b[2J1", "", "a|b\x1b[31m<b>"), item("2", "A", "c")], [boxed("A")] * 2
    )
    found = results.write(folder)
    text = (folder / "results.md").read_text()
    assert "\x1b" not in text and "<b>" not in text and "a\\|b" in text
    stream = io.StringIO()
    table.show(found, Console(file=stream, width=200))
    assert "\x1b" not in stream.getvalue()


def two_runs(tmp_path: Path, base: list[str], other: list[str]) -> dict:
    """Gains of one evaluation over another: each letter an answer, "-" none that could be read; gold is
    always A."""
    items = [item(str(number), "A") for number in range(len(base))]
    for name, letters in (("base", base), ("other", other)):
        run_folder(
            tmp_path / name, items, [answer("") if letter == "-" else boxed(letter) for letter in letters]
        )
    return compare.compare(tmp_path / "base", tmp_path / "other")["suites"]["logicvista"]


def test_a_gain_that_exists_only_in_what_can_be_read_is_one_of_format(tmp_path):
    gain = two_runs(tmp_path, ["-"] * 20 + ["A"] * 10 + ["B"] * 10, ["A"] * 20 + ["A"] * 10 + ["B"] * 10)
    assert (
        gain["strict"]["gain"] == 0.5
        and gain["strict"]["direction"] == "positive"
        and gain["parsed"] == [0.5, 1.0]
    )
    assert gain["both_parsed"]["gain"] == 0 and gain["both_parsed"]["n"] == 20
    assert gain["format_gain"]


def test_a_gain_among_answers_that_could_be_read_before_is_not(tmp_path):
    gain = two_runs(tmp_path, ["-"] * 4 + ["B"] * 20 + ["A"] * 16, ["A"] * 4 + ["A"] * 20 + ["A"] * 16)
    assert gain["both_parsed"]["gain"] == pytest.approx(20 / 36) and not gain["format_gain"]
    loss = two_runs(tmp_path / "loss", ["A"] * 20, ["-"] * 20)
    assert loss["strict"]["gain"] == -1 and loss["both_parsed"] is None and not loss["format_gain"]


def test_only_evaluations_asked_alike_are_compared(tmp_path):
    two_runs(tmp_path, ["A", "A"], ["A", "B"])
    stored = artefacts.read_json(tmp_path / "base" / "run.json")
    artefacts.write_json(
        tmp_path / "base" / "run.json",
        {**stored, "evaluation": {**stored["evaluation"], "prompt_format": "pocket"}},
    )
    with pytest.raises(InputError, match=r"not asked alike \(prompt_format\)"):
        compare.compare(tmp_path / "base", tmp_path / "other")


def test_an_item_without_an_answer_leaves_the_suite_unscored(tmp_path):
    folder = run_folder(tmp_path, [item("1", "A"), item("2", "B")], [boxed("A"), None])
    found = results.write(folder)
    suite = found["suites"]["logicvista"]
    assert (
        suite["status"] == "incomplete"
        and "greedy" not in suite
        and not found["complete"]
        and found["groups"] == {}
    )
    assert "incomplete" in (folder / "results.md").read_text()


def test_an_item_answered_under_two_conditions_is_refused(tmp_path):
    folder = run_folder(tmp_path, [item("1", "A")], [boxed("A")])
    Responses(folder / "responses" / "logicvista.jsonl").put(
        "other", {"suite": "logicvista", "id": "1", "purpose": "greedy"}, [boxed("B")]
    )
    with pytest.raises(VZeroError, match="Item 1 of logicvista was answered under two"):
        results.build(folder)


def test_only_an_evaluations_folder_can_be_scored_again(tmp_path):
    with pytest.raises(InputError, match="not the folder of an evaluation"):
        results.build(tmp_path)


def beside(value: float, n: int = 447, rows: int = 448) -> dict:
    from harness.stats import wilson

    found = {
        "rows": rows,
        "greedy": {"official": value, "official_interval": list(wilson(round(value * n), n))},
    }
    return published.beside(catalogue.suites()["logicvista"], SETTINGS, found)


def test_a_base_outside_its_published_band_is_a_deviation():
    """Published for the 3B: 40.3 on 447 items, where a 95 % interval is about 4.5 points wide on each
    side."""
    assert beside(0.403)["outside"] == [] and beside(0.37)["outside"] == []
    (low,) = beside(0.30)["outside"]
    assert "30.0 %" in low["text"] and "40.3" in low["text"]
    assert beside(0.50)["outside"] and not beside(0.30, rows=20)["outside"]
    assert published.known_model({"model": "org/qwen2.5-vl-7B-instruct"}) == "qwen2.5-vl-7b-instruct"
    assert published.known_model({"model": "pocket"}) is None


def test_the_extra_scores_by_hand():
    """We-Math: mastered; generalizes badly (half); lucky with one wrong step; lucky with both wrong; wrong.
    Problem 1 is asked twice."""
    flags = {"1/2": "TTT", "1/3": "TTTF", "2/2": "FTT", "3/2": "FFT", "4/2": "TFF"}
    right = {}
    for name, letters in flags.items():
        problem, steps = name.split("/")
        for place, letter in enumerate(letters):
            step = "multi" if place == int(steps) else place + 1
            right[f"{problem}/{steps}steps_{step}"] = letter == "T"
    assert extra.wemath(right, {}) == {"strict score": 1.5 / 5, "loose score": 2.5 / 5}
    together = {
        "a": {"figure": "1", "question": "x"},
        "b": {"figure": "1", "question": "y"},
        "c": {"figure": "2", "question": "x"},
    }
    average = extra.hallusionbench({"a": True, "b": False, "c": True}, together)
    assert average == {"average of three accuracies": pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)}
    assert extra.scores("mmstar", []) == {}


def saved(image: Image.Image, kind: str, **options) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(stream).convert("RGB")


def scene(seed: int) -> Image.Image:
    """Soft blots: no two seeds look alike."""
    return picture(seed, (6, 6)).resize((240, 180), Image.Resampling.BICUBIC)


def test_a_copy_in_another_size_or_compression_is_found_and_another_picture_is_not():
    held_out = [(f"e{seed}", scene(seed)) for seed in range(40)]
    trained = [
        ("same", scene(3)),
        ("jpeg", saved(scene(5), "JPEG", quality=50)),
        ("small", scene(7).resize((120, 90), Image.Resampling.BICUBIC)),
        *((f"t{seed}", scene(seed)) for seed in range(100, 140)),
    ]
    found = list(contamination.pairs(contamination.prints(trained), contamination.prints(held_out)))
    assert found == [("same", "e3", True), ("jpeg", "e5", False), ("small", "e7", False)]
    report = contamination.report(contamination.prints(trained), contamination.prints(held_out))
    assert (report["training_pictures"], report["evaluation_pictures"]) == (43, 40)
    assert (report["evaluation_pictures_seen"], report["of_those_pixel_for_pixel"]) == (3, 1)


def test_blank_pages_with_different_drawings_are_not_neighbours():
    """White paper gives equal hashes; the thumbnails tell them apart."""
    one, other = Image.new("RGB", (90, 80), "white"), Image.new("RGB", (90, 80), "white")
    other.paste((120, 120, 120), (0, 0, 90, 30))
    assert bin(contamination.dhash(one) ^ contamination.dhash(other)).count("1") <= contamination.RADIUS
    assert (
        list(contamination.pairs(contamination.prints([("a", one)]), contamination.prints([("b", other)])))
        == []
    )


def test_the_hash_is_what_it_says():
    """A ramp that brightens to the right sets every bit, its mirror image none."""
    ramp = Image.fromarray(np.tile(np.arange(0, 252, 7, dtype=np.uint8), (32, 1)), "L").convert("RGB")
    assert contamination.dhash(ramp) == 2**64 - 1
    assert contamination.dhash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0


def test_training_pictures_of_a_folder(tmp_path):
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no picture")
    assert [name for name, _ in contamination.of_training(tmp_path)] == ["a.png"]
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="pictures that the model was trained on"):
            list(contamination.of_training(place))


def test_the_prompt_format_follows_the_vocabulary(tmp_path):
    assert prompt_format_of(POCKET) == "pocket" and prompt_format_of(tmp_path) == "natural"
    stored = artefacts.read_json(POCKET / "tokenizer.json")
    artefacts.write_json(
        tmp_path / "tokenizer.json", {**stored, "version": "other"}
    )  # as another library would write it
    assert prompt_format_of(tmp_path) == "pocket"
