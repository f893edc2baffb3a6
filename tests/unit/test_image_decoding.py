"""The one decoder on pictures as people have them: turned, deep, transparent, cut, with broken metadata."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw
from PIL.PngImagePlugin import PngInfo

from harness.evals.contamination import of_training, pairs, prints
from harness.evals.pictures import fit, one_picture
from harness.evals.results import Limits
from vzero.images.decoding import Unusable, check_shape, decode
from vzero.images.records import seen_size

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
ORIENTATION = 0x112
SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scene(width: int = 160, height: int = 120) -> np.ndarray:
    """(height, width, 3) a smooth picture that no turn leaves as it is."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 128 + 100 * np.sin(x / 7) * np.cos(y / 5)
    return np.stack([x * 255 // width, y * 255 // height, wave], -1).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, form: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, form, **how)
    return stream.getvalue()


def pixels(data: bytes, notes: list[str] | None = None) -> np.ndarray:
    """(height, width, 3) what the decoder makes of `data`."""
    image = decode(data, 1e7, (notes if notes is not None else []).append)
    assert image.mode == "RGB" and not image.info
    return np.asarray(image).astype(int)


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Where the stored first row and first column are in the upright picture, after EXIF 2.3, section 4.6.4.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("turn", UPRIGHT)
def test_pictures_are_turned_as_exif_says_and_as_datasets_does(form: str, turn: int) -> None:
    from datasets import Image as Feature

    exif = Image.Exif()
    exif[ORIENTATION] = turn
    data = encoded(scene(), form, exif=exif)
    found, expected = pixels(data), UPRIGHT[turn](scene().astype(int))
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 8
    if form in ("PNG", "TIFF"):
        assert (found == expected).all()
    theirs = Feature().decode_example({"bytes": data, "path": None})
    assert (found == np.asarray(theirs.convert("RGB"))).all()


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    data = encoded(scene(), "JPEG")
    broken = data[:2] + b"\xff\xe1\x00\x20Exif\0\0" + b"II*\0\xff\xff\xff\xff" + bytes(16) + data[2:]
    assert (pixels(broken) == pixels(data)).all()


def test_a_turned_training_picture_is_found_among_those_evaluated(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    (tmp_path / "holiday").write_bytes(encoded(scene(), "PNG", exif=exif))
    (tmp_path / "notes.txt").write_text("no picture")
    upright = Image.fromarray(np.rot90(scene(), -1).copy())
    found = list(pairs(prints(of_training(tmp_path)), prints([("item", upright)])))
    assert found == [("holiday", "item", True)]


def test_heic_is_read_upright_and_its_size_judged_from_the_header() -> None:
    """The file holds `scene(64, 48)`, to be turned to the right; its encoder is not in the lock."""
    data = (FIXTURES / "turned.heic").read_bytes()
    assert np.abs(pixels(data) - np.rot90(scene(64, 48), -1)).mean() < 8
    place = data.index(b"ispe") + 8
    huge = data[:place] + (40_000).to_bytes(4, "big") * 2 + data[place + 8 :]
    for wrong, limit, reason in ((huge, 1e7, "too large|limit|broken"), (data, 3000, "48 x 64 is over")):
        tracemalloc.start()
        with pytest.raises(Unusable, match=reason):
            decode(wrong, limit)
        assert tracemalloc.get_traced_memory()[1] < 1e7
        tracemalloc.stop()


@SOME
@given(st.sampled_from(["1", "L", "P", "RGB", "CMYK", "LAB", "RGBA", "LA", "I;16"]), st.integers(0, 99))
def test_ordinary_modes_keep_their_pixels(mode: str, seed: int) -> None:
    """Each against its definition: nothing but the mode changes a pixel."""
    rgb, deep = noise(seed, (9, 7, 3)), np.random.default_rng(seed).integers(0, 2**16, (9, 7), np.uint16)
    alpha = noise(seed + 1, (9, 7))
    image = Image.fromarray(deep if mode == "I;16" else rgb)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(alpha))
    elif mode == "LAB":
        to_lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.buildTransform(*to_lab, "RGB", "LAB").apply(image)
    elif mode != "I;16":
        image = image.convert(mode)
    found = pixels(encoded(image, "TIFF" if mode in ("CMYK", "LAB") else "PNG"))
    stored = np.asarray(image).astype(float)
    if mode == "I;16":
        assert (found == (deep >> 8)[..., None]).all()
    elif mode in ("RGBA", "LA"):
        share = stored[..., -1:] / 255
        assert np.abs(found - (stored[..., :-1] * share + 255 * (1 - share))).max() <= 1
    elif mode == "CMYK":
        ink = (255 - stored[..., :3]) * (255 - stored[..., 3:]) / 255
        assert np.abs(found - ink).max() <= 1
    elif mode == "LAB":
        assert np.abs(found - rgb.astype(int)).mean() < 12  # colours outside 8-bit LAB are lost
    elif mode == "P":
        assert (found == np.array(image.getpalette()).reshape(-1, 3)[stored.astype(int)]).all()
    else:
        assert (found == (stored * (255 if mode == "1" else 1)).reshape(9, 7, -1)).all()


def test_a_colour_out_of_lab_is_that_colour() -> None:
    red = Image.new("LAB", (4, 4))
    red.putdata([(136, 208, 195)] * 16)  # CIE L* 53.2, a* 80.1, b* 67.2
    assert np.abs(pixels(encoded(red, "TIFF"))[0, 0] - (255, 0, 0)).max() < 12


RAMP = np.linspace(0, 1, 200 * 10).reshape(10, 200)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.float32), RAMP * 255),
        ((RAMP * 200).astype(np.float32), RAMP * 200),
        ((RAMP * 60_000).astype(np.uint16), RAMP * 60_000 / 257),
        ((RAMP * 16_383).astype(np.uint16), RAMP * 16_383 / 257),  # 64 levels show
        *[
            (values, RAMP * 255)
            for values in ((RAMP * 4095).astype(np.uint16), (RAMP * 1e9).astype(np.int32))
        ],
        ((RAMP * 4000 - 1000).astype(np.int32), RAMP * 255),
        ((RAMP * 2 - 1).astype(np.float32), RAMP * 255),
        ((RAMP * 1e-3).astype(np.float32), RAMP * 255),
        ((RAMP * 3000).astype(np.float32), RAMP * 255),
        (np.where(RAMP > 0.5, np.nan, RAMP * 2).astype(np.float32), np.where(RAMP > 0.5, 0, RAMP * 510)),
        (np.where(RAMP > 0.5, -3.4e38, RAMP * 1000).astype(np.float32), np.where(RAMP > 0.5, 0, RAMP * 510)),
    ],
)
def test_deep_grey_is_scaled_so_that_it_shows(values: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(pixels(encoded(values, "TIFF")) - expected[..., None]).max() <= 1.5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "GIF"])
@pytest.mark.parametrize(("ink", "ground"), [(255, 64), (250, 64), (0, 255), (128, 255)])
def test_a_drawing_on_nothing_shows(mode: str, ink: int, ground: int) -> None:
    """The ground is white, unless hardly anything of the drawing would show on it."""
    line = ((10, 10, 90, 60), 3)
    if mode in ("P", "GIF"):
        image = Image.new("P", (100, 80), 0)
        image.putpalette([255, 255, 255, ink, ink, ink])
        ImageDraw.Draw(image).line(line[0], 1, line[1])
        data = encoded(image, "GIF" if mode == "GIF" else "PNG", transparency=0)
    else:
        image = Image.new(mode, (100, 80), 0)
        ImageDraw.Draw(image).line(line[0], (ink,) * (len(mode) - 1) + (255,), line[1])
        data = encoded(image, "PNG")
    found = pixels(data)
    assert (found[0, 0] == ground).all() and (found[35, 50] == ink).all()


