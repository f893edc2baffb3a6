"""Damaged bytes, hostile folders, pictures and replies, made by a seed."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults.victims import GOOD
from vzero.runtime import artefacts, owned

Damage = Callable[[bytes, random.Random], bytes]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    if found:
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _doubled(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines)) if lines else 0
    return b"".join([*lines[: at + 1], *lines[at:]])


def _swapped(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        one, other = rng.sample(range(len(lines)), 2)
        lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


DAMAGES: Mapping[str, Damage] = {
    "empty": lambda data, rng: b"",
    "cut": lambda data, rng: data[: rng.randrange(len(data) + 1)],
    "flip": _flipped,
    "double": _doubled,
    "rows swapped": _swapped,
    "nul": lambda data, rng: data + b"\0" * 30 + b"\n",
    "garbage": lambda data, rng: rng.randbytes(200),
    "list": lambda data, rng: b"[1, 2]\n",
    "number": lambda data, rng: b"7\n",
    "deep": lambda data, rng: b"[" * 100_000,
    "swapped": lambda data, rng: data.replace(b": {", b": [", 1).replace(b'": "', b'": 3, "x": "', 1),
}


# What may come to be in the place of a file.
PLACES: Mapping[str, Callable[[Path], object]] = {
    "gone": lambda path: None,
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link": lambda path: path.symlink_to(os.devnull),
    "unreadable": lambda path: path.touch(0),
}
HARMS = (*DAMAGES, *PLACES, "another's")


def harm(path: Path, how: str, rng: random.Random, others: Sequence[Path] = ()) -> None:
    """Do one of `HARMS` to a file; `others`: of the same name, in another place, of another run or an earlier
    version, one of which may take its place."""
    if how in PLACES:
        path.unlink()
        PLACES[how](path)
    elif how in DAMAGES:
        path.write_bytes(DAMAGES[how](path.read_bytes(), rng))
    elif others:
        path.write_bytes(rng.choice(others).read_bytes())


def put_right(path: Path) -> None:
    """Do what the sentence about such a file asks for: allow it to be read, or delete it."""
    if path.is_file() and not path.is_symlink() and not path.stat().st_mode & 0o400:
        path.chmod(0o644)
    else:
        owned.remove(path)


# What a value of JSON may become.
VALUES = (
    *(None, "x", "", -1, 0, 0.5, 1e300, 10**40, True, [], [[]], {}, {"a": 1}, "A" * 9000),
    *("\u202e\x1b[2J", "\ud800", "../../../etc/passwd", "<script>alert(1)</script>"),
)


def misshape(run: Path, rng: random.Random) -> str:
    """One value of a run, whose stages are sealed, becomes another, and all is sealed again, as whoever made
    that run can do it; which one."""
    path = rng.choice(sorted(one for one in run.rglob("*") if one.suffix in (".json", ".jsonl")))
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    at = rng.randrange(max(1, len(lines)))
    holder: Any = {"": json.loads(lines[at]) if lines else {}}
    whole, way, key = holder, [], ""
    while isinstance(holder[key], dict | list) and holder[key] and (not way or rng.random() < 0.8):
        holder = holder[key]
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        way.append(str(key))
    value = rng.choice((*VALUES, whole))
    if value is whole and way:
        del holder[key]
    else:
        holder[key] = value if value is not whole else []
    lines[at:] = [json.dumps(whole[""]).encode(), *lines[at + 1 :]]
    path.write_bytes(b"\n".join(lines) + b"\n")
    seal_again(run)
    return f"{path.relative_to(run)}, row {at + 1}, {'.'.join(way)} -> {json.dumps(holder)[:60]}"


def seal_again(run: Path) -> None:
    """Give the manifests of a run's stages the digests of what lies there, in the order of their names."""
    renewed: dict[str, str] = {}  # digest of a content -> what it is now
    for manifest in sorted(run.glob(f"stages/*/{artefacts.MANIFEST}")):
        with suppress(ValueError, LookupError, TypeError, AttributeError):  # it is what was misshapen
            sealed = json.loads(manifest.read_bytes())
            sealed.pop("digest", None)
            before, files = artefacts.content_digest(sealed), artefacts.folder_hashes(manifest.parent)
            sealed["files"] = {name: files.get(name, digest) for name, digest in sealed["files"].items()}
            inputs = sealed["spec"]["inputs"]
            sealed["spec"]["inputs"] = {role: renewed.get(one, one) for role, one in inputs.items()}
            renewed[before] = artefacts.content_digest(sealed)
            artefacts.write_json(manifest, sealed)


def picture(rng: random.Random, kind: str = "PNG") -> bytes:
    """A small one in one of Pillow's formats."""
    size = rng.randrange(40, 90), rng.randrange(40, 90)
    made = io.BytesIO()
    Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1])).save(made, kind)
    return made.getvalue()


def spoilt_picture(rng: random.Random) -> bytes:
    """One whose bytes were changed, cut, repeated or joined with another's."""
    kinds = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
    data = picture(rng, rng.choice(kinds))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        data = rng.choice(
            [
                _flipped(data, rng),
                data[:at],
                data[:at] + rng.randbytes(rng.randrange(64)) + data[at:],
                data[:at] + picture(rng, rng.choice(kinds))[at:],
                data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :],
            ]
        )
    return data


def fill_hostile(folder: Path, secret: Path, rng: random.Random) -> list[Path]:
    """Names, links, pipes and folders that somebody might send; those of the good pictures among them."""
    names = [
        *("\x1b[2J.png", "a\nb.png", "\u202egnp.png", "con.png", "--help.png", "$(reboot).png", "x" * 250),
        *(os.fsdecode(b"\xff\xfe.png"), " .png", ".png", "%s.png", "..png"),
    ]
    good = []
    for name in rng.sample(names, 5):
        place = folder.joinpath(*(rng.choice(["d", "e \u200b", "-f"]) for _ in range(rng.randrange(3))), name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(rng))
        good.append(place)
    traps: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(secret),
        lambda path: path.symlink_to(secret.parent),
        lambda path: path.symlink_to(folder),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/proc/self/environ"),
        os.mkfifo,
        lambda path: path.mkdir(mode=0o000),
        lambda path: path.joinpath(*["deep"] * 200).mkdir(parents=True),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(spoilt_picture(rng)),
        lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 33),  # of holes
    ]
    for number, trap in enumerate(rng.sample(traps, 8)):
        trap(folder / f"{number}.png")
    return good


_PIECES = (
    *("<question>", "</question>", "<answer>", "</answer>", "A) 1 B) 2 C) 3 D) 4", "A", "\\boxed{", "}", "B"),
    *("<think>", "</think>", "<|im_end|>", "<image>", "[INST]", "<\uff5cUser\uff5c>", "ask", "\x1b]0;x\x07"),
    *("\u202e", "\ud800", "\0", "\r", "\n", "{{7*7}}", "=cmd()", "<script>", "\u2028", "x" * 5000, "\\" * 99),
)


def hostile_reply(rng: random.Random, asked: bool) -> str:
    """Text of the parts that parsers, prompts, terminals and tables give a meaning; at times a good reply."""
    if rng.random() < 0.3:
        return GOOD.format(rng.choice("ABCD")) if asked else "\\boxed{B}"
    return "".join(rng.choice(_PIECES) for _ in range(rng.randrange(40)))
