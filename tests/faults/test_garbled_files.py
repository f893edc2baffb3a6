"""A finished run whose files are damaged, one at a time, under the commands that read it: an exit code of the
contract, one sentence, never a fault in the program.

VZERO_FAULTS is how many damages are tried (default 9); VZERO_FAULTS_RUN another finished run to damage.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from tests.faults.damage import DAMAGES
from tests.fixtures import synthetic_run

TRIES = int(os.environ.get("VZERO_FAULTS", "9"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("garbled") / "run"
    if given := os.environ.get("VZERO_FAULTS_RUN"):
        shutil.copytree(given, place)
    else:
        synthetic_run.make(place)
    yield place


@pytest.mark.parametrize("number", range(TRIES))
def test_a_damaged_file_is_a_sentence(run: Path, tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl"))
    path, how = rng.choice(files), list(DAMAGES)[number % len(DAMAGES)]
    sound = path.read_bytes()
    path.write_bytes(DAMAGES[how](sound, rng))
    try:
        export = ["export", str(run), "--to", str(tmp_path / "exported")]
        for words in (["check", str(run)], ["table", str(run)], export):
            found = CliRunner().invoke(app, words)
            where = f"{how} {path.relative_to(run)}: {words[0]}: {found.stderr}"
            assert found.exit_code in (0, 1, 2, 75) and "fault in the program" not in found.stderr, where
    finally:
        path.write_bytes(sound)
