"""Are pictures that a model was trained on among those it is evaluated on? Near-duplicates by perceptual
hash.

Two stages. A 64-bit difference hash (9 x 8 grey values, is each darker than its right neighbour) finds
candidates within a Hamming radius; it survives another size, encoding or compression, but drawings on white
paper share hashes. So a candidate counts only if the two 32 x 32 grey thumbnails also differ by little.
Crops, flips and rotations are not found. Both limits were chosen on LogicVista's pictures (docs/suites.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harness.evals.layouts import MAX_PIXELS
from harness.evals.results import Contamination, Pair
from harness.evals.rows import OpenPart
from harness.evals.store import image_sha256
from vzero.errors import InputError
from vzero.images import decoding, records
from vzero.images.folder import pictures
from vzero.images.isolated import decode_isolated
from vzero.runtime import artefacts

RADIUS = 10  # bits of 64
DIFFERENCE = 3.0  # mean grey levels of 255 between thumbnails
SHOWN = 20  # pairs named in the results
_SIDE = 32
_CHUNK = 512


@dataclass(frozen=True)
class Prints:
    """Fingerprints of pictures.

    Attributes:
        names: one per picture.
        hashes: (pictures,) uint64.
        thumbnails: (pictures, 1024) uint8.
        exact: SHA-256 of the pixels.
    """

    names: tuple[str, ...]
    hashes: np.ndarray
    thumbnails: np.ndarray
    exact: tuple[str, ...]


def prints(shown: Iterable[tuple[str, Image.Image]]) -> Prints:
    """Fingerprints of (name, RGB picture)."""
    rows = [
        (name, dhash(image), thumbnail(image), image_sha256(image.convert("RGB"))) for name, image in shown
    ]
    return Prints(
        tuple(row[0] for row in rows),
        np.array([row[1] for row in rows], dtype=np.uint64),
        np.array([row[2] for row in rows], dtype=np.uint8).reshape(len(rows), _SIDE**2),
        tuple(row[3] for row in rows),
    )


def dhash(image: Image.Image) -> int:
    """Difference hash: bit i is whether grey value i of 8 rows of 9 is smaller than the one to its right."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def thumbnail(image: Image.Image) -> np.ndarray:
    """(1024,) uint8 grey values of the picture at 32 x 32."""
    return np.asarray(
        image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.uint8
    ).reshape(_SIDE**2)


def pairs(trained: Prints, evaluated: Prints) -> Iterator[tuple[str, str, bool]]:
    """(training picture, evaluation picture, whether their pixels are equal) of every near-duplicate."""
    for start in range(0, len(trained.names), _CHUNK):
        block = slice(start, start + _CHUNK)
        near = np.bitwise_count(trained.hashes[block, None] ^ evaluated.hashes[None, :]) <= RADIUS
        for i, j in zip(*np.nonzero(near), strict=True):
            i += start
            gap = np.abs(
                trained.thumbnails[i].astype(np.int16) - evaluated.thumbnails[j].astype(np.int16)
            ).mean()
            if gap <= DIFFERENCE:
                yield trained.names[i], evaluated.names[j], trained.exact[i] == evaluated.exact[j]


def report(trained: Prints, evaluated: Prints) -> Contamination:
    """Counts of evaluation pictures that have a near-duplicate, and some of the pairs."""
    found = list(pairs(trained, evaluated))
    return Contamination(
        training_pictures=len(trained.names),
        evaluation_pictures=len(evaluated.names),
        evaluation_pictures_seen=len({other for _, other, _ in found}),
        of_those_pixel_for_pixel=len({other for _, other, same in found if same}),
        radius_bits=RADIUS,
        thumbnail_difference=DIFFERENCE,
        pairs=tuple(Pair(training=one, evaluation=other, exact=same) for one, other, same in found[:SHOWN]),
    )


def of_parts(parts: Iterable[OpenPart]) -> Iterator[tuple[str, Image.Image]]:
    """Every picture that is asked about, named suite/item."""
    for part in parts:
        for index, question in enumerate(part.questions):
            for column, image in part.pictures(index).items():
                suffix = f" {column}" if len(part.suite.images) > 1 else ""
                yield f"{part.suite.name}/{question.item.id}{suffix}", image


def of_training(place: Path) -> Iterator[tuple[str, Image.Image]]:
    """Every usable picture of a folder, or of a run's images stage.

    Raises:
        InputError: it cannot be read, or holds no picture.
    """
    folder = place / "stages" / "00-images"
    if (folder / "images.jsonl").is_file():
        for record in records.load_records(folder):
            yield record.image_id, records.open_foreign(record)
        return
    if not place.is_dir():
        raise InputError(
            f"{place} is neither a folder of pictures nor a run; give --images the pictures that the model "
            "was trained on."
        )
    empty = True
    for path, read in pictures(place, MAX_PIXELS):
        try:
            name = Path(path).relative_to(place.absolute()).as_posix()
            yield name, decode_isolated(read(), MAX_PIXELS)
            empty = False
        except decoding.Unusable:
            continue  # training skips it too
    if empty:
        raise InputError(
            f"{place} holds no picture; give --images the pictures that the model was trained on."
        )


def write(out: Path, parts: Iterable[OpenPart], place: Path) -> None:
    """Compare and write `out`/contamination.json, which the results quote."""
    found = report(prints(of_training(place)), prints(of_parts(parts)))
    artefacts.write_digested(out / "contamination.json", found.model_dump(mode="json"))
