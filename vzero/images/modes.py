"""Any of Pillow's modes to RGB, so that what is drawn can be seen."""

from __future__ import annotations

from functools import reduce

import numpy as np
from PIL import Image, ImageChops, ImageCms

_CONTRAST = 16  # levels of 256 between darkest and brightest: with fewer, a picture is nearly one colour
_LOST = 0.01  # of what is drawn shows on white: with less, the ground is dark
_DARK = (64, 64, 64)
_NO_DATA = 1e37  # what is larger than this in a float picture stands for "not measured"


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB: deep grey scaled to 8 bits, transparency on a ground, LAB as sRGB.

    Transparency is shown on white. Where less than 1 % of what is drawn (alpha of 16 or more) would differ
    from that by 16 levels, as with a white line drawing, it is shown on dark grey.
    """
    if image.mode == "F" or image.mode.startswith("I"):  # "I;16", "I;16B", or "I"
        return Image.fromarray(_levels(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(*profiles, "LAB", "RGB").apply(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_ground(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _levels(values: np.ndarray) -> np.ndarray:
    """(height, width) integers or floats to uint8.

    The scale is 0..1 for floats within it, 0..256 for other floats, 0..65536 for integers. Where values lie
    outside, or would come to less than 16 of 256 levels (12 bits of 16), it is the picture's own smallest and
    largest value.
    """
    known = values[np.abs(values) < _NO_DATA]  # neither NaN nor infinite
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    whole = 65536.0 if values.dtype.kind in "iu" else 1.0 if high <= 1 else 256.0
    flat = high > low and (high - low) * 256 / whole < _CONTRAST
    start, width = (low, high - low or 1.0) if low < 0 or high > max(whole - 1, 1) or flat else (0.0, whole)
    with np.errstate(invalid="ignore"):  # signalling NaN
        scaled = np.nan_to_num(values.astype(np.float64), nan=start, posinf=high, neginf=low)
    scaled -= start
    scaled *= 256 / width
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def _on_ground(image: Image.Image) -> Image.Image:
    """An RGBA picture on white, or on dark grey where white would hide it."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    shown = _composite(image, (255, 255, 255))
    drawn = alpha.point([255 * (level >= _CONTRAST) for level in range(256)])
    counts = reduce(ImageChops.darker, shown.split()).histogram(drawn)
    hidden = sum(counts[: 256 - _CONTRAST]) < _LOST * sum(counts)
    return _composite(image, _DARK) if hidden else shown


def _composite(image: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    under = Image.new("RGBA", image.size, ground)
    under.alpha_composite(image)
    return under.convert("RGB")
