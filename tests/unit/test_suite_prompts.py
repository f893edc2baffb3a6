"""The boxed prompt: the same frame for every model, and what goes into the box by kind of answer."""

from __future__ import annotations

import pytest

from harness.evals import catalogue
from harness.evals.fields import SuiteQuestion
from harness.evals.prompts import boxed
from harness.scoring.items import Item
from vzero.errors import InputError
from vzero.prompts import solver_messages

SUITE, DRAWN = (catalogue.find(name) for name in ("mathvista", "pocket_math"))


def item(kind: str, precision: int | None = None) -> Item:
    return Item("1", "How many?", (), (), ("3",), kind, precision)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (item("choice"), "give only the letter of your chosen option inside \\boxed{}"),
        (item("multi"), "several letters with commas between them"),
        (item("integer"), "give only a whole number inside \\boxed{}"),
        (item("float", 1), "give only a number with 1 decimal inside \\boxed{}"),
        (item("float", 2), "give only a number with 2 decimals inside \\boxed{}"),
        (item("float"), "give only a number inside \\boxed{}"),
        (item("list"), "\\boxed{[1, 2, 3]}"),
        (item("text"), "give only the final answer inside \\boxed{}"),
    ],
)
def test_the_box_is_described_by_the_kind_of_answer(asked, said):
    system, user = boxed("natural", SUITE, SuiteQuestion(asked, "How many?\nA. 1 {curly}"))
    assert said in user.text and user.text.endswith("Question:\nHow many?\nA. 1 {curly}")
    assert (system.role, user.role) == ("system", "user")
    assert system == solver_messages("natural", "")[0]  # the Solver's own


def test_the_pocket_prompt_format_is_the_solvers_own_and_others_are_refused():
    asked = SuiteQuestion(item("choice"), "how many red ? A) 1")
    assert boxed("pocket", SUITE, asked) == solver_messages("pocket", "how many red ? A) 1")
    assert boxed("natural", DRAWN, asked) == solver_messages("natural", "how many red ? A) 1")
    with pytest.raises(InputError, match="no prompt_format 'latin'"):
        boxed("latin", SUITE, SuiteQuestion(item("choice"), "?"))
