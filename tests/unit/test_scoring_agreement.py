"""Our readings against those that benchmarks' authors published for the same answers (VZERO_DATA).

Floors are what was measured, rounded down; a change that loses agreement fails here. One run a suite: all of
them are in results/extractors.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.evals.layouts import items as load
from tools import agreement

DATA = Path(os.environ.get("VZERO_DATA", ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("VZERO_DATA"), reason="VZERO_DATA names no folder with the real benchmark data"
    ),
]


def test_the_real_suites_load() -> None:
    logic = load("logicvista", DATA)
    assert len(logic) == 448 and [item.id for item in logic if not item.gold] == ["v1_382"]
    assert {item.id: item.gold for item in logic if len(item.gold) > 1} == {
        "v1_1": ("A", "C"),
        "v1_2": ("B", "D"),
        "v1_5": ("B", "D"),
    }
    assert {label for item in logic for label in item.gold} == set("ABCDEFG3")
    assert all(set(item.gold) <= set(item.labels) for item in logic)
    vista = load("mathvista", DATA)
    assert len(vista) == 1000 and all(item.gold for item in vista)
    assert sum(item.kind == "choice" for item in vista) == 540


@pytest.mark.parametrize(
    ("suite", "model", "same", "same_both", "off"),
    [
        ("blink", "GPT4Turbo", 0.97, 0.995, 0.010),
        ("logicvista", "logicvista_LLAVA7B", 0.89, 0.985, 0.030),
        ("mathvision", "Gemini-Pro-CoT", 0.985, 0.985, 0.010),
        ("mathvista", "mathvista_chatgpt", 0.97, 0.99, 0.030),
    ],
)
def test_readings_agree(suite: str, model: str, same: float, same_both: float, off: float) -> None:
    run = agreement.SUITES[suite](DATA / suite, DATA / suite / "published" / f"{model}.jsonl")
    assert run.same / run.n >= same and run.same_both / run.both >= same_both
    assert abs(run.ours - run.published) / run.known <= off
    assert set(run.differing.values()) <= set(agreement.KINDS)


def test_published_extractions_give_the_published_verdicts() -> None:
    from vzero.runtime import artefacts

    items = {item.id: item for item in load("mathvista", DATA)}
    rows = artefacts.read_jsonl(DATA / "mathvista" / "published" / "mathvista_chatgpt.jsonl")
    same = [
        agreement.mathvista_verdict(items[row["pid"]], row["extraction"]) == bool(row["true_false"])
        for row in rows
    ]
    assert sum(same) / len(same) >= 0.997
