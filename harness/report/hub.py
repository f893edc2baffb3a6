"""A folder on the hub: in a repository that is private unless told else, and holds nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from vzero import __version__
from vzero.errors import InputError, machine_failure
from vzero.runtime import artefacts
from vzero.runtime.hub import is_id

Kind = Literal["model", "dataset"]
MADE_BY_THE_HUB = frozenset({".gitattributes"})


def require_name(name: str) -> None:
    """Raises InputError where `name` is not written like a repository of the hub."""
    if not is_id(name):
        raise InputError(f"{name!r} is no name on the hub; write --to hub:ORG/NAME.")


def require_room(folder: Path, name: str, kind: Kind, public: bool, without: Collection[str] = ()) -> None:
    """See that `upload` may write: there is no such repository, or an empty one, or one with the very files
    of `folder`.

    Raises:
        InputError: a repository with anything else or of the other visibility, or no hub.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.sha import git_hash

    with _refused(name, folder):
        try:
            found = HfApi().repo_info(name, repo_type=kind, files_metadata=True)
        except HfHubHTTPError as error:
            if error.response.status_code == 404:
                return
            raise
        if bool(found.private) == public:
            seen, flag = ("private", "leave --public out") if found.private else ("public", "add --public")
            raise InputError(f"{name} is there already and is {seen}; {flag}, or choose another name.")
        hashes = artefacts.folder_hashes(folder)
        ours = {file: sha256 for file, sha256 in hashes.items() if file.split("/")[0] not in without}
        for one in getattr(found, "siblings", None) or ():
            file = one.rfilename
            if file in MADE_BY_THE_HUB:
                continue
            same = file in ours and (
                one.lfs.sha256 == ours[file]
                if one.lfs
                else one.blob_id == git_hash((folder / file).read_bytes())
            )
            if not same:
                raise InputError(f"{name} holds other files already ({file}); choose another name.")


def upload(folder: Path, name: str, kind: Kind, public: bool, without: Collection[str] = ()) -> str:
    """Send `folder`, but what is below its folders `without`, to `name` (ORG/NAME) in one commit; the
    address. The token is the environment's or that of `hf auth login`.

    Raises:
        InputError: as `require_room`, or no permission.
    """
    from huggingface_hub import HfApi

    require_room(folder, name, kind, public, without)
    with _refused(name, folder):
        api = HfApi()
        address = str(api.create_repo(name, repo_type=kind, private=not public, exist_ok=True))
        api.upload_folder(
            repo_id=name,
            repo_type=kind,
            folder_path=folder,
            ignore_patterns=[f"{one}/**" for one in without],
            commit_message=f"By vzero-harness {__version__}",
        )
    return address


@contextmanager
def _refused(name: str, folder: Path) -> Iterator[None]:
    """What the hub's client raises, in one sentence."""
    from httpx import TransportError

    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of the hub's client: of several libraries, among them one in Rust
        fix = "log in with `hf auth login` to an account that may write there"
        if isinstance(error, TransportError):
            fix = "see that it can be reached, then run the same command again"
        refused = InputError(f"The hub did not take {name} ({type(error).__name__}); {fix}.")
        raise machine_failure(error, folder) or refused from None
