"""The usable images of a run, and the one way every later stage opens them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vzero.errors import InputError, machine_failure
from vzero.images.decoding import Decode, Unusable, decode, most_bytes, sha256, shown
from vzero.images.files import content, open_below
from vzero.images.isolated import decode_isolated
from vzero.runtime import artefacts
from vzero.runtime.schemas import Known

ORDINARY = 50e6  # pixels; of a smaller picture too the file may be as large as theirs
SMALL, BYTES = 128, 16_384  # pixels of a side and bytes of a file that no decoder takes long for


@dataclass(frozen=True)
class ImageRecord:
    """One usable picture.

    Attributes:
        image_id: unique in the run.
        path: absolute.
        sha256: of the file's bytes.
        width, height: in pixels, upright.
        seen: the width and height it is shrunk to whenever it is opened; None where it is small enough.
    """

    image_id: str
    path: Path
    sha256: str
    width: int
    height: int
    seen: tuple[int, int] | None = None


def load_records(stage_folder: Path) -> list[ImageRecord]:
    """The usable images of a finished images stage, in the order they are used.

    Raises:
        InputError: its file is not what a run writes.
    """
    rows, place = artefacts.read_rows(stage_folder / "images.jsonl"), stage_folder.absolute()
    return [
        ImageRecord(
            image_id=row["image_id"],
            path=place / row["path"],
            sha256=row["sha256"],
            width=row["width"],
            height=row["height"],
            seen=(row["seen"][0], row["seen"][1]) if "seen" in row else None,
        )
        for row in rows
    ]


def records_by_id(stage_folder: Path) -> Known[ImageRecord]:
    """As `load_records`, by image_id, for rows that name one."""
    return Known({record.image_id: record for record in load_records(stage_folder)})


def seen_size(width: int, height: int, pixels: float) -> tuple[int, int]:
    """Width and height of a picture shrunk to at most `pixels`, its shape kept to a pixel."""
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


def open_foreign(record: ImageRecord, other: Decode = decode_isolated) -> Image.Image:
    """As `open_image`, of a run that somebody else may have made: nobody looked at its pictures here. Those
    whose cost is small by their size are decoded here, any other by `other`."""
    small = max(record.width, record.height) <= SMALL

    def either(data: bytes, max_pixels: float, note: Callable[[str], None] = lambda _: None) -> Image.Image:
        return (decode if small and len(data) <= BYTES else other)(data, max_pixels, note)

    return open_image(record, either)


def open_image(record: ImageRecord, decode: Decode = decode) -> Image.Image:
    """The picture as RGB, upright, in the size of `record.seen` or else its own.

    Args:
        decode: how.

    Raises:
        InputError: the file is gone, or is not the one the images stage saw.
    """
    try:
        with open_below(record.path, Path(record.path.anchor)) as stream:
            data = content(stream, most_bytes(max(record.width * record.height, ORDINARY)))
    except (Unusable, OSError) as error:
        if failure := machine_failure(error, record.path):
            raise failure from None
        reason = str(getattr(error, "strerror", error)).removeprefix("cannot be read: ")
        raise InputError(
            f"Cannot read the picture {shown(record.path)}: {reason}; put it back and run the same command"
            " again."
        ) from None
    if sha256(data) != record.sha256:
        raise InputError(
            f"The picture {shown(record.path)} changed since this run began; restore it or start anew with"
            " --fresh."
        )
    try:
        image = decode(data, max_pixels=record.width * record.height)
        if image.size != (record.width, record.height):
            raise Unusable("this run began before pictures were turned as EXIF says, start anew with --fresh")
        return image if record.seen is None else image.resize(record.seen, Image.Resampling.LANCZOS)
    except Unusable as error:
        raise InputError(f"Cannot decode the picture {shown(record.path)}: {error}.") from None
