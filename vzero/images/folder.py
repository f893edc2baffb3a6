"""Images out of a folder, searched recursively in the order of its paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vzero.errors import InputError
from vzero.images.decoding import HEAD, Unusable, check_bytes, check_format, shown
from vzero.images.usable import Candidate


def pictures(root: Path, max_pixels: float) -> Iterator[Candidate]:
    """What may be a picture, in order, by its absolute path."""
    for path in _files(root.absolute()):
        yield str(path), partial(_read, path, max_pixels)


def _files(root: Path) -> Iterator[Path]:
    """Files below `root`, sorted by path, folder by folder. A linked folder (it could be a cycle) or one that
    cannot be listed is yielded itself, to be skipped by name.

    Raises:
        InputError: `root` is not a folder that can be listed.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"Cannot read the image folder {shown(root)}: {error.strerror}.") from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and os.access(entry.path, os.R_OK | os.X_OK):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _read(path: Path, max_pixels: float) -> bytes:
    """The bytes of a file, which is known by its first ones, whatever its name says.

    Raises:
        Unusable: it cannot be read, or is no picture within the limits.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Unusable("a folder that is a link or cannot be listed")
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("not a regular file")
        with open(path, "rb") as stream:
            check_format(stream.read(HEAD), path.suffix.lower())
            check_bytes(status.st_size, max_pixels)
            stream.seek(0)
            return stream.read()
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None
