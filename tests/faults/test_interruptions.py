"""The runner killed, stopped, doubled, starved of disk and lied to, with the real images stage."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.made_once import made_once

Launch = Callable[..., "subprocess.Popen[str]"]  # fixture `launch`: program, words -> process
Tools = SimpleNamespace
STAGE = Path("stages/00-images")
LONG = (
    "train",
    "--preset",
    "smoke",
    "--set",
    "images.count=30000",
)  # minutes of drawing: nobody waits for its end


def events(run: Path) -> list[str]:
    path = run / "ledger.jsonl"
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / STAGE / "manifest.json").read_text())


def drawing(run: Path) -> Callable[[], bool]:
    return lambda: (run / STAGE / "images").exists() and any((run / STAGE / "images").iterdir())


def finish(launch: Launch, tools: Tools, run: Path, *settings: str) -> tuple[int, str, str]:
    process = launch(tools.IMAGES_ONLY, str(run), *settings)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def hung_up() -> Iterator[None]:
    """Programs that are started here end by SIGHUP, also where these tests ignore it (nohup)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hung_up")
def test_a_signal_and_a_second_one_stop_everything_and_exit_75(
    launch: Launch, tools: Tools, tmp_path: Path
) -> None:
    for times, number, name in (
        (1, signal.SIGTERM, "SIGTERM"),
        (2, signal.SIGINT, "Ctrl-C"),
        (1, signal.SIGHUP, "the closing of the terminal"),
    ):
        run = tmp_path / name.replace(" ", "-")
        process = launch(tools.COMMAND, *LONG, "--out", str(run))
        tools.wait_for(drawing(run), "the stage to draw")
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.01)  # or two would be one
        _, err = process.communicate(timeout=120)
        assert process.returncode == 75
        assert err == f"Stopped by {name}; run the same command again to resume.\n"
        assert tools.processes_of(run) == []
        assert events(run)[-1] == "stage-interrupted"
        assert not (run / STAGE / "manifest.json").exists()


def test_kill_9_leaves_no_orphan_and_no_stale_lock(launch: Launch, tools: Tools, tmp_path: Path) -> None:
    process = launch(tools.COMMAND, *LONG, "--out", str(tmp_path / "run"))
    tools.wait_for(drawing(tmp_path / "run"), "the stage to draw")
    assert len(tools.processes_of(tmp_path / "run")) == 3  # runner, guard, stage
    process.kill()
    tools.wait_for(lambda: tools.processes_of(tmp_path / "run") == [], "the stage to die with its runner")
    # The lock went with them: the folder can be taken again (and its settings are still known).
    code, _, err = finish(launch, tools, tmp_path / "run", "images.count=1")
    assert code == 2 and "(images.count)" in err


def test_kills_at_any_moment_end_in_the_undisturbed_result(
    launch: Launch, tools: Tools, tmp_path: Path
) -> None:
    settings = ("images.count=300",)
    assert finish(launch, tools, tmp_path / "calm", *settings)[0] == 0
    run = tmp_path / "killed"
    moments: list[Callable[[], bool]] = [
        lambda: (run / ".lock").exists(),
        lambda: (run / "run.json").exists(),
        lambda: (run / "logs").exists(),
        lambda: (run / STAGE / "work" / "spec.json").exists(),
        drawing(run),
        lambda: (run / STAGE / "ground_truth.jsonl").exists(),
        lambda: (run / STAGE / "manifest.json").exists(),
    ]
    for moment in moments:
        process = launch(tools.IMAGES_ONLY, str(run), *settings)
        tools.wait_for(
            lambda moment=moment, process=process: moment() or process.poll() is not None,
            "the moment to kill",
        )
        process.kill()
        process.wait()
    (run / STAGE / ".images.jsonl.99.tmp").write_text("torn")  # as a kill inside an atomic write leaves it
    code, _, err = finish(launch, tools, run, *settings)
    assert (code, err) == (0, "")
    assert manifest(run)["files"] == manifest(tmp_path / "calm")["files"]
    assert not (run / STAGE / ".images.jsonl.99.tmp").exists()
    assert manifest(run)["spec_digest"] == manifest(tmp_path / "calm")["spec_digest"]
    assert not (run / STAGE / "work").exists()


