"""A `datasets` folder read as data: it opens no files but its own, and no column decodes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evals.catalogue import Suite
from vzero.errors import InputError, machine_failure
from vzero.images.decoding import Unusable
from vzero.images.files import content, open_below

if TYPE_CHECKING:
    import datasets


def load(suite: Suite, split: str, folder: Path) -> datasets.Dataset:
    """The rows of a split, pictures as encoded bytes.

    Raises:
        InputError: there are none, or files elsewhere are named.
    """
    import datasets

    try:
        splits = _described(folder, folder / "dataset_dict.json")["splits"]
        if split in splits and Path(split).name == split:
            _check(folder, folder / split)
            rows = datasets.Dataset.load_from_disk(str(folder / split)).with_format(None)
            rows = undecoded(rows, suite)
    except Exception as error:  # pyarrow's and datasets' own errors have no common kind
        damaged = InputError(
            f"{folder} cannot be read as a `datasets` folder ({str(error).splitlines()[0][:200]}); "
            f"fetch {suite.name} again."
        )
        raise machine_failure(error, folder) or damaged from None
    if split not in splits:
        raise InputError(
            f"{folder} has no split {split!r} of {suite.name}, only {', '.join(splits)}; it is another "
            "dataset."
        )
    if len(rows) == 0:
        raise InputError(f"{folder} holds no rows of {suite.name}; fetch it again.")
    return rows


def undecoded(rows: datasets.Dataset, suite: Suite) -> datasets.Dataset:
    """The same rows, pictures as they are stored; other columns of media, which would open the files that
    they name, are left out."""
    import datasets
    from datasets.features.features import require_decoding

    for name, feature in dict(rows.features).items():
        if name in suite.images:
            rows = rows.cast_column(name, datasets.Image(decode=False))
        elif require_decoding(feature):
            rows = rows.remove_columns(name)
    return rows


def _check(folder: Path, split: Path) -> None:
    """Refuse files that lie elsewhere."""
    named = [one["filename"] for one in _described(folder, split / "state.json")["_data_files"]]
    for name in ("dataset_info.json", *named):
        if Path(name).name != name:
            raise Unusable(f"{name} is no file of it")
        open_below(split / name, folder).close()


def _described(folder: Path, path: Path) -> dict[str, Any]:
    with open_below(path, folder) as stream:
        found = json.loads(content(stream))
    return found if isinstance(found, dict) else {}
