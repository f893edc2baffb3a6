"""Pictures made to cost time, memory or the decoder's life, and trees made to be too deep: skipped by name,
while healthy pictures beside them come out as ever."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vzero.config import ImagesConfig
from vzero.errors import InputError, InterruptedRun
from vzero.images import folder, isolated, tables
from vzero.images.decoding import Unusable, decode
from vzero.images.isolated import decode_isolated
from vzero.images.usable import usable
from vzero.runtime.progress import Progress

LIMIT = 50e6


def encoded(form: str, size: tuple[int, int] = (60, 40), mode: str = "RGB", **how: object) -> bytes:
    rows = np.random.default_rng(1).integers(0, 256, (size[1], size[0], len(mode)), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rows.squeeze(), mode).save(buffer, form, **how)
    return buffer.getvalue()


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG of one colour whose last scan is written many times over."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 60)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def webp(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (1, 2, 3)).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


HEALTHY = {
    **{form: encoded(form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")},
    "transparent": encoded("PNG", mode="RGBA"),
    "grey": encoded("PNG", mode="L"),
    "progressive": encoded("JPEG", progressive=True),
    "cut": encoded("JPEG", (200, 200), quality=95)[:-400],
    "cut short": encoded("JPEG", (200, 200), quality=95)[:5000],
    "nothing": b"",
    "text": b"hello",
}


def told(decoder: object, data: bytes) -> tuple[object, ...]:
    """What a decoder makes of a file: pixels or the reason, and the notes."""
    notes: list[str] = []
    try:
        image = decoder(data, LIMIT, notes.append)
        return image.mode, image.size, image.tobytes(), image.info, notes
    except Unusable as error:
        return str(error), notes


@pytest.mark.parametrize("name", HEALTHY)
def test_the_child_gives_the_same_pixels_notes_and_reasons(name: str) -> None:
    assert told(decode_isolated, HEALTHY[name]) == told(decode, HEALTHY[name])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(HEALTHY)), st.data())
def test_it_does_so_for_damaged_files(name: str, data: st.DataObject) -> None:
    damaged = bytearray(HEALTHY[name])
    for _ in range(data.draw(st.integers(1, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert told(decode_isolated, bytes(damaged)) == told(decode, bytes(damaged))


BOMBS = {
    "scans.jpg": (jpeg_of_scans(1500, 12_000), "takes more than 1 s"),
    "comments.pgm": (b"P5\n" + b"#\n" * 12_000_000 + b"1 1\n255\n\0", "takes more than 1 s"),
    "wide.webp": (webp(7000), "takes more than 604 MB"),
}


def test_what_costs_too_much_is_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "SECONDS", 1)
    for number, (name, (data, _)) in enumerate(BOMBS.items()):
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"z{number}.png").write_bytes(encoded("PNG", (30 + number, 30)))
    config = ImagesConfig(source=str(tmp_path), count=100)
    found = usable(folder.pictures(tmp_path, LIMIT), config, Progress(tmp_path.parent / "progress"), None)
    assert [Path(row["path"]).name for row in found.rows] == ["z0.png", "z1.png", "z2.png"]
    reasons = {Path(one["path"]).name: one["reason"] for one in found.skipped}
    assert set(reasons) == set(BOMBS)
    for name, (_, reason) in BOMBS.items():
        assert reason in reasons[name]


def test_a_decoder_that_dies_or_hangs_costs_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = decode_isolated(HEALTHY["PNG"], LIMIT)
    child = isolated._child(os.getpid())
    before = child._popen
    before.kill()  # as the kernel does for want of memory: no fault of the next picture, small or large
    before.wait()
    assert decode_isolated(HEALTHY["PNG"], LIMIT) == healthy and child._popen.pid != before.pid
    monkeypatch.setattr(isolated, "_WAIT", 0.2)
    os.kill(child._popen.pid, 19)  # SIGSTOP
    with pytest.raises(Unusable, match="takes more than"):
        decode_isolated(HEALTHY["PNG"], LIMIT)
    monkeypatch.setattr(isolated, "_WAIT", 60)
    assert decode_isolated(HEALTHY["JPEG"], LIMIT).size == (60, 40)


@pytest.mark.parametrize(
    ("program", "raised", "said"),
    [
        # It says that a million bytes follow, sends a few, and dies as a crash in a C library would.
        (
            "import os, sys; sys.stdin.buffer.readline(); print('{\"bytes\": 1000000}abc', flush=True);"
            " os.kill(os.getpid(), 11)",
            Unusable,
            "its decoder crashed",
        ),
        ("import os; os.kill(os.getpid(), 9)", InterruptedRun, "ended twice"),
        ("raise SystemExit(1)", InterruptedRun, "ended twice"),  # one that cannot start blames no picture
    ],
)
def test_what_ended_a_decoder_is_told_apart(
    program: str, raised: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", program]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(isolated, "_started", started)
    with pytest.raises(raised, match=said):
        isolated._Child().decode(HEALTHY["PNG"], LIMIT, print)


def test_ten_thousand_pictures_are_one_child() -> None:
    child = isolated._child(os.getpid())
    decode_isolated(HEALTHY["PNG"], LIMIT)
    first = child._popen.pid
    for data in HEALTHY.values():
        told(decode_isolated, data)
    assert child._popen.pid == first


def deep(root: Path, depth: int, name: str) -> None:
    """A folder in a folder in a folder, a picture at the bottom."""
    below = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=below)
        inner = os.open(name, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    with open(os.open("p.png", os.O_WRONLY | os.O_CREAT, dir_fd=below), "wb") as stream:
        stream.write(HEALTHY["PNG"])
    os.close(below)


def test_a_tree_of_1200_folders_is_walked(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    deep(tmp_path / "tree", 1200, "d")
    try:
        ((path, read),) = folder.pictures(tmp_path / "tree", LIMIT)
        assert path.endswith("/d/p.png") and read() == HEALTHY["PNG"]
        (tmp_path / "tree" / "one.parquet").write_bytes(b"")
        assert not tables.is_table(str(tmp_path / "tree"))  # it holds a picture too
    finally:  # Python's own removal is not that deep
        subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


def test_a_path_that_is_longer_than_the_system_takes_is_skipped_by_name(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    deep(tmp_path / "tree", 30, "long" * 50)
    ((path, read),) = folder.pictures(tmp_path / "tree", LIMIT)
    assert len(path) > 3000
    with pytest.raises(Unusable, match="cannot be read"):
        read()


def test_the_order_is_that_of_sorted_names(tmp_path: Path) -> None:
    names = ["b/x", "a.png", "a/z/1", "a/b", "c", "a-b", "b.d/q"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path) for path in folder.files(tmp_path)]
    assert found == sorted(map(Path, names), key=lambda path: path.parts)
    with pytest.raises(InputError, match="Cannot read"):
        list(folder.files(tmp_path / "none"))
