"""Pictures in files of somebody's folder: only regular files that lie in it are opened. Its links and names
do not choose which files of this machine are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from vzero.errors import machine_failure
from vzero.images.decoding import HEAD, Unusable, check_format, check_size, most_bytes


def open_below(path: Path, root: Path) -> BinaryIO:
    """A regular file that lies below `root` when links are resolved.

    Raises:
        Unusable: it is something else, or cannot be opened.
        InterruptedRun: the disk fails, or no more files can be opened.
    """
    try:
        real = path.resolve(strict=True)
        kind = real.stat().st_mode
        if not any(map(real.is_relative_to, _roots(root.resolve()))):
            raise Unusable("outside the folder that was given")
        if stat.S_ISDIR(kind):
            raise Unusable("a folder that is a link or cannot be listed (Is a directory)")
        # Looked at before it is opened, since opening a device may do something, and again afterwards.
        descriptor = -1
        if stat.S_ISREG(kind):
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0 or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unusable("not a regular file")
        return open(descriptor, "rb")
    except OSError as error:
        raise machine_failure(error, path) or Unusable(f"cannot be read: {error.strerror}") from None
    except (RuntimeError, ValueError):  # a loop of links; no name of a file
        raise Unusable("cannot be read: no path to a file") from None


def content(stream: BinaryIO, most: float = 2e9) -> bytes:
    """What a file holds when it is opened.

    Raises:
        Unusable: more than `most` bytes.
    """
    size = os.fstat(stream.fileno()).st_size
    check_size(size, most)
    return stream.read(size)


def _roots(root: Path) -> tuple[Path, ...]:
    """A snapshot of the hub is made of links to files in a folder beside all snapshots."""
    snapshot = next((one for one in (root, *root.parents) if one.parent.name == "snapshots"), None)
    return (root, snapshot.parents[1] / "blobs") if snapshot else (root,)


def picture_bytes(path: Path, root: Path, max_pixels: float) -> bytes:
    """The bytes of a picture's file, which is known by its first ones, whatever its name says.

    Raises:
        Unusable: as `open_below`, or it is no picture within the limits.
    """
    with open_below(path, root) as stream:
        try:
            check_format(stream.read(HEAD), path.suffix.lower())
            stream.seek(0)
            return content(stream, most_bytes(max_pixels))
        except OSError as error:
            raise machine_failure(error, path) or Unusable(f"cannot be read: {error.strerror}") from None
