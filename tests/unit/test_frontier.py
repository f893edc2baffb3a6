"""The picture of gain by compute: the frontier against brute force, names that cover nothing, an XML file."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from harness.analysis.comparison import ArmRow, Comparison
from harness.analysis.scores import Score
from harness.report import frontier, page
from harness.stats import Gain

SVG = "{http://www.w3.org/2000/svg}"


def gain(value: float) -> Gain:
    return Gain(
        gain=value,
        low=value - 0.02,
        high=value + 0.02,
        t_low=None,
        t_high=None,
        p=0.5,
        direction="positive" if value > 0 else "unclear",
        test="t",
        n=10,
        images=10,
        by_seed=(value,),
    )


def comparison(arms: dict[str, tuple[float | None, float]], against: str = "base") -> Comparison:
    rows = [
        ArmRow(
            name=f"{name} S2",
            arm=name,
            checkpoint="S2",
            model="m",
            seeds=[0],
            scores={"suite": Score(value=0.5, low=None, high=None, n=10, expected=10, gain=gain(gained))},
            faults={"unparsed_greedy": 0.0, "truncated_greedy": 0.0},
            compute={"steps": 1},
            compute_ratio=cost,
            compute_note=None,
        )
        for name, (cost, gained) in arms.items()
    ]
    return Comparison(
        metric="greedy", against=against, suites=["suite"], rows=rows, published=[], claims=[], runs=[]
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_frontier_is_what_nothing_else_beats(seed: int) -> None:
    rng = random.Random(seed)
    arms = {f"own-{i}": (rng.uniform(0.2, 2), rng.uniform(-0.1, 0.1)) for i in range(24)}
    best = {one.name for one in frontier.frontier(frontier.arms(comparison(arms)))}
    beaten = {
        a
        for a, (cost, gained) in arms.items()
        if gained <= 0 or any(c <= cost and g >= gained for b, (c, g) in arms.items() if b != a)
    }
    assert best == set(arms) - beaten


def test_controls_and_unknown_compute_are_never_recommended() -> None:
    arms = {"v-zero": (1.0, 0.05), "supervised": (0.9, 0.2), "mystery": (None, 0.3)}
    said = frontier.sentences(comparison(arms))
    assert said == ["From 1.00x on: v-zero, +5.0 points (+3.0 to +7.0)."]
    assert frontier.answer(comparison(arms)) == (
        "Highest gain, controls and defects apart, greedy: v-zero, +5.0 points (+3.0 to +7.0)."
    )
    more = frontier.answer(comparison({**arms, "zero-sum": (1.25, 0.08)}))
    assert more == (
        "Highest gain, controls and defects apart, greedy: zero-sum, +8.0 points (+6.0 to +10.0), for "
        "1.25x of v-zero's total compute. v-zero: +5.0 points (+3.0 to +7.0)."
    )
    assert page.render(comparison(arms)).index("Highest gain") < page.render(comparison(arms)).index("<svg")
    drawn = str(frontier.panel(comparison(arms)))
    assert "supervised" in drawn and "mystery" not in drawn
    assert "Best arm for a budget, controls and defects apart (total compute, v-zero = 1.00x):" in drawn
    assert frontier.panel(comparison(arms, against="v-zero")) == "", (
        "gains over an arm are no gains over the base"
    )


def test_where_no_arm_gains_none_is_best_and_a_preset_without_evidence_has_no_frontier() -> None:
    losing = comparison({"v-zero": (1.0, -0.005), "zero-sum": (0.9, -0.002)})
    assert frontier.answer(losing) == "No gain over the base is significant."
    assert frontier.sentences(losing) == [] and "No gain is significant." in str(frontier.panel(losing))
    control = comparison({"v-zero": (1.0, -0.005), "supervised": (0.9, 0.2)})
    assert frontier.answer(control) == "No gain over the base is significant, controls and defects apart."
    assert "No gain is significant, controls and defects apart." in str(frontier.panel(control))
    unclear = comparison({"v-zero": (1.0, 0.02), "zero-sum": (1.1, 0.04)})
    gained = unclear.rows[1].scores["suite"].gain
    assert gained is not None
    object.__setattr__(gained, "direction", "unclear")  # the higher of the two, and not significant
    assert frontier.sentences(unclear) == ["From 1.00x on: v-zero, +2.0 points (0.0 to +4.0)."]
    toy = comparison({"v-zero": (1.0, 0.05), "zero-sum": (0.9, 0.06)})
    toy = toy.model_copy(update={"rows": [row.model_copy(update={"evidence": False}) for row in toy.rows]})
    assert frontier.answer(toy) == "" and frontier.sentences(toy) == [] and frontier.panel(toy) == ""


@pytest.mark.parametrize("seed", range(5))
def test_the_picture_is_xml_and_no_name_covers_another(seed: int) -> None:
    rng = random.Random(seed)
    arms = {f"arm-<b>-{i}": (rng.uniform(0.9, 1.1), rng.uniform(0.03, 0.08)) for i in range(24)}
    tree = ET.fromstring(frontier.picture([frontier.panel(comparison({"v-zero": (1.0, 0.05), **arms}))]))
    names = [one for one in tree.iter(f"{SVG}text") if "halo" in one.get("class", "")]
    assert len(names) > 12 and not list(tree.iter(f"{SVG}b"))
    boxes = [
        (float(one.get("x")), float(one.get("y")), float(one.get("x")) + 5.6 * len(one.text)) for one in names
    ]
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or abs(a[1] - b[1]) >= 10


def test_the_page_ranks_arms_within_their_kind() -> None:
    arms = {"no-filter": (1.0, 0.01), "v-zero": (1.0, 0.05), "random-label": (1.0, -0.2), "mine": (1.0, 0.02)}
    table = page.ranking(comparison(arms))
    shown = {heading: [row[0].text for row in rows] for heading, rows in table.shown()}
    assert shown == {"paper": ["v-zero", "no-filter"], "controls": ["random-label"], "own": ["mine"]}


def test_an_arm_of_two_presets_is_two_arms() -> None:
    both = comparison({"v-zero": (1.0, 0.05), "zero-sum": (1.2, 0.06)})
    names = ("v-zero S2 (large, m)", "v-zero S2 (small, m)")
    rows = [
        row.model_copy(update={"name": name, "arm": "v-zero"})
        for row, name in zip(both.rows, names, strict=True)
    ]
    found = frontier.arms(both.model_copy(update={"rows": rows}))
    assert [one.name for one in found] == ["v-zero (large, m)", "v-zero (small, m)"]
