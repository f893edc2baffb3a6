"""Images out of tables: Parquet files, folders of them, folders of `Dataset.save_to_disk`, and data sets of
the hub.

A table often holds questions and answers next to its pictures. Only the image column is ever decoded, so that
no label can leak into a label-free method by way of this file. Pictures are taken from the bytes in the
table; one that is only the name of a file elsewhere is skipped, since a data set must not choose which files
of this machine are opened.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vzero.config import ImagesConfig
from vzero.errors import InputError
from vzero.images.decoding import BYTES_PER_PIXEL, Unusable, decode, sha256, shown
from vzero.images.decoding import SUFFIXES as PICTURES
from vzero.runtime.stage import StageContext

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ROWS_AT_ONCE = 16


def is_table(source: str) -> bool:
    """Whether `source` names tables: a file of Parquet or Arrow, a folder of such files without pictures
    (beside those a table often holds captions), or a hub id that is no path."""
    path = Path(source)
    if path.is_dir():
        return bool(_files(path)) and not any(file.suffix.lower() in PICTURES for file in path.rglob("*"))
    return path.suffix in SUFFIXES or (not path.exists() and _HUB_ID.fullmatch(source) is not None)


def collect(context: StageContext, config: ImagesConfig) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Write the first `config.count` usable pictures of a table into the stage's folder.

    Returns:
        Rows of `images.jsonl`, with paths relative to the folder, and what was skipped.

    Raises:
        InputError: no such table, no column of images or several, or no usable picture.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    first: dict[str, str] = {}  # content -> where it was seen first
    (context.folder / "images").mkdir(parents=True, exist_ok=True)
    for place, picture in pictures(config):
        try:
            row = _keep(picture, config.max_megapixels * 1e6, first, place, context.folder)
        except Unusable as error:
            skipped.append({"path": place, "reason": str(error)})
            print(f"skipped {shown(Path(place))}: {error}", file=sys.stderr)
            continue
        rows.append(row)
        context.progress.update(len(rows), config.count, "images")
        if len(rows) == config.count:
            break
    if not rows:
        raise InputError(
            f"No usable picture in {shown(Path(config.source))} ({len(skipped)} skipped); name the column by images.column."
        )
    return rows, skipped


def _keep(picture: Any, max_pixels: float, first: dict[str, str], place: str, folder: Path) -> dict[str, Any]:
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(data, bytes):
        raise Unusable(
            "the name of a file elsewhere"
            if isinstance(picture, dict) and picture.get("path")
            else "no picture"
        )
    if len(data) > max_pixels * BYTES_PER_PIXEL + 1_000_000:
        raise Unusable(f"too large: {len(data) / 1e6:.0f} MB")
    image, digest = decode(data, max_pixels), sha256(data)
    if digest in first:
        raise Unusable(f"same content as {first[digest]}")
    first[digest] = place
    path = folder / "images" / digest[:16]
    path.write_bytes(
        data
    )  # not synced one by one: a stage that was killed writes them all again before it is sealed
    return {
        "image_id": digest[:16],
        "path": f"images/{path.name}",
        "sha256": digest,
        "width": image.width,
        "height": image.height,
    }


def pictures(config: ImagesConfig) -> Iterator[tuple[str, Any]]:
    """Where each picture stands (file and row), and its value: bytes, or a struct of bytes and path. A list
    counts as so many pictures."""
    for file in _located(config):
        row = 0
        for values in _column(file, config.column):
            for value in values:
                for number, one in enumerate(value if isinstance(value, list) else [value]):
                    yield f"{file}#{row}" + (f".{number}" if number else ""), one
                row += 1


def _column(file: Path, wanted: str | None) -> Iterator[list[Any]]:
    """The image column of one file, some rows at a time. No other column is decoded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as table:
                name = image_column(table.schema_arrow, wanted, file)
                for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[name]):
                    yield batch.column(name).to_pylist()
            return
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            name = image_column(stream.schema, wanted, file)
            for batch in stream:
                column = batch.column(name)
                for start in range(0, len(column), _ROWS_AT_ONCE):
                    yield column.slice(start, _ROWS_AT_ONCE).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Cannot read the table {shown(file)}: {str(error).splitlines()[0].rstrip('.')}."
        ) from None


def image_column(schema: pa.Schema, wanted: str | None, file: Path) -> str:
    """The column to read: the one asked for, or the only one that can hold pictures.

    Raises:
        InputError: it is not there, cannot hold pictures, or is one of several.
    """
    able = [column.name for column in schema if _holds_bytes(column.type)]
    if wanted is not None:
        if wanted not in able:
            raise InputError(
                f"{shown(file)} has no column {wanted!r} of images; those it has: {', '.join(able) or 'none'}."
            )
        return wanted
    if len(able) != 1:
        raise InputError(
            f"{shown(file)} has {len(able)} columns of images ({', '.join(able)}); name one by --set images.column=NAME."
        )
    return able[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column is bytes, a struct with a field `bytes` (Hugging Face's image feature), or lists of
    either."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _located(config: ImagesConfig) -> list[Path]:
    path = Path(config.source)
    if path.is_file():
        return [path]
    folder = path if path.is_dir() else _fetch(config.source)
    files = [
        file
        for file in _files(folder)
        if config.split is None or config.split in file.relative_to(folder).as_posix()
    ]
    if not files:
        raise InputError(
            f"{config.source} has no Parquet or Arrow file{f' of the split {config.split!r}' if config.split else ''}."
        )
    return files


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def _fetch(name: str) -> Path:
    """A hub data set's Parquet files, fetched once and then found on disk. Scripts are neither fetched nor
    run."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=["*.parquet"]))
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"{name!r} is no folder here, and the hub has no such data set that you may read; check the name."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{name!r} is neither a folder nor on disk, and the hub cannot be reached ({type(error).__name__}); "
            "connect, or download the data set and give its folder."
        ) from None
