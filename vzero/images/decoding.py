"""Bytes to a picture, with limits: the one decoder, for training and evaluation alike."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

from PIL import Image, ImageFile

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
)
# No format that starts another program (EPS) is opened.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_ASPECT = 200  # Qwen2.5-VL's processor refuses pictures whose sides differ by more
BYTES_PER_PIXEL = 8  # no sane encoding of the formats above needs more; bounds what is read into memory


class Unusable(Exception):
    """A file that is not a picture we can train on; the message is the reason written to `skipped.json`."""


def check_bytes(size: int, max_pixels: float) -> None:
    """Refuse a file of so many bytes before it is read.

    Raises:
        Unusable: no picture within the limit needs so many.
    """
    if size > max_pixels * BYTES_PER_PIXEL + 1_000_000:
        raise Unusable(f"too large: a file of {size / 1e6:.0f} MB")


def decode(data: bytes, max_pixels: float) -> Image.Image:
    """Bytes to RGB. The size is judged from the header, before a pixel is decoded.

    An animation gives its first frame; transparency is shown on white, 16-bit grey is scaled to 8.

    Raises:
        Unusable: for any reason, with the reason.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on for this process
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Odd metadata, which is not read.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                _check_size(*image.size, max_pixels)
                image.load()
                return _to_rgb(image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise Unusable("too large for Pillow's decompression-bomb guard") from None
        except Image.UnidentifiedImageError:
            raise Unusable("not a picture in a known format") from None
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


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(width: int, height: int, max_pixels: float) -> None:
    if width * height > max_pixels:
        raise Unusable(f"too large: {width} x {height} is over the limit of {max_pixels / 1e6:g} megapixels")
    if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
        raise Unusable(
            f"too narrow: {width} x {height} has sides that differ by more than {MAX_ASPECT} times"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16", or "I" holding 16 bits (PGM)
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        return ground.convert("RGB")
    return image.convert("RGB")
