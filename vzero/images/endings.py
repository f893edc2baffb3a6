"""Files that are nearly whole: a PNG without its metadata, and endings for a file that lost its own.

What a cut file lacks is measured: it is given two endings, and a pixel that depends on the ending is missing.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_USED = (b"tRNS", b"eXIf")
# A marker with its segment's length; neither stuffed bytes nor restart markers are one.
_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xda-\xef\xfe])(..)", re.DOTALL)
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)
_MOST_NOISE = 100_000_000  # bytes, whatever a header claims


def png_without_metadata(data: bytes) -> tuple[bytes, bool] | None:
    """Pixels, palette, transparency and orientation of a PNG alone, and whether its end is there; None for
    another file. Optional chunks whose checksum is wrong are left out."""
    if not data.startswith(_PNG):
        return None
    kept, at, kind = [_PNG], len(_PNG), b""
    while at + 8 <= len(data) and kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        chunk = data[at : at + 12 + length]
        right = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind in _NEEDED or (kind in _USED and right):
            kept.append(chunk)
        at += 12 + length
    return b"".join(kept), kind == b"IEND"


def endings(data: bytes) -> tuple[bytes, bytes]:
    """Two endings for a cut file, of zeros and of noise.

    A JPEG may lack any part of its last scan, other files a tenth of their bytes. A PNG is read up to where
    it was cut and needs none.

    Raises:
        ValueError: whole scans of a JPEG are missing.
    """
    if data.startswith(_PNG):
        return b"", b""
    if not data.startswith(_JPEG):
        size = len(data) // 9 + 1
        return bytes(size), _noise(size).tobytes()
    pixels, interval = _jpeg(data)
    noise = _noise(min(pixels, _MOST_NOISE))
    if step := interval * 256:  # a decoder skips what stands before the next restart marker
        noise[step - 2 :: step] = 0xFF
        noise[step - 1 :: step] = 0xD0 + np.arange(len(noise[step - 1 :: step])) % 8
    return b"\xff\xd9", noise.tobytes() + b"\xff\xd9"


def _noise(size: int) -> np.ndarray:
    """Bytes that are no marker."""
    return np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)


def _jpeg(data: bytes) -> tuple[int, int]:
    """How many pixels a JPEG has, and blocks from one restart marker to the next (0 without).

    Raises:
        ValueError: its scans do not bring every coefficient of every component to its last bit, so that
            others are missing (ITU-T T.81, B.2).
    """
    at, pixels, interval, components, done = 2, 0, 0, 0, set()
    while found := _SEGMENT.search(data, at):
        kind = found[1][0]
        at = found.start() + 2 + int.from_bytes(found[2], "big")
        body = data[found.end() : at]
        if kind == 0xDD:
            interval = int.from_bytes(body, "big")
        elif kind == 0xDA:
            first, last, bits = body[-3:]
            done |= {(one, k) for one in body[1:-3:2] for k in range(first, last + 1) if not bits & 15}
        elif kind < 0xD0 and kind not in _NOT_FRAMES:
            pixels = int.from_bytes(body[1:3], "big") * int.from_bytes(body[3:5], "big")
            components = body[5]
    if len(done) < 64 * components:
        raise ValueError("a JPEG without its last scans")
    return pixels, interval
