"""A folder on the hub: in a repository that is private unless told else, and holds nothing else."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from vzero import __version__
from vzero.errors import InputError, machine_failure
from vzero.runtime import artefacts
from vzero.runtime.hub import is_id

MADE_BY_THE_HUB = frozenset({".gitattributes"})


def require_name(name: str) -> None:
    """Raises InputError where `name` is not written like a repository of the hub."""
    if not is_id(name):
        raise InputError(f"{name!r} is no name on the hub; write --to hub:ORG/NAME.")


def upload(
    folder: Path, name: str, kind: Literal["model", "dataset"], public: bool, without: Collection[str] = ()
) -> str:
    """Send `folder`, but what is below its folders `without`, to `name` (ORG/NAME) in one commit; the
    address. The token is the environment's or that of `hf auth login`.

    Raises:
        InputError: a repository with other files or of the other visibility, no permission, or no hub.
    """
    from httpx import TransportError
    from huggingface_hub import HfApi

    files = {file for file in artefacts.folder_hashes(folder) if file.split("/")[0] not in without}
    try:
        api = HfApi()
        address = str(api.create_repo(name, repo_type=kind, private=not public, exist_ok=True))
        found = api.repo_info(name, repo_type=kind)
        there = {one.rfilename for one in getattr(found, "siblings", None) or ()}
        _refuse_another(name, bool(found.private), public, there - files - MADE_BY_THE_HUB)
        api.upload_folder(
            repo_id=name,
            repo_type=kind,
            folder_path=folder,
            ignore_patterns=[f"{one}/**" for one in without],
            commit_message=f"By vzero-harness {__version__}",
        )
    except InputError:
        raise
    except Exception as error:  # of the hub's client: of several libraries, among them one in Rust
        fix = "log in with `hf auth login` to an account that may write there"
        if isinstance(error, TransportError):
            fix = "see that it can be reached, then run the same command again"
        refused = InputError(f"The hub did not take {name} ({type(error).__name__}); {fix}.")
        raise machine_failure(error, folder) or refused from None
    return address


def _refuse_another(name: str, private: bool, public: bool, others: Collection[str]) -> None:
    """A repository that was there already is only written where the same was, or nothing."""
    if private == public:
        seen, flag = ("private", "leave --public out") if private else ("public", "add --public")
        raise InputError(f"{name} is there already and is {seen}; {flag}, or choose another name.")
    if others:
        raise InputError(f"{name} holds other files already ({sorted(others)[0]}); choose another name.")
