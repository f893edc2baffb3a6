"""Images out of a folder, searched recursively in the order of its paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vzero.config import ImagesConfig
from vzero.errors import InputError
from vzero.images.decoding import SUFFIXES, Unusable, check_bytes, shown
from vzero.images.usable import Candidate


def pictures(config: ImagesConfig) -> Iterator[Candidate]:
    """What may be a picture, in order, by its path."""
    for path in candidates(Path(config.source).absolute()):
        yield str(path), partial(_read, path, config.max_megapixels * 1e6)


def candidates(root: Path) -> Iterator[Path]:
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
            yield from candidates(Path(entry.path))
        else:
            yield Path(entry.path)


def _read(path: Path, max_pixels: float) -> bytes | None:
    """The bytes of a file; None for one that neither is named nor looks like a picture.

    Raises:
        Unusable: it cannot be read, or is no picture within the limits.
    """
    named = path.suffix.lower() in SUFFIXES
    try:
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            raise Unusable("a folder that is a link or cannot be listed")
        if not named and not (regular and _looks_like_a_picture(path)):
            return None
        if not regular:
            raise Unusable("not a regular file")
        check_bytes(status.st_size, max_pixels)
        return path.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None


def _looks_like_a_picture(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture, whatever its name says."""
    with open(path, "rb") as stream:
        head = stream.read(16)
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:12] in (b"ftypavif", b"ftypavis")
    )
