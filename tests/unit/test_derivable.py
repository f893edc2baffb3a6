"""Files that follow from others: damaged ones are set aside by name and made anew, with and without --fresh,
and lock nobody out of what is sealed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evals import build
from harness.evals import folder as evaluations
from harness.evals import run as evaluating
from harness.runs import ledger
from harness.runs.directory import opened
from harness.runs.folder import RECORD
from harness.runs.grid import INDEX, Grid, grid_runs
from harness.runs.orchestrate import settled
from harness.runs.sealed import read_run
from tests.fixtures.evaluations import answer, run_folder
from tests.unit.test_stage import STAGE, draw, new_run
from vzero.arms import chosen
from vzero.errors import InputError, VZeroError
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.stage import run_stage
from vzero.selfplay import plan

SMOKE = load_preset("smoke")
GARBAGE = [b"", b"\0" * 9, b"{torn", b"[]", b"7", b'{"preset": 3}', b"\xff\xfe", b"[" * 100_000]


def start(run: Path, fresh: bool = False) -> None:
    with opened(run, SMOKE, "reproduce", fresh):
        pass


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_run_json_is_made_anew_and_what_is_sealed_stays(
    tmp_path: Path, garbage: bytes, fresh: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path)
    run_stage(tmp_path, STAGE, {"images": draw})
    (tmp_path / RECORD).write_bytes(garbage)
    start(tmp_path, fresh)
    stored = json.loads((tmp_path / RECORD).read_text())
    assert stored["preset"] == SMOKE.model_dump(mode="json") and "provenance" in stored
    assert (STAGE in read_run(tmp_path).stages) is not fresh
    if not fresh:
        assert (tmp_path / "run.json.damaged").read_bytes() == garbage
        assert "it is now run.json.damaged" in capsys.readouterr().err
    start(tmp_path)  # as any other


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_line_of_the_ledger_costs_itself(tmp_path: Path, garbage: bytes) -> None:
    start(tmp_path)
    path = tmp_path / ledger.NAME
    path.write_bytes(path.read_bytes() + garbage + b"\n")
    ledger.append(tmp_path, {"event": "stage-started", "stage": STAGE, "attempt": 1})
    start(tmp_path)
    events = [row["event"] for row in ledger.read(tmp_path) if "event" in row]
    assert events == ["run-started", "stage-started", "run-resumed"]
    assert ledger.attempts(tmp_path, STAGE) == 1


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_index_of_a_grid_is_made_anew(tmp_path: Path, garbage: bytes, fresh: bool) -> None:
    made: list[Path] = []

    def run_one(run: Path, *_: Any) -> dict[str, int]:
        run.mkdir(parents=True, exist_ok=True)
        made.append(run)
        return {}

    grid = Grid(tmp_path, SMOKE, run_one, lambda _: None)
    wanted = grid_runs(chosen("v-zero"), [0])
    grid.run(wanted, False)
    (tmp_path / INDEX).write_bytes(garbage)
    assert {one.state for one in grid.run(wanted, fresh).runs.values()} == {"done"}
    assert (tmp_path / "grid.json.damaged").read_bytes() == garbage and len(made) == 2


def test_a_file_of_that_name_in_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    for name in (INDEX, RECORD):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("mine")
        (folder / "thesis.tex").write_text("x")
        with pytest.raises(InputError, match="choose another --out"):
            if name == INDEX:
                Grid(folder, SMOKE, lambda *_: {}, lambda _: None).run(grid_runs(chosen("v-zero"), [0]), True)
            else:
                start(folder, fresh=True)
        assert {path.name for path in folder.iterdir()} == {name, "thesis.tex"}


MISSHAPEN: list[Any] = [
    *GARBAGE,
    {"spec": []}, {"files": None}, {"files": {"images/one.txt": 3}}, {"facts": "none"},
    {"facts": {"seconds": "long"}}, {"spec_digest": 7}, {"spec_digest": "other"}, {"spec": {"inputs": 3}},
]  # fmt: skip


@pytest.mark.parametrize("change", MISSHAPEN)
def test_a_misshapen_manifest_is_none(tmp_path: Path, change: Any) -> None:
    run, notes = new_run(tmp_path), list[str]()
    run_stage(run, STAGE, {"images": draw})
    path = run / "stages" / STAGE / artefacts.MANIFEST
    sound = path.read_bytes()
    earlier = {name: part for name, part in json.loads(sound).items() if name != "digest"}
    path.write_bytes(change if isinstance(change, bytes) else json.dumps({**earlier, **change}).encode())
    display: Any = SimpleNamespace(note=lambda stage, text: notes.append(text))
    if change in ({"spec": {"inputs": 3}}, {"spec_digest": "other"}):  # whole, of something else
        assert change == {"spec_digest": "other"} or STAGE in read_run(run).missing
    else:
        assert STAGE in read_run(run).missing
        assert settled(run, SMOKE, plan(SMOKE)[0], display) is None
        assert notes == ["manifest.json changed since it was finished; doing it again"]
    run_stage(run, STAGE, {"images": draw})
    found = artefacts.sealed(run / "stages" / STAGE)
    assert found is not None and found["files"] == json.loads(sound)["files"]


@pytest.fixture(scope="module")
def seal_of_facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    facts = {
        "seconds": 1e-7,
        "steps": 12,
        "rate": 1 / 3,
        "name": "\u00e9\ud800",
        "of": {10: 1, 9: None},
        "l": (1, -0.0),
    }
    artefacts.seal(folder, {"kind": "images", "inputs": {"a": "0" * 64}}, facts)
    return folder / artefacts.MANIFEST


@given(st.integers(0), st.integers(0, 7))
def test_a_seal_with_a_flipped_bit_is_none_or_says_the_same(seal_of_facts: Path, at: int, bit: int) -> None:
    """Facts, software and what it was made from, too: no file's hash covers those."""
    sound, whole = seal_of_facts.read_bytes(), artefacts.sealed(seal_of_facts.parent)
    damaged = bytearray(sound)
    damaged[at % len(sound)] ^= 1 << bit
    try:
        seal_of_facts.write_bytes(bytes(damaged))
        found = artefacts.sealed(seal_of_facts.parent)
        assert found is None or {name: found[name] for name in whole or {}} == whole
    finally:
        seal_of_facts.write_bytes(sound)


