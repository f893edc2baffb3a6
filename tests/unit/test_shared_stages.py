"""Stages shared by content: linked, checked, dropped when damaged, done by one process at a time, whole after
a kill."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from harness.runs.shared_stages import SharedStages
from vzero.runtime import artefacts


def sealed_stage(folder: Path, text: str = "one", seed: int = 0) -> str:
    artefacts.write_text(folder / "images" / "a.txt", text)
    artefacts.write_jsonl(folder / "rows.jsonl", [{"x": 1}])
    return artefacts.seal(folder, {"kind": "images", "seed": seed}, {"seconds": 3.0})["spec_digest"]


def test_a_stage_is_linked_in_and_out(tmp_path: Path) -> None:
    store, made, taken = SharedStages(tmp_path / "store"), tmp_path / "made", tmp_path / "taken"
    digest = sealed_stage(made)
    assert store.fetch(digest, taken) is None
    store.publish(made)
    store.publish(made)  # a second time changes nothing
    artefacts.write_text(taken / "left over.txt", "from a killed attempt")
    manifest = store.fetch(digest, taken)
    assert manifest is not None and manifest["facts"] == {"seconds": 3.0}
    assert artefacts.folder_hashes(taken) == artefacts.folder_hashes(made) and artefacts.sealed(
        taken
    ) == artefacts.sealed(made)
    assert (made / "rows.jsonl").stat().st_ino == (taken / "rows.jsonl").stat().st_ino
    artefacts.write_jsonl(
        taken / "rows.jsonl", [{"x": 2}]
    )  # a rewrite is a new file: the other run keeps its own
    assert artefacts.read_jsonl(made / "rows.jsonl") == [{"x": 1}]


@pytest.mark.parametrize("harm", ["change", "delete", "torn manifest"])
def test_a_damaged_entry_is_put_there_again_by_a_run_that_has_the_stage(tmp_path: Path, harm: str) -> None:
    """A grid that was copied: its files are shared no longer, and one of the store's is damaged."""
    store, made = SharedStages(tmp_path / "store"), tmp_path / "made"
    digest = sealed_stage(made)
    store.publish(made)
    entry = tmp_path / "store" / digest
    shutil.copytree(entry, tmp_path / "copy")
    shutil.rmtree(entry)
    (tmp_path / "copy").rename(entry)
    store.publish(made)
    assert (entry / "rows.jsonl").stat().st_ino != (made / "rows.jsonl").stat().st_ino  # sound: left alone
    path = entry / (artefacts.MANIFEST if harm == "torn manifest" else "rows.jsonl")
    path.unlink()
    if harm != "delete":
        path.write_text('{"x": 2')
    store.publish(made)
    assert store.fetch(digest, tmp_path / "taken") == artefacts.sealed(made)


@pytest.mark.parametrize("harm", ["change", "delete", "add", "torn manifest"])
def test_a_damaged_stage_is_dropped_and_made_anew(tmp_path: Path, harm: str) -> None:
    store, made = SharedStages(tmp_path / "store"), tmp_path / "made"
    digest = sealed_stage(made)
    store.publish(made)
    entry = tmp_path / "store" / digest
    if harm == "change":
        with open(entry / "rows.jsonl", "a") as stream:
            stream.write("{}\n")
    elif harm == "delete":
        (entry / "rows.jsonl").unlink()
    elif harm == "add":
        (entry / "more.txt").write_text("x")
    else:
        artefacts.write_text(entry / artefacts.MANIFEST, '{"spec": {')
    assert (
        store.fetch(digest, tmp_path / "taken") is None
        and not (tmp_path / "taken").exists()
        and not entry.exists()
    )
    sealed_stage(tmp_path / "again")
    store.publish(tmp_path / "again")
    assert store.fetch(digest, tmp_path / "taken") is not None


def test_a_stage_of_another_spec_under_this_name_is_not_taken(tmp_path: Path) -> None:
    store = SharedStages(tmp_path / "store")
    digest, other = sealed_stage(tmp_path / "made"), "0" * 64
    store.publish(tmp_path / "made")
    (tmp_path / "store" / digest).rename(tmp_path / "store" / other)
    assert store.fetch(other, tmp_path / "taken") is None


def test_a_kill_while_linking_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made, link, count = SharedStages(tmp_path / "store"), tmp_path / "made", os.link, []

    def dies(*words: object, **more: object) -> None:
        if len(count) == 2:  # all files are linked, the manifest is not
            raise KeyboardInterrupt
        count.append(1)
        link(*words, **more)  # type: ignore[arg-type]

    digest = sealed_stage(made)
    monkeypatch.setattr(os, "link", dies)
    with pytest.raises(KeyboardInterrupt):
        store.publish(made)
    assert not (tmp_path / "store" / digest).exists()
    monkeypatch.undo()
    store.publish(made)
    monkeypatch.setattr(os, "link", dies)
    count.clear()
    with pytest.raises(KeyboardInterrupt):
        store.fetch(digest, tmp_path / "taken")
    assert artefacts.sealed(tmp_path / "taken") is None  # not finished, so a runner does not trust it
    monkeypatch.undo()
    assert store.fetch(digest, tmp_path / "taken") is not None


def test_leftovers_of_dead_processes_are_swept_and_others_are_not(tmp_path: Path) -> None:
    store = SharedStages(tmp_path)
    dead = multiprocessing.get_context("spawn").Process(target=int)
    dead.start()
    dead.join()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f".{'a' * 64}.{pid}.tmp").mkdir()
    store.sweep()
    assert [path.name.split(".")[-2] for path in tmp_path.glob(".*.tmp")] == [str(os.getppid())]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EIO, 524])
def test_where_links_are_refused_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuses)
    store = SharedStages(tmp_path / "store")
    digest = sealed_stage(tmp_path / "made")
    store.publish(tmp_path / "made")
    assert store.fetch(digest, tmp_path / "taken") is not None
    assert artefacts.folder_hashes(tmp_path / "taken") == artefacts.folder_hashes(tmp_path / "made")


def _work(folder: Path, log: Path, digest: str) -> None:
    store = SharedStages(folder)
    with store.claim(digest) as claimed:
        if not claimed():
            artefacts.append_jsonl(log.with_suffix(".waits"), {"pid": os.getpid()})
            while not claimed():
                time.sleep(0.05)
        if store.fetch(digest, log.parent / f"taken-{os.getpid()}") is None:
            artefacts.append_jsonl(log, {"pid": os.getpid()})
            time.sleep(1.0)  # long enough for the other one to come
            made = log.parent / f"made-{os.getpid()}"
            sealed_stage(made)
            store.publish(made)


def test_two_processes_do_a_stage_once(tmp_path: Path) -> None:
    digest = sealed_stage(tmp_path / "scratch")
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_work, args=(tmp_path / "store", tmp_path / "log.jsonl", digest))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    done = artefacts.read_jsonl(tmp_path / "log.jsonl")
    assert len(done) == 1 and len(artefacts.read_jsonl(tmp_path / "log.waits")) == 1
    [other] = [worker.pid for worker in workers if worker.pid != done[0]["pid"]]
    assert artefacts.sealed(tmp_path / f"taken-{other}") is not None
