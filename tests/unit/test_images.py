"""The images stage on folders made here: what is used, what is skipped and why, and what a later stage may
open."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness.runs.display import summary
from vzero.errors import InputError
from vzero.images import decoding, stage
from vzero.images.records import load_records, open_image, seen_size
from vzero.presets import load_preset
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext
from vzero.selfplay import plan


def picture(
    color: tuple[int, ...] | int = (10, 20, 30),
    size: tuple[int, int] = (8, 6),
    form: str = "PNG",
    mode: str = "RGB",
) -> bytes:
    """All of `color`, but for the last pixel."""
    stream, image = io.BytesIO(), Image.new(mode, size, color)
    if min(size) > 1:
        last = tuple(255 - c for c in color) if isinstance(color, tuple) else 1 if color == 0 else color // 2
        image.putpixel((size[0] - 1, size[1] - 1), last)
    image.save(stream, form)
    return stream.getvalue()


def noisy(form: str) -> bytes:
    """A picture large enough that half of its file is half of its pixels."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (64, 64), hashlib.shake_256(b"noise").digest(64 * 64 * 3)).save(stream, form)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises `width` x `height`, written by hand after the PNG
    specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def context(tmp_path: Path, source: Path | str, count: int = 100, **changes: object) -> StageContext:
    preset = load_preset(
        "smoke",
        changes={
            "images.source": str(source),
            "images.count": count,
            **{f"images.{key}": value for key, value in changes.items()},
        },
    )
    folder = tmp_path / "stage"
    folder.mkdir(exist_ok=True)
    return StageContext(plan(preset)[0], preset, folder, {}, Progress(folder / "work" / "progress.jsonl"))


def skipped(tmp_path: Path) -> dict[str, str]:
    return {
        Path(row["path"]).name: row["reason"]
        for row in json.loads((tmp_path / "stage" / "skipped.json").read_text())["skipped"]
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def test_a_folder_is_read_in_path_order_and_recursively(tmp_path: Path, folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "c.png").write_bytes(picture((1, 1, 1)))
    (folder / "b" / "z.JPG").write_bytes(picture((2, 2, 2), form="JPEG"))
    (folder / "a.webp").write_bytes(picture((3, 3, 3), form="WEBP"))
    facts = stage.run(context(tmp_path, folder))
    records = load_records(tmp_path / "stage")
    assert [record.path for record in records] == [
        folder / "a.webp",
        folder / "b" / "z.JPG",
        folder / "c.png",
    ]
    assert facts == {"images": 3, "skipped": 0}
    data = (folder / "c.png").read_bytes()
    assert records[2].sha256 == hashlib.sha256(data).hexdigest()
    assert records[2].image_id == records[2].sha256[:16]
    assert (records[2].width, records[2].height) == (8, 6)


def test_broken_files_are_named_and_the_good_one_is_used(tmp_path: Path, folder: Path) -> None:
    (folder / "good.png").write_bytes(picture())
    (folder / "zcopy.png").write_bytes(picture())
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "half.jpg").write_bytes(noisy("JPEG")[:2000])
    (folder / "half.png").write_bytes(noisy("PNG")[:6000])
    (folder / "narrow.png").write_bytes(picture(size=(1, 201)))
    (folder / "gone.png").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.png")
    facts = stage.run(context(tmp_path, folder))
    reasons = skipped(tmp_path)
    assert [record.path.name for record in load_records(tmp_path / "stage")] == ["good.png"]
    assert set(reasons) == {
        "zcopy.png",
        "text.jpg",
        "empty.png",
        "half.jpg",
        "half.png",
        "narrow.png",
        "gone.png",
        "pipe.png",
    }
    assert (facts["images"], facts["skipped"]) == (1, 8)
    assert (
        "good.png" in reasons["zcopy.png"]
        and "truncated" in reasons["half.jpg"]
        and "200" in reasons["narrow.png"]
    )


def test_size_is_judged_from_the_header(tmp_path: Path, folder: Path) -> None:
    (folder / "a.png").write_bytes(bomb(1000, 1001))
    (folder / "b.png").write_bytes(bomb(60_000, 60_000))
    (folder / "c.png").write_bytes(picture())
    stage.run(context(tmp_path, folder, max_megapixels=1.0))
    reasons = skipped(tmp_path)
    assert "over the limit of 1 megapixels" in reasons["a.png"] and "too large" in reasons["b.png"]
    assert [record.path.name for record in load_records(tmp_path / "stage")] == ["c.png"]


