"""The usable ones of many pictures: each is decoded once, copies and broken ones are skipped by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vzero.config import ImagesConfig
from vzero.images.decoding import Unusable, decode, sha256, shown
from vzero.runtime.progress import Progress

# Where a picture may be (a path, or file and row), and its bytes: None where it does not claim to be one.
Candidate = tuple[str, Callable[[], bytes | None]]


def usable(
    candidates: Iterable[Candidate], config: ImagesConfig, progress: Progress, copy_to: Path | None
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The rows of the first `config.count` usable pictures, and what was skipped with the reason.

    Args:
        candidates: in the order in which they are taken.
        config: how many, and how large.
        progress: updated after each usable one.
        copy_to: a stage's folder that the pictures are copied into; None where they are files already.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    first: dict[str, str] = {}  # content -> where it was seen first
    for place, read in candidates:
        try:
            if (data := read()) is None:
                continue
            image, digest = decode(data, config.max_megapixels * 1e6), sha256(data)
            if digest in first:
                raise Unusable(f"same content as {first[digest]}")
        except Unusable as error:
            skipped.append({"path": place, "reason": str(error)})
            print(f"skipped {shown(place)}: {error}", file=sys.stderr)
            continue
        first[digest], image_id = place, digest[:16]
        if copy_to is not None:  # not synced one by one: a killed stage copies all again before it is sealed
            place = f"images/{image_id}"
            (copy_to / "images").mkdir(parents=True, exist_ok=True)
            (copy_to / place).write_bytes(data)
        size = {"width": image.width, "height": image.height}
        rows.append({"image_id": image_id, "path": place, "sha256": digest, **size})
        progress.update(len(rows), config.count, "images")
        if len(rows) == config.count:
            break
    return rows, skipped
