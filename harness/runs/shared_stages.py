"""Finished stages that several runs share, by the digest of what determines them.

FOLDER/<spec digest>/…      a sealed stage folder, hard links to the files of the run that made it
FOLDER/locks/<digest>.lock  held by the operating system while a process works on that stage

An entry appears by a rename and is complete from then on; a kill leaves at worst a folder of a name that
nobody reads, which the next process removes. An entry is checked against its manifest each time it is taken,
and dropped when it does not hold.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vzero.runtime import artefacts, owned


@dataclass(frozen=True)
class SharedStages:
    """Stages in `folder`, which is made when the first one comes."""

    folder: Path

    @contextmanager
    def claim(self, digest: str) -> Iterator[Callable[[], bool]]:
        """Gives a question: whether this is the only process to work on the stage `digest` now, which it then
        stays to the end of the body. Asked again while another one is."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        descriptor = owned.open_own(locks / f"{digest}.lock", os.O_RDWR | os.O_CREAT)

        def claimed() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        try:
            yield claimed
        finally:
            os.close(descriptor)

    def fetch(self, digest: str, into: Path) -> dict[str, Any] | None:
        """Put the stage `digest` into the folder `into` (whatever was there goes); its manifest, or None
        where there is no sound one."""
        source = self.folder / digest
        manifest = artefacts.sealed(source)
        if (
            manifest is None
            or manifest["spec_digest"] != digest
            or artefacts.folder_hashes(source) != manifest["files"]
        ):
            shutil.rmtree(source, ignore_errors=True)
            return None
        shutil.rmtree(into, ignore_errors=True)
        _link(source, into, manifest["files"])
        return manifest

    def publish(self, stage: Path) -> None:
        """Put a sealed stage folder, whose files were checked, here, unless it is here already and sound."""
        manifest = artefacts.sealed(stage)
        assert manifest is not None, f"{stage} is not sealed"
        digest = manifest["spec_digest"]
        if _sound(self.folder / digest, stage):
            return
        shutil.rmtree(self.folder / digest, ignore_errors=True)
        staging = self.folder / f".{digest}.{os.getpid()}.tmp"
        shutil.rmtree(staging, ignore_errors=True)
        _link(stage, staging, manifest["files"])
        try:
            staging.rename(self.folder / digest)
        except OSError as error:  # another process was quicker
            shutil.rmtree(staging, ignore_errors=True)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def sweep(self) -> None:
        """Remove what killed processes left half linked."""
        for path in self.folder.glob(".*.tmp"):
            pid = path.name.split(".")[-2]
            if not (pid.isdecimal() and Path(f"/proc/{pid}").exists()):
                shutil.rmtree(path, ignore_errors=True)


def _sound(entry: Path, stage: Path) -> bool:
    """Whether an entry is as it was sealed; files that it shares with `stage` need not be read for that."""
    manifest = artefacts.sealed(entry)
    try:
        return manifest is not None and all(
            os.path.samefile(entry / name, stage / name) or artefacts.sha256_file(entry / name) == digest
            for name, digest in manifest["files"].items()
        )
    except OSError:
        return False


def _link(source: Path, target: Path, files: dict[str, str]) -> None:
    """Hard links (copies where the file system has none) of `files`, and the manifest last, since it is what
    makes a folder finished."""
    for folder in sorted({(target / name).parent for name in files} | {target}):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (*files, artefacts.MANIFEST):
        try:
            os.link(source / name, target / name)
        except OSError:  # whatever the file system has against links; a copy says what else is wrong
            artefacts.write_bytes(target / name, (source / name).read_bytes())
