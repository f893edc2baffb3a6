"""One stage as a process would run it, killed at each moment that leaves something behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vzero.errors import InputError
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime import stage as stages
from vzero.runtime.stage import StageContext, finished, main, run_stage, spec_of
from vzero.selfplay import plan

STAGE = "00-images"
# What a library might run or unpickle.
STRANGE = (
    "tasks/evil.py",
    "tasks/evil.yaml",
    "no-cache/x.pickle",
    "trainer/args.bin",
    "a.so",
    "json",
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program catches it."""


def new_run(folder: Path, **changes: Any) -> Path:
    preset = load_preset("smoke", changes=changes)
    artefacts.write_json(folder / "run.json", {"preset": preset.model_dump(mode="json")})
    return folder


def draw(context: StageContext) -> dict[str, Any]:
    artefacts.write_text(context.folder / "images" / "one.txt", f"seed {context.preset.seed}")
    context.progress.update(1, 1, "images")
    return {"images": 1}


def never(context: StageContext) -> dict[str, Any]:
    raise AssertionError("a finished stage ran again")


def files(run: Path) -> dict[str, str]:
    return artefacts.read_json(run / "stages" / STAGE / artefacts.MANIFEST)["files"]


def killed_at(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, before: Callable[..., None]) -> None:
    def die(*words: Any) -> None:
        before(*words)
        raise Killed

    monkeypatch.setattr(place, name, die)


def test_a_stage_is_sealed_once(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run_stage(run, STAGE, {"images": draw})
    assert list(files(run)) == ["images/one.txt"]
    assert not (run / "stages" / STAGE / artefacts.WORK).exists()
    run_stage(run, STAGE, {"images": never})


def test_of_a_resumed_attempt_only_data_is_kept(tmp_path: Path) -> None:
    run, found = new_run(tmp_path), []

    def die(context: StageContext) -> dict[str, Any]:
        for name in ("votes.jsonl", "sft/weight-0-of-1.safetensors", *STRANGE):
            (context.work / name).parent.mkdir(parents=True, exist_ok=True)
            (context.work / name).write_text("{}")
        raise Killed

    def look(context: StageContext) -> dict[str, Any]:
        found.extend(p.relative_to(context.work).as_posix() for p in context.work.rglob("*") if p.is_file())
        return {}

    with pytest.raises(Killed):
        run_stage(run, STAGE, {"images": die})
    run_stage(run, STAGE, {"images": look})
    assert sorted(found) == ["sft/weight-0-of-1.safetensors", "spec.json", "votes.jsonl"]


def test_a_kill_while_the_manifest_is_written_leaves_nothing_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = new_run(tmp_path), tmp_path / "stages" / STAGE

    def half_a_manifest(*_: Any) -> None:
        (folder / f".{artefacts.MANIFEST}.123.tmp").write_text('{"spec": {')
        (folder / "images" / ".one.txt.123.tmp").write_text("see")

    killed_at(monkeypatch, artefacts, "seal", half_a_manifest)
    with pytest.raises(Killed):
        run_stage(run, STAGE, {"images": draw})
    monkeypatch.undo()
    assert finished(run, load_preset("smoke"), plan(load_preset("smoke"))[0]) is None
    run_stage(run, STAGE, {"images": draw})
    assert list(files(run)) == ["images/one.txt"]


def test_a_kill_after_the_seal_needs_no_second_run_and_leaves_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = new_run(tmp_path), tmp_path / "stages" / STAGE
    killed_at(monkeypatch, stages.shutil, "rmtree", lambda *_: None)
    with pytest.raises(Killed):
        run_stage(run, STAGE, {"images": draw})
    monkeypatch.undo()
    assert (folder / artefacts.WORK / "spec.json").exists()
    run_stage(run, STAGE, {"images": never})
    assert not (folder / artefacts.WORK).exists()


def test_a_killed_attempt_is_resumed_from_the_same_spec_alone(tmp_path: Path) -> None:
    def dies(context: StageContext) -> dict[str, Any]:
        artefacts.append_jsonl(context.work / "log.jsonl", {"row": 1})
        raise Killed

    def sees(context: StageContext) -> dict[str, Any]:
        return {
            "rows": len(artefacts.read_jsonl(context.work / "log.jsonl"))
            if (context.work / "log.jsonl").exists()
            else 0
        }

    def facts(run: Path) -> int:
        return artefacts.read_json(run / "stages" / STAGE / artefacts.MANIFEST)["facts"]["rows"]

    for seed, rows in ((0, 1), (1, 0)):
        run = new_run(tmp_path / str(seed))
        with pytest.raises(Killed):
            run_stage(run, STAGE, {"images": dies})
        new_run(run, seed=seed)
        run_stage(run, STAGE, {"images": sees})
        assert facts(run) == rows


def test_the_base_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.json", "model.safetensors"):
        (base / name).write_text("{}")
    preset = load_preset("smoke", changes={"model": str(base)})
    evaluate = plan(preset)[1]
    first = spec_of(tmp_path, preset, evaluate)
    with monkeypatch.context() as patch:  # hashed once, however often it is asked
        patch.setattr(artefacts, "sha256_file", never)
        assert spec_of(tmp_path, preset, evaluate) == first
    (base / "model.safetensors").write_text("[]")  # as long as before
    os.utime(base / "model.safetensors", ns=(1, 1))  # and written later, however coarse the clock
    second = spec_of(tmp_path, preset, evaluate)
    assert second["inputs"] != first["inputs"]
    shutil.copytree(base, tmp_path / "copy")
    moved = load_preset("smoke", changes={"model": str(tmp_path / "copy")})
    assert spec_of(tmp_path, moved, plan(moved)[1])["inputs"] == second["inputs"]


def test_wrong_use_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path / "run")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text('{"preset": {"name"')
    for words in (
        [],
        [str(run)],
        [str(run), "99-none"],
        [str(run), "04-label-1"],
        [str(tmp_path), STAGE],
        [str(tmp_path / "damaged"), STAGE],
    ):
        assert main({"images": draw, "label": draw}, words) == InputError.exit_code
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, words


def test_a_row_that_does_not_fit_the_disk_is_an_error(tmp_path: Path) -> None:
    """A write may be cut short without failing; a row lost so would shift all that follow it in a resumed
    stage."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from vzero.runtime.artefacts import append_jsonl\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "path = Path(sys.argv[1]); append_jsonl(path, {'row': 'x' * 60})\n"
        "try: append_jsonl(path, {'row': 'y' * 60})\n"
        "except OSError: print('refused')"
    )
    path = tmp_path / "log.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    artefacts.append_jsonl(path, {"row": "z"})
    assert [row["row"][0] for row in artefacts.read_jsonl(path)] == ["x", "z"]