@pytest.mark.parametrize("part", ["spec", "spec_digest", "files", "facts", "provenance"])
def test_a_seal_with_another_number_is_none(tmp_path: Path, part: str) -> None:
    whole = artefacts.seal(tmp_path, {"seed": 1}, {"steps": 12})
    assert artefacts.sealed(tmp_path) == whole
    stored = artefacts.read_json(tmp_path / artefacts.MANIFEST)
    other = "f" * 64 if part == "spec_digest" else {**stored[part], "steps": 13}
    artefacts.write_json(tmp_path / artefacts.MANIFEST, {**stored, part: other})
    assert artefacts.sealed(tmp_path) is None
    del stored["digest"]  # as an earlier version sealed it
    artefacts.write_json(tmp_path / artefacts.MANIFEST, stored)
    assert artefacts.sealed(tmp_path) == whole


DERIVED = ("lmms_eval/logicvista.json", "items/logicvista.jsonl", "contamination.json")


def evaluation(place: Path, said: str = "\\boxed{A}") -> Path:
    from harness.scoring import Item

    items = [Item(id=str(i), question="q", options=("x", "y"), labels=("A", "B"), gold=("A",), kind="choice")
             for i in range(2)]  # fmt: skip
    return run_folder(place, items, [answer(said)] * 2)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize(
    "name", ["lmms_eval/logicvista.json", "items/logicvista.jsonl", "contamination.json"]
)
def test_what_an_evaluation_cannot_read_is_a_sentence_and_asked_again(
    tmp_path: Path, name: str, garbage: bytes
) -> None:
    run = evaluation(tmp_path / "run")
    (run / name).write_bytes(garbage)
    if name.startswith("items") and garbage == b"":
        return  # no item was ever asked about
    if not name.startswith("items") or garbage in (b"[]", b"7", b"\xff\xfe"):  # a torn last line is dropped
        with pytest.raises(InputError, match="damaged"):
            build.build(run)
    if name.startswith("lmms_eval"):
        (suite,) = build.suites_of(evaluations.settings(run))
        assert not evaluating._answered(run, suite)


@pytest.mark.parametrize("harm", ["shortened", "another's", "gone"])
def test_answers_that_are_not_those_that_were_scored_are_asked_again(tmp_path: Path, harm: str) -> None:
    run, other = evaluation(tmp_path / "run"), evaluation(tmp_path / "other", "\\boxed{B}")
    (suite,) = build.suites_of(evaluations.settings(run))
    path, record = evaluations.responses(run, suite.name), evaluations.record(run, suite.name)
    stated = {**artefacts.read_json(record), "responses_sha256": artefacts.sha256_file(path)}
    artefacts.write_json(record, stated)
    assert evaluating._answered(run, suite) and build.build(run).complete
    if harm == "gone":
        path.unlink()
    elif harm == "shortened":
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    else:
        path.write_bytes(evaluations.responses(other, suite.name).read_bytes())
    assert not evaluating._answered(run, suite)
    with pytest.raises(VZeroError, match="is damaged; run its evaluation again"):
        build.build(run)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_run_json_of_an_evaluation_costs_no_answer(tmp_path: Path, garbage: bytes) -> None:
    run = evaluation(tmp_path / "run")
    settings, answers = evaluations.settings(run), evaluations.responses(run, "logicvista").read_bytes()
    (run / "extractions.jsonl").write_text('{"id": "a", "key": "k", "model": "m", "reply": "B"}\n')
    (run / RECORD).write_bytes(garbage.replace(b"preset", b"evaluation"))  # a run's record is no damaged one
    with evaluations.opened(run, settings, False):
        assert (run / "extractions.jsonl").exists()  # each row names the very text that it is of
        assert evaluations.settings(run) == settings
        assert evaluations.responses(run, "logicvista").read_bytes() == answers
        assert evaluations.lmms_eval(run, "logicvista") is None  # of which settings, nobody knows
