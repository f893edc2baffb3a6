"""The one list of departures from the paper: whom it concerns, what it quotes, and the page that shows it."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from harness.claims import departures
from harness.tables import markdown
from vzero.config import Preset
from vzero.presets import changed, load_preset

ROOT = Path(__file__).resolve().parents[2]
PAPER = load_preset("qwen2.5-vl-7b-paper")


def names(preset: Preset) -> set[str]:
    return {one.name for one in departures.of_preset(preset)}


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted settings of a preset, optional parts included."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        options = get_args(field.annotation) if get_origin(field.annotation) is types.UnionType else ()
        inner = next((one for one in (field.annotation, *options) if isinstance(one, type)), None)
        nested = inner is not None and issubclass(inner, BaseModel)
        found |= keys(inner, f"{prefix}{name}.") if nested else {prefix + name}
    return found


def test_every_condition_is_about_a_setting_that_exists() -> None:
    asked = {key for one in departures.listed() for key in (*one.when, *one.unless)}
    assert len(asked) > 30 and asked <= keys(Preset)


def test_the_preset_that_follows_the_paper_departs_in_no_setting_of_its_method() -> None:
    switched = {one.name for one in departures.listed() if one.unless}
    assert names(PAPER) & switched == {"shrunk-images"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"solver.grpo.learning_rate": 2e-6}, "learning-rate"),
        ({"iterations": 1}, "iterations"),
        ({"solver.keep_low": 0.2}, "filter-band"),
        ({"solver.filter": "none"}, "filter-band"),
        ({"questioner.votes.n": 8}, "votes"),
        ({"solver.grpo.kl_coefficient": 0.0}, "optimisation"),
        ({"questioner.grpo.group_size": 8}, "optimisation"),
        ({"lora": {"rank": 4, "alpha": 8}, "launch.strategy": "ddp"}, "adapters"),
        ({"questioner.grpo.freeze_vision": True}, "vision-frozen"),
        ({"solver.votes.repetition_penalty": 1.0}, "repetition-penalty"),
        ({"solver.grpo.max_generations": 3}, "training-length"),
        ({"solver.grpo.loss": "dapo"}, "loss"),
        ({"solver.grpo.importance_correction": "token_truncate"}, "importance-correction"),
        ({"evaluation.limit": 100}, "evaluation-limit"),
        ({"arm": "r-zero"}, "arm"),
        ({"defects": ["article_votes"]}, "defects"),
        ({"evidence": False}, "too-short"),
        ({"seed": 3, "images.count": 900}, None),
    ],
)
def test_one_setting_adds_its_departure_and_no_other(changes: dict[str, Any], name: str | None) -> None:
    added = names(changed(PAPER, changes)) ^ names(PAPER)
    assert added == ({name} if name else set())


def test_the_pocket_world_departs_largely_and_says_so_first() -> None:
    found = departures.of_preset(load_preset("pocket"))
    assert [one.name for one in found if one.effect == "large"] == ["model", "learning-rate"]
    order = [departures.EFFECTS.index(one.effect) for one in found]
    assert order == sorted(order)
    shown = departures.table(found)
    assert len(shown.rows) == len(found) and shown.notes[0].startswith(f"{len(found)} departures; ")
    counts = map(int, re.findall(r"(\d+) (?:large|unknown|small|none)", shown.notes[0]))
    assert sum(counts) == len(found)


def test_measured_numbers_stand_on_the_page_that_is_named() -> None:
    measured = [one.measured for one in departures.listed() if one.measured]
    assert len(measured) >= 5
    for text in measured:
        numbers, _, place = text.removesuffix(")").rpartition(" (")
        page = (ROOT / place).read_text(encoding="utf-8")
        for number in numbers.split(" ... "):
            assert number in page, f"{place} has no {number}"


def test_the_page_on_the_method_shows_the_list_as_it_is() -> None:
    """If it does not: python -c "from harness.claims import departures; departures.write_page()"."""
    text = (ROOT / departures.PAGE).read_text(encoding="utf-8")
    assert text.count(departures.MARKS[0]) == text.count(departures.MARKS[1]) == 1
    assert f"{departures.MARKS[0]}\n{departures.page()}\n{departures.MARKS[1]}" in text
    rows = [line for line in departures.page().splitlines() if line.startswith("| ")]
    assert len(rows) == len(departures.listed()) + len(departures.EFFECTS)
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)


def test_the_list_stands_in_the_report_as_a_table_of_plain_text() -> None:
    text = markdown.render(departures.table(departures.of_preset(PAPER)))
    assert "## Departures from the paper" in text and "lmms-eval, answers read by rules" in text
    cells = [cell.text for row in departures.table(departures.listed()).rows for cell in row]
    assert not [one for one in cells if "`" in one or "*" in one]
    assert "\\boxed{} everywhere, one parser" in cells
    (rate,) = [one for one in cells if "with 3e-4" in one]
    assert rate.endswith("70.2 % with 3e-4 (results/pocket/README.md)"), "its numbers once"