def test_what_is_nearly_all_white_and_opaque_stays_as_it_is() -> None:
    page = Image.new("RGBA", (100, 80), "white")
    page.putpixel((3, 3), (0, 0, 0, 255))
    assert (pixels(encoded(page, "PNG")) == np.asarray(page)[..., :3]).all()
    assert pixels(encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 0)), "PNG")).min() == 255


def test_the_plugin_shows_a_drawing_on_nothing_too() -> None:
    image = Image.new("RGBA", (60, 60))
    ImageDraw.Draw(image).line((5, 5, 50, 50), "white", 3)
    _, shown = one_picture(
        [{"role": "user", "content": [{"type": "image", "url": image}, {"type": "text", "text": "?"}]}]
    )
    assert shown.mode == "RGB" and shown.getpixel((0, 0)) != shown.getpixel((25, 25))


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("JPEG", {"quality": 85}),
    "progressive": ("JPEG", {"quality": 85, "progressive": True}),
    "restarts": ("JPEG", {"quality": 85, "restart_marker_blocks": 7}),
    "grey": ("JPEG", {"quality": 85}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "tiff": ("TIFF", {}),
}
PICTURE = np.clip(scene(320, 240) + np.random.default_rng(1).normal(0, 6, (240, 320, 3)), 0, 255).astype(
    np.uint8
)


