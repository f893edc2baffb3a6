"""Images out of tables: Parquet and Arrow files, folders of them, and data sets of the hub.

A table often holds questions and answers next to its pictures. Only the image column is ever decoded, so no
label can leak in by way of this file. Pictures are taken from the bytes in the table; one that is only the
name of a file elsewhere is skipped, since a data set must not choose which files of this machine are opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vzero.config import ImagesConfig
from vzero.errors import InputError, machine_failure
from vzero.images.decoding import Unusable, check_bytes, shown, suffixes
from vzero.images.files import open_below
from vzero.images.folder import files as walk
from vzero.images.usable import Candidate
from vzero.runtime import hub

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow")
_ROWS_AT_ONCE = 16


def is_table(source: str) -> bool:
    """Whether `source` names a table file, a folder of them without pictures, or a hub id that is no path."""
    path = Path(source)
    if path.is_dir():
        named = suffixes()
        return bool(_files(path)) and not any(file.suffix.lower() in named for file in walk(path))
    return path.suffix in SUFFIXES or (not path.exists() and hub.is_id(source))


def pictures(config: ImagesConfig) -> Iterator[Candidate]:
    """What may be a picture, by file and row. A list counts as so many pictures.

    Raises:
        InputError: no such table, or no column of images or several.
    """
    limit = config.max_megapixels * 1e6
    for file in _located(config):
        row = 0
        for values in _column(file, config.column):
            for value in values:
                for number, one in enumerate(value if isinstance(value, list) else [value]):
                    place = f"{file}#{row}.{number}" if number else f"{file}#{row}"
                    yield place, partial(cell_bytes, one, limit)
                row += 1


def cell_bytes(value: Any, max_pixels: float) -> bytes:
    """The bytes of a cell: they themselves, or in a struct of bytes and path.

    Raises:
        Unusable: there are none, or more than a picture needs.
    """
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        named = isinstance(value, dict) and value.get("path")
        raise Unusable("the name of a file elsewhere" if named else "no picture")
    check_bytes(len(data), max_pixels)
    return data


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
        reason = f"Cannot read the table {shown(file)}: {str(error).splitlines()[0].rstrip('.')}."
        raise machine_failure(error, file) or InputError(reason) from None


def image_column(schema: pa.Schema, wanted: str | None, file: Path) -> str:
    """The column to read: the one asked for, or the only one that can hold pictures.

    Raises:
        InputError: it is not there, cannot hold pictures, or is one of several.
    """
    able = [column.name for column in schema if _holds_bytes(column.type)]
    listed = ", ".join(able) or "none"
    if wanted is not None and wanted not in able:
        raise InputError(f"{shown(file)} has no column {wanted!r} of images; those it has: {listed}.")
    if wanted is None and len(able) != 1:
        raise InputError(
            f"{shown(file)} has {len(able)} columns of images ({listed}); name one by --set"
            " images.column=NAME."
        )
    return wanted or able[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column is bytes, a struct with a field `bytes` (Hugging Face's image feature), or lists."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _holds_bytes(kind.value_type)
    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _located(config: ImagesConfig) -> list[Path]:
    path = Path(config.source)
    if path.is_file():
        return [path]
    # Scripts of a data set are neither fetched nor run.
    root = path if path.is_dir() else hub.snapshot(config.source, "dataset", ("*.parquet",))
    wanted = config.split or ""
    files = [file for file in _files(root) if wanted in file.relative_to(root).as_posix()]
    if not files:
        of_split = f" of the split {wanted!r}" if wanted else ""
        raise InputError(f"{config.source} has no Parquet or Arrow file{of_split}.")
    for file in files:
        try:
            open_below(file, root).close()
        except Unusable as error:
            raise InputError(f"Cannot read the table {shown(file)}: {error}.") from None
    return files


def _files(root: Path) -> list[Path]:
    return sorted(file for file in walk(root) if file.suffix in SUFFIXES and file.is_file())