@pytest.fixture
def finished_run(
    launch: Launch, tools: Tools, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Path:
    """A run of three images, finished: a copy for this test alone."""

    def make(folder: Path) -> None:
        assert finish(launch, tools, folder, "images.count=3")[0] == 0

    made = made_once(tmp_path_factory, "three-images", make)
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_finished_stages_are_kept(launch: Launch, tools: Tools, finished_run: Path) -> None:
    run = finished_run
    before = manifest(run)
    code, out, _ = finish(launch, tools, run, "images.count=3")
    assert code == 0 and out.startswith("[1/1] 00-images already done")
    assert manifest(run) == before and events(run).count("stage-started") == 1


@pytest.mark.parametrize("harm", ["change", "delete", "add", "manifest"])
def test_a_finished_stage_that_was_tampered_with_is_done_again(
    launch: Launch, tools: Tools, finished_run: Path, harm: str
) -> None:
    run = finished_run
    before = manifest(run)["files"]
    name = {
        "change": "images.jsonl",
        "delete": "ground_truth.jsonl",
        "add": "extra.txt",
        "manifest": "manifest.json",
    }[harm]
    path = run / STAGE / name
    path.unlink(missing_ok=True)
    if harm != "delete":
        path.write_text("{torn" if harm == "manifest" else "other")
    code, out, _ = finish(launch, tools, run, "images.count=3")
    assert code == 0 and f"{name} changed since it was finished; doing it again" in out
    assert manifest(run)["files"] == before and not (run / STAGE / "extra.txt").exists()


def test_a_second_run_in_one_directory_is_refused_with_the_first_ones_pid(
    launch: Launch, tools: Tools, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = launch(tools.COMMAND, *LONG, "--out", str(run))
    tools.wait_for(drawing(run), "the first run to draw")
    for words in ((), ("--fresh",)):
        second = launch(tools.COMMAND, *LONG, "--out", str(run), *words)
        _, err = second.communicate(timeout=120)
        assert second.returncode == 2
        busy = f"error: Another run (process {first.pid}) is working in {run}; "
        assert err == busy + "wait for it or choose another --out.\n"
    assert first.poll() is None and drawing(run)()


def test_a_stage_killed_for_memory_is_resumable(launch: Launch, tools: Tools, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(tools.COMMAND, *LONG, "--out", str(run))
    tools.wait_for(drawing(run), "the stage to draw")
    stage = max(tools.processes_of(run))
    assert b"vzero.stages" in Path(f"/proc/{stage}/cmdline").read_bytes()
    subprocess.run(["kill", "-9", str(stage)], check=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert err.count("\n") == 1 and "SIGKILL" in err and "00-images.log" in err
    assert tools.processes_of(run) == []


def test_a_full_disk_is_one_sentence_and_the_run_resumes(
    launch: Launch, tools: Tools, tmp_path: Path
) -> None:
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode
    ):
        pytest.skip("a small file system needs unprivileged mounts (unshare -rm)")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, save = f"mount -t tmpfs -o size=300k tmpfs {disk}", f"cp -r {disk}/run {tmp_path}/saved"
    script = f'{mount} && "$@"; code=$?; {save}; exit $code'
    process = launch(
        tools.IMAGES_ONLY,
        str(disk / "run"),
        "images.count=300",
        prefix=("unshare", "-rm", "sh", "-c", script, "sh"),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert err.count("\n") == 1 and "No space left" in err and "run the same command again" in err
    run = tmp_path / "saved"
    assert not (run / STAGE / "manifest.json").exists()
    assert finish(launch, tools, run, "images.count=300")[0] == 0  # with room again
    assert len(manifest(run)["files"]) == 303
    assert "stage-finished" in events(run)
