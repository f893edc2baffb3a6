"""Pictures inside a page: freshly encoded copies without metadata."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from PIL import Image

from vzero.errors import InputError
from vzero.images.decoding import Decode
from vzero.images.isolated import decoders
from vzero.images.records import ImageRecord, open_foreign

SMALL = 128  # pixels; pictures up to this size are scaled up in whole pixels
BYTES = 4_200_000  # of all thumbnails of a page together, in base64
# Longest side in pixels and quality of a thumbnail: the first that fits is taken, the last always does.
STEPS = ((384, 80), (256, 70), (192, 60), (160, 50), (128, 50), (96, 40), (64, 30), (48, 20))


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: its data URI, and whether it is `small` enough to be scaled by pixels."""

    uri: str
    small: bool


def picture(image: Image.Image) -> Picture:
    """A small picture pixel by pixel, a large one shrunk."""
    if max(image.size) > SMALL:
        return Picture(_uri("webp", _shrunk(image, STEPS[:1], 0)), small=False)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Picture(_uri("png", buffer.getvalue()), small=True)


def thumbnails(records: Sequence[ImageRecord], budget: int = BYTES) -> Mapping[str, Picture]:
    """By the hash of the file, one for each picture that is still there and unchanged; together at most about
    `budget` bytes of base64."""
    different = {record.sha256: record for record in records}
    each = budget * 3 // 4 // max(len(different), 1)
    with decoders() as decode, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        made = pool.map(partial(_thumbnail, most=each, decode=decode), different.values())
        return {name: one for name, one in zip(different, made, strict=True) if one}


def _thumbnail(record: ImageRecord, most: int, decode: Decode) -> Picture | None:
    try:
        image = open_foreign(record, decode)
    except InputError:
        return None
    small = max(image.size) <= SMALL
    return Picture(_uri("webp", _shrunk(image, STEPS, most)), small)


def _shrunk(image: Image.Image, steps: Sequence[tuple[int, int]], most: int) -> bytes:
    data = b""
    for side, quality in steps:
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality)
        data = buffer.getvalue()
        if len(data) <= most:
            break
    return data


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
