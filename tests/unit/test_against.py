"""Gains of one evaluation over another, and gains that are of format alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis import against
from tests.fixtures.evaluations import answer, boxed, item, run_folder


def two_runs(tmp_path: Path, base: list[str], other: list[str]) -> against.Compared:
    """Gains of one evaluation over another: each letter an answer, "-" none that could be read; gold is
    always A."""
    items = [item(str(number), "A") for number in range(len(base))]
    for name, letters in (("base", base), ("other", other)):
        run_folder(
            tmp_path / name, items, [answer("") if letter == "-" else boxed(letter) for letter in letters]
        )
    return against.compare(tmp_path / "base", tmp_path / "other").suites["logicvista"]


def test_a_gain_that_exists_only_in_what_can_be_read_is_one_of_format(tmp_path):
    gain = two_runs(tmp_path, ["-"] * 20 + ["A"] * 10 + ["B"] * 10, ["A"] * 20 + ["A"] * 10 + ["B"] * 10)
    assert gain.verified.gain == 0.5 and gain.verified.direction == "positive"
    assert gain.parsed == (0.5, 1.0)
    assert gain.both_parsed.gain == 0 and gain.both_parsed.n == 20
    assert gain.format_gain


def test_a_gain_among_answers_that_could_be_read_before_is_not(tmp_path):
    gain = two_runs(tmp_path, ["-"] * 4 + ["B"] * 20 + ["A"] * 16, ["A"] * 4 + ["A"] * 20 + ["A"] * 16)
    assert gain.both_parsed.gain == pytest.approx(20 / 36) and not gain.format_gain
    loss = two_runs(tmp_path / "loss", ["A"] * 20, ["-"] * 20)
    assert loss.verified.gain == -1 and loss.both_parsed is None and not loss.format_gain
