"""The gold given back is right, and wrong answers made from it are not, on the real rows of seven benchmarks
(VZERO_DATA).

Every row gives its gold back; of the wrong answers those of every eighth row are tried here, all of them by
`tools/agreement.py`, whose counts are in results/extractors.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.scoring import Item, judge, read
from tools import made_answers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("VZERO_DATA"), reason="VZERO_DATA names no folder with the real benchmark data"
    ),
]
SUITES = ("blink", "dynamath", "hallusionbench", "logicvista", "mathverse", "mathvision", "mathvista")
SIZES = (1638, 501, 1129, 447, 778, 3040, 1000)
# Of the 394 golds that are words or formulas: MathVerse's 556 is "-4.9" on two lines, for two parts.
NOT_READ = {("mathverse", "556", "sentence"), ("mathverse", "556", "bare")}


@pytest.fixture(scope="module")
def suites() -> dict[str, list[Item]]:
    return made_answers.suites(Path(os.environ["VZERO_DATA"]))


def test_the_rows_are_there(suites: dict[str, list[Item]]) -> None:
    found = {name: len(items) for name, items in suites.items()}
    assert all(found[name] >= size for name, size in zip(SUITES, SIZES, strict=True)), found


@pytest.mark.parametrize("name", SUITES)
def test_the_gold_given_back_is_right(suites: dict[str, list[Item]], name: str) -> None:
    wrong = {
        (name, item.id, form)
        for item in suites[name]
        for form, response in made_answers.echoes(item)
        if not judge(item, read(item, response)).verified
    }
    assert wrong == {one for one in NOT_READ if one[0] == name}


@pytest.mark.parametrize("name", SUITES)
def test_wrong_answers_get_no_credit(suites: dict[str, list[Item]], name: str) -> None:
    made = [
        (item, form, response) for item in suites[name][3::8] for form, response in made_answers.wrong(item)
    ]
    assert len(made) >= 10 * len(suites[name][3::8])
    credited = [
        (item.id, form) for item, form, response in made if judge(item, read(item, response)).verified
    ]
    assert len(credited) <= len(made) / 1000, credited
