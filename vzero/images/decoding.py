"""Bytes to a picture, with limits: the one decoder, for training and evaluation alike."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageFile, ImageOps

from vzero.images.endings import endings, png_without_metadata
from vzero.images.modes import to_rgb

# No format that starts another program (EPS) is opened. HEIF comes after AVIF, which may begin alike.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
HEAD = 32  # bytes by which a format is known
MAX_ASPECT = 200  # Qwen2.5-VL's processor refuses pictures whose sides differ by more
BYTES_PER_PIXEL = 8  # no sane encoding of the formats above needs more; bounds what is read into memory
_MISSING = 0.1  # of the pixels: a cut file that lacks more is refused
_DNG_VERSION, _SUBFILE_TYPE, _SUB_IFDS = 50706, 254, 330  # TIFF tags
_CR2 = b"II*\0\x10\0\0\0CR"
_RAW = "a camera's raw file: only a preview in it could be read"


class Decode(Protocol):
    """As `decode`."""

    def __call__(self, data: bytes, max_pixels: float, note: Callable[[str], None] = ...) -> Image.Image: ...


class Unusable(Exception):
    """A file that is not a picture we can train on; the message is the reason written to `skipped.json`: what
    is wrong, then details after a colon."""


# What no repair helps against.
_FINAL = (Unusable, MemoryError, Image.DecompressionBombWarning, Image.DecompressionBombError)


def most_bytes(max_pixels: float) -> float:
    """No picture within the limit needs more."""
    return max_pixels * BYTES_PER_PIXEL + 1_000_000


def check_bytes(size: int, max_pixels: float) -> None:
    """Refuse a file of so many bytes before it is read.

    Raises:
        Unusable: no picture within the limit needs so many.
    """
    check_size(size, most_bytes(max_pixels))


def check_size(size: int, most: float) -> None:
    """Refuse a file of so many bytes.

    Raises:
        Unusable: they are more than `most`.
    """
    if size > most:
        raise Unusable(f"too large: a file of {size / 1e6:.0f} MB")


def check_format(head: bytes, suffix: str = "") -> None:
    """Refuse a file by its first bytes.

    Raises:
        Unusable: no format that is read begins like that.
    """
    if not head:
        raise Unusable("empty")
    if head.startswith(_CR2):
        raise Unusable(_RAW)
    if not any(_begins(name, head) for name in formats()):
        name = "JPEG 2000" if _begins("JPEG2000", head) else suffix
        raise Unusable("not in a format that is read" + (f": {name}" if name else ""))


def check_shape(width: int, height: int) -> None:
    """Refuse a picture by its shape.

    Raises:
        Unusable: a model's processor would refuse it.
    """
    if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
        raise Unusable(
            f"too narrow: {width} x {height} has sides that differ by more than {MAX_ASPECT} times"
        )


def decode(data: bytes, max_pixels: float, note: Callable[[str], None] = lambda _: None) -> Image.Image:
    """Bytes to RGB, turned as EXIF says and without metadata. The size is judged from the header, before a
    pixel is decoded.

    An animation gives its first frame, a file of several pages the first. Modes become RGB by `to_rgb`. A
    file that was cut is used if at most a tenth of its pixels are missing (they are black or grey).

    Args:
        note: told what was wrong with a picture that is used all the same.

    Raises:
        Unusable: for any reason, with the reason.
    """
    check_format(data[:HEAD])
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on for this process
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Odd metadata, which is not read.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        try:
            return _upright(_load_or_repair(data, max_pixels, note))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise Unusable("too large for Pillow's decompression-bomb guard") from None
        except Image.UnidentifiedImageError:
            raise Unusable("broken: damaged, or a variant that Pillow cannot read") from None
        except (Unusable, MemoryError):
            raise
        except Exception as error:  # decoders of hostile bytes raise nearly anything
            raise Unusable(f"broken: {error}".splitlines()[0][:200]) from None


def sha256(data: bytes) -> str:
    """Hex SHA-256 of a picture's bytes: its first 16 digits are its id."""
    return hashlib.sha256(data).hexdigest()


def shown(path: Path | str) -> str:
    """A path safe to print: control characters and undecodable bytes are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(path)
    )


@cache
def formats() -> tuple[str, ...]:
    """The formats that are read, by Pillow's names, in the order they are tried."""
    from pi_heif import register_heif_opener  # type: ignore[import-untyped]

    Image.init()
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def suffixes() -> frozenset[str]:
    """What the names of pictures in these formats end with, in small letters."""
    read = formats()
    return frozenset(end for end, name in Image.registered_extensions().items() if name in read)


def _begins(name: str, head: bytes) -> bool:
    accept = Image.OPEN[name][1] if name in Image.OPEN else None
    return accept is not None and accept(head) is True


def _load_or_repair(data: bytes, max_pixels: float, note: Callable[[str], None]) -> Image.Image:
    try:
        return _load(data, max_pixels)
    except _FINAL:
        raise
    except Exception as error:
        png = png_without_metadata(data)
        if png is None or not png[1]:
            return _completed(png[0] if png else data, max_pixels, note, error)
        image = _load(png[0], max_pixels)
        note("used without its metadata: a part of it is broken or too large")
        return image


def _load(data: bytes, max_pixels: float, fill: int | None = None) -> Image.Image:
    """The first picture of a file; given `fill`, the pixels that a cut PNG lacks have that value."""
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        _check(image, max_pixels)
        if image.format == "PNG" and fill is not None:
            image.im = Image.new(image.mode, image.size, fill).im
            with suppress(OSError):
                image.load()
            image.tile = []
        image.load()
        _check(image, max_pixels)  # a first frame may be larger than its file says
        return image.copy()


def _check(image: Image.Image, max_pixels: float) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise Unusable(f"too large: {width} x {height} is over the limit of {max_pixels / 1e6:g} megapixels")
    check_shape(width, height)
    tags = getattr(image, "tag_v2", {})
    if _DNG_VERSION in tags or (tags.get(_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags):
        raise Unusable(_RAW)


def _completed(data: bytes, max_pixels: float, note: Callable[[str], None], error: Exception) -> Image.Image:
    """The picture of a cut file.

    Raises:
        Exception: `error`, where too much is missing or it cannot be measured.
    """
    try:
        zeros, noise = endings(data)
        one, other = _load(data + zeros, max_pixels, 0), _load(data + noise, max_pixels, 255)
    except Exception:
        raise error from None
    missing = _differing(one, other)
    if missing > _MISSING:
        raise error
    note(f"truncated: {missing:.1%} of its pixels are missing")
    return one


def _differing(one: Image.Image, other: Image.Image) -> float:
    """The share of pixels in which two pictures differ."""
    different = np.asarray(one) != np.asarray(other)
    return float(different.reshape(*different.shape[:2], -1).any(2).mean())


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says, as RGB, without metadata."""
    with suppress(Exception):  # EXIF that cannot be read turns nothing
        ImageOps.exif_transpose(image, in_place=True)
    image = to_rgb(image)
    image.info = {}
    return image
