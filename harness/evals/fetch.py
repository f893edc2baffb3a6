"""Suites brought to this machine and pinned: the dataset's revision, and a digest of every row and picture.

Afterwards everything runs with the hub off. What is already there and matches its pins is left alone.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evals import layouts, pins, rows, saved, write
from harness.evals.catalogue import Part, Suite
from harness.evals.rows import OpenPart
from vzero.errors import InputError, machine_failure
from vzero.runtime import artefacts, owned

if TYPE_CHECKING:
    import datasets

TIMEOUT = 10.0  # seconds for the hub's first answer


@dataclass(frozen=True)
class Fetched:
    """What was done with a suite, and what is there now; `sha256` is over all its rows, `set_aside` holds
    those that cannot be asked, as `SetAside`."""

    suite: str
    state: str
    source: str | None
    revision: str | None
    rows: int
    rows_expected: int
    with_gold: int
    set_aside: list[dict[str, str]]
    sha256: str


def fetch(
    suite: Suite, folder: Path, source: Path | None, revision: str | None, say: Callable[[str], None]
) -> Fetched:
    """Bring one suite into `folder` and pin it.

    Args:
        source: a local copy (`harness.evals.layouts`, or a `datasets` folder) instead of the hub.
        revision: of the dataset on the hub; default: the newest, which is then pinned.

    Raises:
        InputError: the hub or the copy cannot be read, no row can be asked, or what is there does not match
            its pins.
    """
    if suite.drawn:
        raise InputError(f"{suite.name} is drawn by every evaluation; there is nothing to fetch.")
    path = pins.file(folder, suite)
    for one in (path, folder / suite.name, *(rows.part_folder(folder, suite, part) for part in suite.parts)):
        owned.sweep_dead(one)  # of a fetch that was killed
    if path.exists():
        parts = rows.open_parts(suite, folder, folder)  # raises where a row is not the pinned one
        return _done(suite, parts, artefacts.read_json(path), "already there")
    say(f"{suite.name}: every picture is decoded once")
    if source is not None:
        origin = {"source": "local copy", "revision": None}
        parts = _copy(suite, source, folder, say)
    else:
        found = _revision(suite, revision)
        origin = {"source": "hub", "revision": found}
        for part in suite.parts:
            say(f"{suite.name}: fetching {suite.dataset}{f' ({part.config})' if part.config else ''}")
            _download(suite, part, found, rows.part_folder(folder, suite, part))
        parts = rows.open_parts(suite, folder, folder)
    pins.write(path, suite, rows.pins_of(parts), origin)
    return _done(suite, parts, origin, "fetched")


def _done(suite: Suite, parts: list[OpenPart], origin: Mapping[str, str | None], state: str) -> Fetched:
    pinned = rows.pins_of(parts)
    return Fetched(
        suite=suite.name,
        state=state,
        source=origin["source"],
        revision=origin.get("revision"),
        rows=len(pinned.rows),
        rows_expected=suite.rows,
        with_gold=sum(bool(question.item.gold) for part in parts for question in part.questions),
        set_aside=[one.model_dump() for one in pinned.set_aside],
        sha256=artefacts.digest(pinned.content),
    )


def _copy(suite: Suite, source: Path, folder: Path, say: Callable[[str], None]) -> list[OpenPart]:
    say(f"{suite.name}: reading the copy in {source}")
    parts = rows.open_parts(suite, source, folder)
    for opened in parts:
        target = rows.part_folder(folder, suite, opened.part)
        if opened.folder != target:
            with artefacts.atomic_folder(target) as staging:
                shutil.copytree(opened.folder, staging, dirs_exist_ok=True)
    return parts


def _revision(suite: Suite, wanted: str | None) -> str:
    """The commit of the dataset's repository, asked first and with a short timeout, so that a hub that is off
    is said at once.

    Raises:
        InputError: no such dataset, or the hub does not answer.
    """
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    from vzero.runtime import http_client

    set_client_factory(http_client.hub_session)
    try:
        found = HfApi().dataset_info(suite.dataset, revision=wanted, timeout=TIMEOUT).sha
    except GatedRepoError:
        raise InputError(
            f"{suite.dataset} wants its terms accepted on the hub first; do so, and `hf auth login`."
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise InputError(
            f"The hub has no dataset {suite.dataset} (revision {wanted or 'newest'}) that you may read."
        ) from None
    except Exception as error:  # offline mode, no route, no name, a proxy's refusal: one thing to the user
        raise InputError(
            f"The hub cannot be reached for {suite.dataset} ({type(error).__name__}); connect, or give a "
            f"local copy with --from{layouts.hint(suite)}."
        ) from None
    if not found:
        raise InputError(f"The hub names no revision of {suite.dataset}; try again.")
    return found


def _download(suite: Suite, part: Part, revision: str, target: Path) -> None:
    import datasets

    try:
        if suite.archive is not None:
            write.save(_from_archive(suite, revision), suite.images, part.split, target)
            return
        rows = datasets.load_dataset(suite.dataset, name=part.config, split=part.split, revision=revision)
        rows = saved.undecoded(rows, suite)
        _check_pictures(rows, suite)
        write.save_table(rows, part.split, target, suite.images)
    except InputError:
        raise
    except Exception as error:  # datasets, pyarrow and the hub's client have no common error
        raise machine_failure(error, target) or _broken(suite, error) from None


def _check_pictures(rows: datasets.Dataset, suite: Suite) -> None:
    """Pictures that are only named are read when the rows are saved: they must be files that the hub gave."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    roots = [Path(place).resolve() for place in (HF_DATASETS_CACHE, HF_HUB_CACHE)]
    for column in set(suite.images) & set(rows.column_names):
        for row in rows.select_columns(column):
            named = row[column] and row[column]["bytes"] is None and row[column]["path"]
            if named and not any(map(Path(named).resolve().is_relative_to, roots)):
                raise InputError(f"{suite.dataset} names {named} in the place of a picture; do not use it.")


def _broken(suite: Suite, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return InputError(f"{suite.dataset} could not be fetched whole ({reason}); run the same command again.")


def _from_archive(suite: Suite, revision: str) -> list[dict[str, Any]]:
    """Rows of a dataset whose pictures lie in a zip file of its repository (`rows.jsonl` names them)."""
    from huggingface_hub import hf_hub_download

    get = lambda name: hf_hub_download(suite.dataset, name, repo_type="dataset", revision=revision)  # noqa: E731
    with open(get("data.jsonl"), encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream if line.strip()]
    with zipfile.ZipFile(get(suite.archive)) as archive:
        return [{**row, suite.images[0]: _member(archive, str(row.get("image_path")))} for row in rows]


def _member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """A picture; None where there is none that may be one: its row is then set aside."""
    try:
        about = archive.getinfo(name.strip().lstrip("./"))
    except KeyError:
        return None
    return archive.read(about) if about.file_size <= 8 * layouts.MAX_PIXELS else None