@cache
def of_kind(kind: str) -> bytes:
    image = Image.fromarray(PICTURE).convert("L" if kind == "grey" else "RGB")
    return encoded(image, KINDS[kind][0], **KINDS[kind][1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_its_last_bytes_is_used_and_half_a_file_is_not(kind: str) -> None:
    data = of_kind(kind)
    whole = pixels(data)
    notes: list[str] = []
    assert (np.abs(pixels(data[:-2], notes) - whole) > 0).any(2).mean() < 0.01
    assert kind in ("png", "restarts") or ("truncated" in notes[0] and len(notes) == 1)
    with pytest.raises(Unusable, match=r"truncated|decoder"):
        decode(data[: len(data) // 2], 1e7)
    notes.clear()
    assert (pixels(data + b"trailing rubbish \xff\xd8\xff", notes) == whole).all() and notes == []


@SOME
@given(st.sampled_from(list(KINDS)), st.floats(0, 1))
@example("progressive", 0.5)
@example("restarts", 0.5)
def test_at_most_a_tenth_of_a_used_picture_is_missing(kind: str, lost: float) -> None:
    """However it is cut: what differs much from the whole picture is bounded in what is used, and a cut of a
    few bytes is always used."""
    data = of_kind(kind)
    whole, keep = pixels(data), len(data) - int(lost * len(data))
    try:
        found = pixels(data[:keep])
    except Unusable:
        assert lost > 0.02
        return
    assert found.shape == whole.shape
    assert (np.abs(found - whole) > 40).any(2).mean() < 0.12


@pytest.mark.slow
def test_metadata_that_pillow_refuses_costs_no_picture_and_no_memory() -> None:
    plain, bomb = encoded(scene(), "PNG"), zlib.compress(bytes(30_000_000))
    texts = [encoded(scene(), "PNG", icc_profile=bytes(30_000_000))]
    for kind, head in ((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        info = PngInfo()
        info.add(kind, head + bomb)
        texts.append(encoded(scene(), "PNG", pnginfo=info))
    after = PngInfo()
    after.add(b"zTXt", b"k\0\0" + bomb, after_idat=True)
    wrong = PngInfo()
    wrong.add_text("k", "hello")
    texts += [
        encoded(scene(), "PNG", pnginfo=after),
        encoded(scene(), "PNG", pnginfo=wrong).replace(b"hello", b"jello"),
    ]
    for data in texts:
        assert data != plain
        notes: list[str] = []
        tracemalloc.start()
        assert (pixels(data, notes) == scene()).all()
        assert tracemalloc.get_traced_memory()[1] < 1e7
        tracemalloc.stop()
        assert len(notes) == 1 and "metadata" in notes[0]


def test_wrong_pixels_of_a_png_are_refused_and_turned_ones_without_metadata_stay_turned() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    info = PngInfo()
    info.add_text("k", "x" * 3_000_000, zip=True)
    turned = encoded(scene(), "PNG", exif=exif, pnginfo=info)
    assert (pixels(turned) == np.rot90(scene(), -1)).all()
    whole = encoded(scene(), "PNG")
    around = whole[:-16] + b"abcd" + whole[-12:]  # the last IDAT's own checksum, before IEND
    assert (pixels(around) == scene()).all()
    damaged = bytearray(encoded(noise(0, (50, 50, 3)), "PNG"))
    damaged[len(damaged) // 2] ^= 0xFF
    with pytest.raises(Unusable, match="broken"):
        decode(bytes(damaged), 1e7)


def test_the_first_of_several_frames_is_read() -> None:
    frames = [Image.fromarray(np.roll(scene(), 40 * k, 1)).quantize(64) for k in range(3)]
    for form in ("GIF", "PNG", "TIFF", "WEBP"):
        extra = {"lossless": True} if form == "WEBP" else {}
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **extra)
        assert (pixels(data) == np.asarray(frames[0].convert("RGB"))).all()
    pair = encoded(scene(), "MPO", save_all=True, append_images=[Image.fromarray(scene(80, 60))])
    assert (pixels(pair) == pixels(encoded(scene(), "JPEG"))).all()


def test_a_cameras_raw_file_is_named_not_read_as_its_preview() -> None:
    for tags in ({50706: b"\1\4\0\0"}, {254: 1, 330: 8}):
        with pytest.raises(Unusable, match="raw file"):
            decode(encoded(scene(), "TIFF", tiffinfo=tags), 1e7)
    with pytest.raises(Unusable, match="raw file"):
        decode(b"II*\0\x10\0\0\0CR\2\0" + bytes(100), 1e7)


def refused(width: int, height: int) -> bool:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    try:
        smart_resize(height, width)
    except ValueError:
        return True
    return False


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30_000), st.integers(1, 400), st.booleans(), st.floats(1e3, 2e6), st.floats(1e-3, 1))
@example(10_000, 60, False, 1000.0, 1.0)
@example(201, 1, True, 1000.0, 1.0)
def test_no_shape_that_passes_is_refused_by_qwens_resize(
    long: int, short: int, tall: bool, most: float, part: float
) -> None:
    """As it is, shrunk for training, and fitted for an evaluation; and nothing more is refused."""
    size = (short, long) if tall else (long, short)
    if refused(*size):
        with pytest.raises(Unusable, match="too narrow"):
            check_shape(*size)
        return
    check_shape(*size)
    seen = seen_size(*size, most)
    if refused(*seen):
        with pytest.raises(Unusable, match="too narrow"):
            check_shape(*seen)
    if long * short < 1e5:
        assert not refused(*fit(Image.new("L", size), Limits(least=int(most * part), most=int(most))).size)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_hostile_bytes_are_a_picture_or_a_reason(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([*KINDS, "gif", "avif", "heic"]))
    if kind in KINDS:
        raw = bytearray(of_kind(kind)[:8000])
    else:
        stored = kind == "heic"
        raw = bytearray((FIXTURES / "turned.heic").read_bytes() if stored else encoded(scene(20, 15), kind))
    for place, value in data.draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)):
        raw[int(place**3 * (len(raw) - 1))] = value  # most of them near the beginning
    try:
        assert decode(bytes(raw), 1e6).mode == "RGB"
    except Unusable as error:
        assert str(error) and "\n" not in str(error)
