"""Images out of a folder, searched recursively in the order of its paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vzero.errors import InputError, machine_failure
from vzero.images.decoding import shown
from vzero.images.files import picture_bytes
from vzero.images.usable import Candidate


def pictures(root: Path, max_pixels: float) -> Iterator[Candidate]:
    """What may be a picture, in order, by its absolute path."""
    for path in files(root.absolute()):
        yield str(path), partial(picture_bytes, path, root, max_pixels)


def files(root: Path) -> Iterator[Path]:
    """Files below `root`, sorted by path, folder by folder, however deep. A linked folder (it could be a
    cycle) or one that cannot be listed is yielded itself, to be skipped by name.

    Raises:
        InputError: `root` is not a folder that can be listed.
    """
    try:
        open_folders = [_entries(root)]
    except OSError as error:
        reason = f"Cannot read the image folder {shown(root)}: {error.strerror}."
        raise machine_failure(error, root) or InputError(reason) from None
    while open_folders:
        if (entry := next(open_folders[-1], None)) is None:
            open_folders.pop()
            continue
        try:
            listed = entry.is_dir(follow_symlinks=False) and os.access(entry.path, os.R_OK | os.X_OK)
            inner = _entries(Path(entry.path)) if listed else None
        except OSError as error:
            if failure := machine_failure(error, entry.path):
                raise failure from None
            inner = None
        if inner is None:
            yield Path(entry.path)
        else:
            open_folders.append(inner)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return iter(sorted(entries, key=lambda entry: entry.name))
