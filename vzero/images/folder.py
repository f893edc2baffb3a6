"""Images out of a folder, searched recursively in the order of its paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vzero.errors import InputError
from vzero.images.decoding import shown
from vzero.images.files import picture_bytes
from vzero.images.usable import Candidate


def pictures(root: Path, max_pixels: float) -> Iterator[Candidate]:
    """What may be a picture, in order, by its absolute path."""
    for path in _files(root.absolute()):
        yield str(path), partial(picture_bytes, path, root, max_pixels)


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
