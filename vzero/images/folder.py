"""Images out of a folder, searched recursively in the order of its paths."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vzero.config import ImagesConfig
from vzero.errors import InputError
from vzero.images.decoding import BYTES_PER_PIXEL, SUFFIXES, Unusable, decode, sha256, shown
from vzero.runtime.stage import StageContext


def collect(context: StageContext, config: ImagesConfig) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    root = Path(config.source).absolute()
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    first: dict[str, str] = {}  # content -> where it was seen first
    for path in candidates(root):
        try:
            row = _examine(path, config.max_megapixels * 1e6)
            if row is None:
                continue
            if row["sha256"] in first:
                raise Unusable(f"same content as {first[row['sha256']]}")
        except Unusable as error:
            skipped.append({"path": str(path), "reason": str(error)})
            print(f"skipped {shown(path)}: {error}", file=sys.stderr)
            continue
        first[row["sha256"]] = str(path)
        rows.append(row)
        context.progress.update(len(rows), config.count, "images")
        if len(rows) == config.count:
            break
    if not rows:
        raise InputError(
            f"No usable picture in {shown(root)} ({len(skipped)} skipped); give --images a folder with JPEG, PNG, WebP, "
            "BMP, GIF or TIFF files."
        )
    return rows, skipped


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


def _examine(path: Path, max_pixels: float) -> dict[str, Any] | None:
    """The row of a usable picture; None for a file that neither is named nor looks like one."""
    named = path.suffix.lower() in SUFFIXES
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Unusable("a folder that is a link or cannot be listed")
        if not named and not (stat.S_ISREG(status.st_mode) and _sniff(path)):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("not a regular file")
        if status.st_size > max_pixels * BYTES_PER_PIXEL + 1_000_000:
            raise Unusable(f"too large: a file of {status.st_size / 1e6:.0f} MB")
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None
    image = decode(data, max_pixels)
    digest = sha256(data)
    return {
        "image_id": digest[:16],
        "path": str(path),
        "sha256": digest,
        "width": image.width,
        "height": image.height,
    }


def _sniff(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture, whatever its name says."""
    with open(path, "rb") as stream:
        head = stream.read(16)
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:12] in (b"ftypavif", b"ftypavis")
    )
