"""Exported checkpoints: the sealed bytes, and a card that claims what the run's results say and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from harness.analysis.results import read_results
from harness.cli import app
from harness.report import finish
from harness.report.export import CHECKPOINT, prepare, to_folder
from tests.fixtures import synthetic_run
from vzero.errors import InputError
from vzero.runtime import artefacts


@pytest.fixture
def run(tmp_path: Path) -> Path:
    synthetic_run.make(tmp_path / "run", count=12, items_per_family=2)
    return tmp_path / "run"


def rows(card: str) -> dict[tuple[str, str], list[str]]:
    cells = [
        [cell.strip().replace("\\_", "_") for cell in line.strip("|").split("|")]
        for line in card.splitlines()
        if line.startswith("| pocket")
    ]
    return {(row[0], row[1]): row[2:] for row in cells}


def test_the_folder_holds_the_sealed_bytes_and_a_card(run: Path, tmp_path: Path) -> None:
    found = prepare(run, "solver", None)
    to_folder(found, tmp_path / "out" / "solver")
    made = {path.name: path.read_bytes() for path in (tmp_path / "out" / "solver").iterdir()}
    assert made.pop("README.md").decode() == found.card
    sealed = found.made.folder / CHECKPOINT
    assert made == {path.name: path.read_bytes() for path in sealed.iterdir()} and made
    assert found.made.stage.name == "10-train-solver-2"
    assert prepare(run, "questioner", 1).made.stage.name == "02-train-questioner-1"


def test_the_card_repeats_the_results(run: Path) -> None:
    assert "no gain is claimed" in prepare(run, "solver", None).card
    finish(run)
    results = read_results(run / "results.json")
    card = prepare(run, "solver", 1).card
    header = yaml.safe_load(card.split("---")[1])
    assert (
        header["library_name"] == "transformers" and "base_model" not in header
    )  # the pocket base is on no hub
    table = rows(card)
    for suite in results.suites:
        found = results.gains["S1"][suite]["greedy"]
        base = results.suites[suite]["base"].accuracy["greedy"].value
        said = table[(suite, "greedy")]
        assert float(said[0]) == pytest.approx(100 * base, abs=0.05)
        assert float(said[2].replace("\u2212", "-").replace("+", "")) == pytest.approx(
            100 * found.gain, abs=0.051
        )
        finding = {"positive": "gain", "negative": "loss", "unclear": "not significant"}
        assert finding[found.direction] == said[4]
    assert str(run) not in card and "/" not in card.split("Images:")[1].split("\n")[0]


def test_the_card_takes_a_presets_name_as_text(run: Path) -> None:
    stored = artefacts.read_json(run / "run.json")
    stored["preset"]["name"] = "`a` <img src=x> [b](c) | {{ 7 * 7 }}\n# d \u202e"
    artefacts.write_json(run / "run.json", stored)
    card = prepare(run, "solver", 1).card
    for piece in ("<img", "[b](c)", "{{ 7", "\n# d", "\u202e", " `a` "):
        assert piece not in card


def test_a_folder_of_pictures_is_not_named(tmp_path: Path) -> None:
    pictures = tmp_path / "holiday"
    pictures.mkdir()
    for i in range(12):
        Image.new("RGB", (42, 42), (i, 0, 0)).save(pictures / f"{i}.png")
    synthetic_run.make(tmp_path / "run", count=12, items_per_family=2, images=pictures)
    assert "holiday" not in prepare(tmp_path / "run", "solver", None).card


def test_what_cannot_be_exported_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished solver of iteration 3"):
        prepare(run, "solver", 3)
    with pytest.raises(InputError, match="not a run directory"):
        prepare(tmp_path, "solver", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    found = prepare(run, "solver", None)
    with pytest.raises(InputError, match="there already"):
        to_folder(found, tmp_path / "full")
    next((found.made.folder / CHECKPOINT).iterdir()).write_bytes(b"other")
    with pytest.raises(InputError, match="not the one that was sealed"):
        to_folder(found, tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_the_command(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["export", str(run), "--to", str(tmp_path / "out"), "--iteration", "1", "--json"]
    )
    assert result.exit_code == 0 and json.loads(result.output) == {
        "stage": "05-train-solver-1",
        "to": str(tmp_path / "out"),
    }
    assert artefacts.folder_hashes(tmp_path / "out").keys() >= {"README.md"}
    assert CliRunner().invoke(app, ["export", str(run), "--to", "hub:no-slash"]).exit_code == 2
