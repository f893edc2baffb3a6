"""Damaged scratch: what an earlier attempt left counts as not there where it is not as it was written."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evals.store import Response, Store, read
from tests.unit.test_bulk import Backwards, ask
from tests.unit.test_stage import STAGE, Killed, draw, files, new_run
from vzero.errors import VZeroError
from vzero.grpo import resume
from vzero.runtime import artefacts, owned, scratch, stage
from vzero.runtime.stage import StageContext, run_stage

ROWS = [{"item": i, "replies": [{"text": f"é{i}", "finish_reason": "stop", "tokens": i}]} for i in range(5)]
NUL = b"\0" * 40 + b"\n"


@pytest.mark.slow
@given(st.data())
def test_a_damaged_log_gives_rows_as_they_were_or_none(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("log") / "votes.jsonl"
    scratch.append(path, *ROWS)
    whole = bytearray(path.read_bytes())
    how = data.draw(st.sampled_from(["flip", "cut", "nul", "line"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if how == "flip":
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del whole[at : at + data.draw(st.integers(1, 200))]
    else:
        whole[at:at] = NUL if how == "nul" else b'\n{"item": 0, "replies": []}\n'
    path.write_bytes(whole)
    found = scratch.recover(path, lambda row: "item" in row)
    assert all(row in ROWS for row in found) and len(found) >= len(ROWS) - 2 - 4 * (how == "cut")
    assert scratch.recover(path, lambda row: True) == found  # the damaged ones are out of the file


def test_what_a_damaged_log_lacks_is_asked_again_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, log, made = ask(Backwards(), 5, tmp_path), tmp_path / "log.jsonl", list[int]()
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([lines[0], lines[1].replace(b'"3"', b'"2"'), b"\0\0", *lines[2:]]))
    capsys.readouterr()
    assert ask(Backwards(), 5, tmp_path, made) == expected
    said = capsys.readouterr()
    assert made == [3] and "2 rows of log.jsonl are damaged" in said.err and not said.out


def response(key: str, text: str) -> Response:
    answers = [{"text": text, "finish_reason": "stop", "tokens": 3}]
    about = {"suite": "mmvp", "id": key, "purpose": "greedy", "image_sha256": "1", "prompt_sha256": "2"}
    return Response(key=key, **about, answers=answers)


def test_a_damaged_answer_is_drawn_again_and_never_scored(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    Store(path).put([response("a", "B"), response("b", "C")])
    assert [row["id"] for row in read(path)] == ["a", "b"]
    path.write_bytes(path.read_bytes().replace(b'"text": "C"', b'"text": "D"'))
    with pytest.raises(VZeroError, match="damaged"):
        read(path)
    store = Store(path)
    assert store.get("b") is None and store.get("a") == response("a", "B")["answers"]
    store.put([response("b", "C")])
    assert [row["answers"][0]["text"] for row in read(path)] == ["B", "C"]


def saved(folder: Path) -> list[Path]:
    """Two whole checkpoints, and the rows that a training went on to write."""
    rows = [folder / "metrics.jsonl", folder / "rollouts.jsonl"]
    for step in (2, 4):
        for path in rows:
            with open(path, "a") as stream:
                stream.write("".join(f'{{"step": {step - 1 + i}}}\n' for i in range(2)))
        place = folder / "trainer" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        for name in ("weight-0-of-1.safetensors", "trainer_state.json", "rng_state.pth", "training_args.bin"):
            (place / name).write_bytes(f"{name} {step}".encode() * 50)
        resume.mark(place, rows)
    with open(rows[0], "a") as stream:
        stream.write('{"step": 5}\n{"st')
    return rows


def flip(path: Path, at: int = 5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("weight-0-of-1.safetensors", 2),
        ("trainer_state.json", 2),
        ("rng_state.pth", 2),
        ("complete.json", 2),
        ("training_args.bin", 4),  # never read
        ("rows, late", 2),
        ("rows, early", None),
        ("rows, cut", 2),
        ("rows, gone", None),
        ("spec", None),
    ],
)
def test_a_checkpoint_that_does_not_match_is_not_there(tmp_path: Path, name: str, left: int | None) -> None:
    rows, output = saved(tmp_path), tmp_path / "trainer"
    if name == "rows, cut":
        rows[1].write_bytes(rows[1].read_bytes()[:-12])
    elif name == "rows, gone":
        rows[0].unlink()
    elif name == "spec":  # all of it is another training's
        artefacts.write_json(tmp_path / scratch.SPEC, {"seed": 1})
    elif name.startswith("rows"):
        flip(rows[0], 9 if name == "rows, early" else 12 * 3 + 9)
    else:
        flip(output / "checkpoint-4" / name, 3)
    found = resume.last_whole(output, rows)
    assert found == (None if left is None else (output / f"checkpoint-{left}", left))
    resume.rewind(found[0] if found else None, rows)
    steps = [f'{{"step": {step}}}\n' for step in range(1, (left or 0) + 1)]
    assert [path.read_text() for path in rows] == ["".join(steps)] * 2


def test_one_checkpoint_is_kept_beside_the_one_that_is_written(tmp_path: Path) -> None:
    saved(tmp_path)
    shutil.copytree(tmp_path / "trainer" / "checkpoint-4", tmp_path / "trainer" / "checkpoint-10")
    resume.keep_newest(tmp_path / "trainer")
    assert [path.name for path in (tmp_path / "trainer").iterdir()] == ["checkpoint-10"]


@pytest.mark.parametrize("spoilt", [b"", b"\0\0", b"[", b"\xff", b'{"kind": "images"}', b"[" * 100_000])
def test_a_stage_whose_scratch_cannot_be_read_begins_anew(tmp_path: Path, spoilt: bytes) -> None:
    run, work = new_run(tmp_path), tmp_path / "stages" / STAGE / "work"

    def die(context: StageContext) -> dict[str, object]:
        (context.work / "votes.jsonl").write_text("{}")
        raise Killed

    with pytest.raises(Killed):
        run_stage(run, STAGE, {"images": die})
    (work / "spec.json").write_bytes(spoilt)
    run_stage(run, STAGE, {"images": draw})
    assert list(files(run)) == ["images/one.txt"] and not work.exists()


def test_a_read_that_fails_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error, a stale handle or too many open files pass; what could not be read may be whole."""
    seal = tmp_path / "stage" / "manifest.json"
    artefacts.write_json(seal, {"spec": {}, "files": {}, "facts": {}, "spec_digest": "x"})
    spec = tmp_path / "begun" / "work" / "spec.json"
    artefacts.write_json(spec, {"a": 1})
    marker = tmp_path / "checkpoint-4" / resume.MARKER
    artefacts.write_json(marker, {})

    def fails(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(owned, "read_bytes", fails)
    for attempt in (
        lambda: artefacts.sealed(seal.parent),
        lambda: stage._begin(spec.parents[1], {"a": 1}),
        lambda: resume.last_whole(tmp_path),
    ):
        with pytest.raises(OSError, match="Input/output error"):
            attempt()
    assert seal.exists() and spec.exists() and marker.exists()
