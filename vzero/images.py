"""Unlabeled images: the stage that chooses and checks them, and the one way every later stage opens them.

`images.source` is "pocket" (scenes are drawn), a folder of pictures, searched recursively in the order of its paths, or a table with an
image column (`vzero.image_tables`). File names say
nothing to the method, and embedded metadata (EXIF, captions, ratings) is never read, so no label can leak in. Every picture is decoded
once here; one that is broken, truncated, too large or a copy of an earlier one is skipped and named in `skipped.json`. Later stages open
pictures by `open_image`, which refuses bytes that are no longer the ones this stage saw.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile

from vzero import artefacts
from vzero.config import ImagesConfig
from vzero.errors import InputError
from vzero.stage import StageContext

SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no format that starts another program (EPS) is opened
MAX_ASPECT = 200  # Qwen2.5-VL's processor refuses pictures whose sides differ by more
BYTES_PER_PIXEL = 8  # no sane encoding of the formats above needs more; bounds what is read into memory


class Unusable(Exception):
    """A file that is not a picture we can train on; the message is the reason written to `skipped.json`."""


@dataclass(frozen=True)
class ImageRecord:
    """One usable picture: `width` and `height` in pixels as stored, `sha256` of the file's bytes, `path` absolute; `seen` is the width and
    height it is shrunk to whenever it is opened, None where it is small enough."""

    image_id: str
    path: Path
    sha256: str
    width: int
    height: int
    seen: tuple[int, int] | None = None


def run(context: StageContext) -> dict[str, Any]:
    """The images stage: writes `images.jsonl` and `skipped.json` (and, for the pocket world, the pictures and their shadow).

    Raises:
        InputError: the folder cannot be read, or holds no usable picture.
    """
    from vzero.image_tables import collect, is_table

    config = context.preset.images
    if config.source == "pocket":
        from vzero.pocket.images import write

        rows, skipped = write(context.folder, context.preset.seed, config.count), []
        context.progress.update(len(rows), config.count, "images")
    elif is_table(config.source):
        rows, skipped = collect(context, config)
    else:
        rows, skipped = _from_folder(context, config)
    if config.shrink_megapixels is not None:
        rows = [_shrunk(row, config.shrink_megapixels * 1e6) for row in rows]
    artefacts.write_jsonl(context.folder / "images.jsonl", rows)
    artefacts.write_json(context.folder / "skipped.json", {"skipped": skipped})
    return {"images": len(rows), "skipped": len(skipped)}


def load_records(stage_folder: Path) -> list[ImageRecord]:
    """The usable images of a finished images stage, in the order they are used."""
    return [
        ImageRecord(
            row["image_id"],
            stage_folder.absolute() / row["path"],
            row["sha256"],
            row["width"],
            row["height"],
            tuple(row["seen"]) if "seen" in row else None,
        )
        for row in artefacts.read_jsonl(stage_folder / "images.jsonl")
    ]


def _shrunk(row: dict[str, Any], pixels: float) -> dict[str, Any]:
    """`row`, with the size to shrink its picture to where that has more than so many pixels."""
    width, height = seen_size(row["width"], row["height"], pixels)
    return row if (width, height) == (row["width"], row["height"]) else {**row, "seen": [width, height]}


def seen_size(width: int, height: int, pixels: float) -> tuple[int, int]:
    """Width and height of a picture shrunk to at most `pixels`, its shape kept to a pixel; as it is where it has no more."""
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


def open_image(record: ImageRecord) -> Image.Image:
    """The picture as RGB, in the size of `record.seen` or else as it is stored.

    Raises:
        InputError: the file is gone, or is not the one the images stage saw.
    """
    try:
        data = record.path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Cannot read the picture {shown(record.path)}: {error.strerror}; put it back and run the same command again."
        ) from None
    if sha256(data) != record.sha256:
        raise InputError(f"The picture {shown(record.path)} changed since this run began; restore it or start anew with --fresh.")
    try:
        image = decode(data, max_pixels=record.width * record.height)
        return image if record.seen is None else image.resize(record.seen, Image.Resampling.LANCZOS)
    except Unusable as error:
        raise InputError(f"Cannot decode the picture {shown(record.path)}: {error}.") from None


def decode(data: bytes, max_pixels: float) -> Image.Image:
    """Bytes to RGB. The size is judged from the header, before a pixel is decoded; Pillow's own bomb guard stays on below that.

    An animation gives its first frame; transparency is shown on white, 16-bit grey is scaled to 8.

    Raises:
        Unusable: for any reason, with the reason.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on for this process
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # odd metadata, which is not read
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


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(width: int, height: int, max_pixels: float) -> None:
    if width * height > max_pixels:
        raise Unusable(f"too large: {width} x {height} is over the limit of {max_pixels / 1e6:g} megapixels")
    if min(width, height) < 1 or max(width, height) > MAX_ASPECT * min(width, height):
        raise Unusable(f"too narrow: {width} x {height} has sides that differ by more than {MAX_ASPECT} times")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16", or "I" holding 16 bits (PGM)
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        return ground.convert("RGB")
    return image.convert("RGB")


def _from_folder(context: StageContext, config: ImagesConfig) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
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
    """Files below `root`, sorted by path, folder by folder. A linked folder (it could be a cycle) or one that cannot be listed is
    yielded itself, to be skipped by name.

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
    return {"image_id": digest[:16], "path": str(path), "sha256": digest, "width": image.width, "height": image.height}


def _sniff(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture, whatever its name says."""
    with open(path, "rb") as stream:
        head = stream.read(16)
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:12] in (b"ftypavif", b"ftypavis")
    )


def shown(path: Path) -> str:
    """A path safe to print: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(path))
