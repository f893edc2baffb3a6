"""The usable ones of many pictures: each is decoded once, copies and broken ones are skipped by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vzero.config import ImagesConfig
from vzero.images.decoding import Unusable, check_shape, sha256, shown
from vzero.images.isolated import decode_isolated
from vzero.images.records import seen_size
from vzero.runtime.progress import Progress

# Where a picture may be (a path, or file and row), and its bytes or `Unusable`.
Candidate = tuple[str, Callable[[], bytes]]
_NAMED = 3  # files of a kind that a summary names


@dataclass
class Chosen:
    """What became of many pictures.

    Attributes:
        rows: of `images.jsonl`.
        skipped: path and reason of each that is not used.
        notes: path and reason of each that is used although something is wrong with it.
        stopped_after: where the last one wanted was found; what comes later was not looked at.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    stopped_after: str | None = None


def usable(
    candidates: Iterable[Candidate], config: ImagesConfig, progress: Progress, copy_to: Path | None
) -> Chosen:
    """The first `config.count` usable pictures, and what was skipped with the reason.

    Args:
        candidates: in the order in which they are taken.
        config: how many, and how large.
        progress: updated after each usable one.
        copy_to: a stage's folder that the pictures are copied into; None where they are files already.
    """
    chosen = Chosen()
    first: dict[str, str] = {}  # content -> where it was seen first
    for place, read in candidates:
        noted: list[str] = []
        try:
            data = read()
            image = decode_isolated(data, config.max_megapixels * 1e6, noted.append)
            digest = sha256(data)
            if config.shrink_megapixels is not None:
                check_shape(*seen_size(*image.size, config.shrink_megapixels * 1e6))
            if digest in first:
                raise Unusable(f"a copy: same content as {first[digest]}")
        except Unusable as error:
            chosen.skipped.append({"path": place, "reason": str(error)})
            continue
        if image.getcolors(1):
            noted.append("of one colour")
        chosen.notes += [{"path": place, "reason": one} for one in noted]
        first[digest], image_id, path = place, digest[:16], place
        if copy_to is not None:  # not synced one by one: a killed stage copies all again before it is sealed
            path = f"images/{image_id}"
            (copy_to / "images").mkdir(parents=True, exist_ok=True)
            (copy_to / path).write_bytes(data)
        size = {"width": image.width, "height": image.height}
        chosen.rows.append({"image_id": image_id, "path": path, "sha256": digest, **size})
        progress.update(len(chosen.rows), config.count, "images")
        if len(chosen.rows) == config.count:
            chosen.stopped_after = place
            break
    return chosen


def summary(files: Iterable[Mapping[str, str]]) -> str:
    """Files by what their reasons begin with, the most frequent first: "3 broken (a.png, b.png, c.gif), 1 too
    narrow (d.png)"."""
    kinds: dict[str, list[str]] = {}
    for row in files:
        kinds.setdefault(row["reason"].partition(":")[0], []).append(shown(Path(row["path"]).name))
    return ", ".join(
        f"{len(names)} {kind} ({', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)})"
        for kind, names in sorted(kinds.items(), key=lambda one: -len(one[1]))
    )
