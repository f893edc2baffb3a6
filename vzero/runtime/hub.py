"""Models and data sets of the Hugging Face hub, fetched once and then found on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from vzero.errors import InputError, machine_failure

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NAMES = {"model": "model", "dataset": "data set"}


def is_id(name: str) -> bool:
    """Whether `name` is written like an id of the hub, ORG/NAME."""
    return _ID.fullmatch(name) is not None


def cached(name: str, patterns: tuple[str, ...]) -> Path | None:
    """The folder of a model of the hub that was fetched before; nobody is asked. None where it was not."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def snapshot(name: str, kind: Literal["model", "dataset"], patterns: tuple[str, ...]) -> Path:
    """The folder of a hub repository, with the files that match one of `patterns`.

    Raises:
        InputError: there is no such repository, or the hub cannot be reached and the files are not on disk.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=list(patterns)))
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise InputError(
            f"{name!r} is no folder, and the hub has no such {_NAMES[kind]} that you may read; check the"
            " name, or log in with `hf auth login`."
        ) from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        away = InputError(
            f"{name!r} is neither a folder nor on disk, and the hub cannot be reached"
            f" ({type(error).__name__}); connect, or download the {_NAMES[kind]} and give its folder."
        )
        raise machine_failure(error, name) or away from None
