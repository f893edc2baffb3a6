"""`versus`: a fixture that times both sides of a case in turn, by pytest-benchmark, and keeps a line for the
results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import results
from benchmarks.case import Case, Unfit, count
from harness.perf.profile.clock import now, timed
from vzero.runtime.machine import cores

ROOT = Path(__file__).resolve().parents[1]
ROWS = pytest.StashKey[list[dict[str, Any]]]()
LEAST, MOST, ENOUGH = 5, 25, 2.0  # rounds of each side; cheap ones are repeated up to `ENOUGH` seconds
Versus = Callable[[str, str, Callable[[], Case]], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `make bench`, given by ARGS."""
    few = f"least rounds of each side; fewer than {LEAST} are not written down"
    parser.addoption("--rounds", type=int, default=LEAST, help=few)
    folder = "folder of the JSON and the table"
    parser.addoption("--results", type=Path, default=ROOT / "results" / "benchmarks", help=folder)


def pytest_configure(config: pytest.Config) -> None:
    """Once, before anything is computed."""
    config.stash[ROWS] = []
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", cores())))


@pytest.fixture
def versus(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Versus]:
    """versus(benchmark, shape, build): time the case that `build` makes; an `Unfit` one is skipped with its
    reason in the table."""
    rows = request.config.stash[ROWS]

    def compare(name: str, shape: str, build: Callable[[], Case]) -> None:
        try:
            case = build()
        except Unfit as reason:
            rows.append(results.skipped(name, shape, str(reason)))
            pytest.skip(str(reason))
        rows.append(_measure(benchmark, name, shape, case, request.config.getoption("rounds")))

    yield compare


def _measure(benchmark: Any, name: str, shape: str, case: Case, least: int) -> dict[str, Any]:
    """Warm up and count, then time. pytest-benchmark times our side; before each of its rounds the stock side
    is timed as its set-up."""
    once, counts = timed(lambda: (count(case, case.ours)[1], count(case, case.stock)[1]))
    rounds = max(least, min(MOST, int(ENOUGH / once)))
    stock: list[tuple[float, float]] = []
    works: list[float] = []

    def before() -> None:
        stock.append(timed(case.stock))

    def ours() -> None:
        works.append(case.ours())
        now()  # waits for a GPU

    benchmark.group = name
    benchmark.pedantic(ours, setup=before, rounds=rounds)
    measured = list(zip(benchmark.stats.stats.data, works, strict=True))
    row = results.row(name, shape, case, measured, stock, counts if case.models else None)
    benchmark.extra_info.update({"ratio": row["ratio"], "stock": row["stock"]["seconds"]["median"]})
    if row["difference"] is not None:
        assert row["difference"] <= case.tolerance, "the two sides do not compute the same"
    return row


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """The table; the files too, where the run was whole."""
    rows = config.stash[ROWS]
    if not rows:
        return
    result = results.document(rows)
    terminalreporter.write_line(results.as_markdown(result))
    partial = terminalreporter.stats.get("deselected") or config.option.keyword or exitstatus != 0
    if partial or config.getoption("rounds") < LEAST or len(config.args) != 1:
        terminalreporter.write_line("Not written: a selection, a failure, or fewer than 5 rounds.")
        return
    terminalreporter.write_line(f"Written: {results.write(config.getoption('results'), result)} and .md")
