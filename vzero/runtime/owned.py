"""The files and folders that the program made itself, which may lie in a stranger's folder by now.

Among these names there is no link, pipe or device: nothing is read, written, cut or deleted through one.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from vzero.errors import InputError

_DATA = (".json", ".jsonl", ".safetensors", ".pth", ".md", ".log")  # .pth: read as tensors only
_TEMPORARY = re.compile(r"\.(?P<name>.+?)(\.old)?\.(?P<process>\d+)\.tmp")


def open_own(path: Path, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a regular file.

    Raises:
        InputError: it is something else.
        OSError: as `os.open`.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR) and os.path.lexists(path):
            raise _foreign(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _foreign(path)
    return descriptor


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises as `open_own`."""
    with open(open_own(path), "rb") as stream:
        return stream.read()


def refuse_links(*places: Path, below: bool = True) -> None:
    """Make sure that there is no link, pipe or device among `places` and, unless told not to look there,
    `below` them.

    Raises:
        InputError: there is one.
    """
    for place in places:
        for path in _below(place) if below else (place,):
            if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
                raise _foreign(path)


def temporary(path: Path) -> Path:
    """Where this process writes `path` until it is whole; `sweep` knows it by its name."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(folder: Path) -> None:
    """Remove what writes that a kill cut short left anywhere below `folder`; else its seal would hash it."""
    for path in list(_below(folder)):
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def sweep_beside(folder: Path, names: Iterable[str]) -> None:
    """As `sweep`, of files and folders of these names in `folder` itself."""
    wanted = frozenset(names)
    for path in list(folder.iterdir()):
        if (torn := _TEMPORARY.fullmatch(path.name)) and torn["name"] in wanted:
            remove(path)


def sweep_dead(path: Path) -> None:
    """Remove what processes that are gone left of writing `path`, in a folder that is not ours alone."""
    for beside in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        torn = _TEMPORARY.fullmatch(beside.name)
        if torn and torn["name"] == path.name and not Path("/proc", torn["process"]).exists():
            remove(beside)


def keep_data(work: Path) -> None:
    """Remove whatever below `work` is no file of data by its name: an attempt that goes on needs nothing
    else, and some library might run it."""
    for path in list(_below(work)):
        if path.is_symlink() or (path.suffix not in _DATA and not path.is_dir()):
            path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a link itself."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _below(place: Path) -> Iterator[Path]:
    """`place` and everything below it; what a link leads to is not."""
    yield place
    if place.is_dir() and not place.is_symlink():
        for root, folders, files in os.walk(place):
            yield from (Path(root, name) for name in (*folders, *files))


def _foreign(path: Path) -> InputError:
    what = "a link" if path.is_symlink() else "no regular file"
    return InputError(
        f"{path} is {what}, and the program follows none among its own files; delete it, then run the same "
        "command again."
    )