def test_pillows_bomb_guard_stands_even_when_our_limit_is_generous(tmp_path: Path, folder: Path) -> None:
    (folder / "a.png").write_bytes(bomb(10_000, 10_000))  # 100 megapixels: Pillow only warns at this size
    (folder / "b.png").write_bytes(picture())
    stage.run(context(tmp_path, folder, max_megapixels=1e6))
    assert "bomb" in skipped(tmp_path)["a.png"]


def test_every_file_is_used_or_named_whatever_its_name_says(tmp_path: Path, folder: Path) -> None:
    """A picture is known by its content. The terminal gets one line; all names are in `skipped.json`."""
    (folder / "0001").write_bytes(picture())
    (folder / "photo.png").write_bytes(picture((9, 9, 9), form="JPEG"))
    others = {
        "labels.json": b"{}",
        "README.txt": b"Pictures of words",
        ".DS_Store": b"\0\0\0\1Bud1",
        "logo.svg": b"<svg/>",
        "film.mp4": b"\0\0\0\x20ftypisom" + bytes(50),
        "layers.psd": b"8BPS\0\1",
        "all.zip": b"PK\3\4",
        "scan.jp2": picture((1, 2, 3), form="JPEG2000"),
        "scan.jpg": picture((1, 2, 3), form="JPEG2000"),
    }
    for name, data in others.items():
        (folder / name).write_bytes(data)
    facts = stage.run(context(tmp_path, folder))
    assert (facts["images"], facts["skipped"]) == (2, len(others))
    assert {record.path.name for record in load_records(tmp_path / "stage")} == {"0001", "photo.png"}
    reasons = skipped(tmp_path)
    assert set(reasons) == set(others)
    assert "JPEG 2000" in reasons["scan.jp2"] and "JPEG 2000" in reasons["scan.jpg"]
    assert f", {len(others)} not in a format that is read (.DS_Store, README.txt, " in summary(
        "images", facts
    )
    assert "logo.svg" not in summary("images", facts) and "\n" not in summary("images", facts)


def test_a_picture_of_one_colour_is_named(tmp_path: Path, folder: Path) -> None:
    for name, mode, color in (("blank", "RGB", "white"), ("clear", "RGBA", (9, 9, 9, 0)), ("grey", "F", 0.5)):
        Image.new(mode, (20, 20), color).save(folder / f"{name}.tif")
    (folder / "good.png").write_bytes(picture())
    stage.run(context(tmp_path, folder))
    written = json.loads((tmp_path / "stage" / "skipped.json").read_text())
    assert [one["reason"] for one in written["notes"]] == ["of one colour"] * 3 and not skipped(tmp_path)
    assert decoding.decode((folder / "blank.tif").read_bytes(), 1e6).getpixel((0, 0)) == (255, 255, 255)


def test_at_most_count_are_used(tmp_path: Path, folder: Path) -> None:
    for index in range(5):
        (folder / f"{index}.png").write_bytes(picture((index, 0, 0)))
    assert stage.run(context(tmp_path, folder, count=3)) == {"images": 3, "skipped": 0}
    written = json.loads((tmp_path / "stage" / "skipped.json").read_text())
    assert Path(written["stopped_after"]).name == "2.png"


def test_what_is_too_narrow_once_it_is_shrunk_makes_room_for_the_next(tmp_path: Path, folder: Path) -> None:
    """10,000 x 60 is 167 to 1; shrunk to 1,000 pixels it would be 408 x 2."""
    (folder / "a.png").write_bytes(picture(size=(10_000, 60)))
    (folder / "b.png").write_bytes(picture())
    stage.run(context(tmp_path, folder, count=1, shrink_megapixels=0.001))
    assert [record.path.name for record in load_records(tmp_path / "stage")] == ["b.png"]
    assert "408 x 2" in skipped(tmp_path)["a.png"]


def test_a_picture_is_recorded_and_opened_upright(tmp_path: Path, folder: Path) -> None:
    """Stored lying, 400 x 300, with EXIF's "turn to the right"; the digest stays that of the bytes."""
    exif = Image.Exif()
    exif[0x112] = 6
    lying = Image.new("RGB", (400, 300))
    lying.paste((255, 0, 0), (0, 0, 200, 300))
    lying.save(folder / "a.png", exif=exif)
    stage.run(context(tmp_path, folder, shrink_megapixels=0.03))
    [record] = load_records(tmp_path / "stage")
    assert (record.width, record.height, record.seen) == (300, 400, (150, 200))
    assert record.sha256 == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    image = open_image(record)
    assert image.size == (150, 200) and not image.info
    assert image.getpixel((75, 20)) == (255, 0, 0) and image.getpixel((75, 180)) == (0, 0, 0)
    begun_before = replace(record, width=400, height=300)
    with pytest.raises(InputError, match="--fresh"):
        open_image(begun_before)


def test_nothing_usable_is_one_sentence(tmp_path: Path, folder: Path) -> None:
    (folder / "x.png").write_text("no")
    with pytest.raises(InputError, match=r"No usable picture in .* \(1 skipped\)") as caught:
        stage.run(context(tmp_path, folder))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    with pytest.raises(InputError, match="Cannot read the image folder"):
        stage.run(context(tmp_path, tmp_path / "absent"))


def test_large_pictures_are_shrunk_whenever_they_are_opened(tmp_path: Path, folder: Path) -> None:
    """400 x 300 to 30,000 pixels is half of each side. The record keeps the file's own size and bytes; small
    ones stay as they are."""
    (folder / "a.png").write_bytes(picture(size=(400, 300)))
    (folder / "b.png").write_bytes(picture(size=(200, 150)))
    stage.run(context(tmp_path, folder, shrink_megapixels=0.03))
    large, small = load_records(tmp_path / "stage")
    assert (large.width, large.height, large.seen, small.seen) == (400, 300, (200, 150), None)
    assert large.sha256 == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    assert open_image(large).size == open_image(small).size == (200, 150)
    assert seen_size(10_000, 60, 1000) == (408, 2) and seen_size(3, 2, 1) == (1, 1)


def test_a_linked_folder_is_not_entered(tmp_path: Path, folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "a.png").write_bytes(picture())
    stage.run(context(tmp_path, folder))
    assert list(skipped(tmp_path)) == ["loop"]


def test_hostile_names_survive_the_round_trip(tmp_path: Path, folder: Path) -> None:
    name = os.fsdecode(b"a\xff\n\x1b[2J.png")
    (folder / name).write_bytes(picture())
    stage.run(context(tmp_path, folder))
    [record] = load_records(tmp_path / "stage")
    assert open_image(record).size == (8, 6)
    record.path.write_bytes(picture((0, 0, 0)))
    with pytest.raises(InputError) as caught:
        open_image(record)
    assert str(caught.value).isprintable() and str(caught.value).isascii()


def test_open_image_refuses_what_changed(tmp_path: Path, folder: Path) -> None:
    path = folder / "a.png"
    path.write_bytes(picture((200, 100, 50)))
    stage.run(context(tmp_path, folder))
    [record] = load_records(tmp_path / "stage")
    image = open_image(record)
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (200, 100, 50)
    path.write_bytes(picture((200, 100, 51)))
    with pytest.raises(InputError, match=r"a\.png changed"):
        open_image(record)
    path.unlink()
    with pytest.raises(InputError, match=r"Cannot read the picture .*a\.png"):
        open_image(record)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (picture((255, 0, 0, 0), mode="RGBA"), (255, 255, 255)),  # wholly transparent: the white behind it
        (picture((255, 0, 0, 255), mode="RGBA"), (255, 0, 0)),
        (picture(77, mode="L"), (77, 77, 77)),
        (picture(128 * 256, mode="I;16"), (128, 128, 128)),
        (picture(1, mode="1"), (255, 255, 255)),
    ],
)
def test_modes_become_rgb(data: bytes, expected: tuple[int, int, int]) -> None:
    assert decoding.decode(data, 1e6).getpixel((3, 3)) == expected


def test_truncated_pictures_stay_refused_after_another_library_allowed_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(decoding.Unusable):
        decoding.decode(noisy("JPEG")[:2000], 1e6)


def test_the_pocket_world_gives_the_pictures_it_lists(tmp_path: Path) -> None:
    assert stage.run(context(tmp_path, "pocket", count=3)) == {"images": 3, "skipped": 0}
    records = load_records(tmp_path / "stage")
    assert len({record.image_id for record in records}) == 3
    for record in records:
        assert open_image(record).size == (record.width, record.height)
        assert record.path.is_relative_to(tmp_path / "stage")
