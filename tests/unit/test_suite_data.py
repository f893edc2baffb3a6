"""Rows on disk: found, pinned, refused when changed; pictures under limits; local layouts. No model, no
lmms-eval."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from harness.evals import catalogue, pins, rows, write
from harness.evals.fetch import fetch
from harness.evals.pictures import fit, one_picture, side_by_side
from harness.evals.results import Limits
from tests.fixtures import suite_rows
from vzero.errors import InputError, VZeroError
from vzero.runtime import artefacts

SUITES = {name: catalogue.suites()[name] for name in catalogue.members("all")}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return suite_rows.write(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def mmstar(saved, tmp_path) -> Path:
    shutil.copytree(saved / "mmstar", tmp_path / "data" / "mmstar")
    return tmp_path / "data"


def silent(text: str) -> None:
    pass


def logicvista(folder: Path, rows: int = 3) -> Path:
    """LogicVista's public layout."""
    (folder / "images").mkdir(parents=True)
    table = {}
    for number in range(rows):
        (folder / "images" / f"v1_{number}.png").write_bytes(suite_rows.picture(number))
        about = {
            "question": f"Which? {number}",
            "answer": "B, a",
            "skill": ["spatial"],
            "broad_capability": ["diagram"],
        }
        table[f"v1_{number}"] = {"imagename": f"v1_{number}.png", **about}
    (folder / "dataset.json").write_text(json.dumps(table))
    return folder


@pytest.mark.slow
def test_every_suite_is_found_where_fetch_puts_it(saved, tmp_path):
    for name, suite in SUITES.items():
        tables = rows.open_parts(suite, saved, tmp_path)
        assert [len(table.questions) for table in tables] == [
            len(rows) for (one, _), (_, rows) in suite_rows.SPLITS.items() if one == name
        ]


def test_a_folder_of_datasets_may_be_given_itself(saved, tmp_path):
    (table,) = rows.open_parts(SUITES["mmstar"], saved / "mmstar", tmp_path)
    assert table.questions[0].item.gold == ("B",)
    with pytest.raises(InputError, match="no split 'train' of mmvp"):
        rows.open_parts(SUITES["mmvp"], saved / "mmstar", tmp_path)
    with pytest.raises(InputError, match="There is no blink"):
        rows.open_parts(SUITES["blink"], saved / "mmstar", tmp_path)


def test_a_damaged_folder_is_one_sentence(mmstar, tmp_path):
    next((mmstar / "mmstar" / "val").glob("*.arrow")).write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as a `datasets` folder"):
        rows.open_parts(SUITES["mmstar"], mmstar, tmp_path)


def test_the_public_layout_of_logicvista_becomes_rows(tmp_path):
    folder = logicvista(tmp_path / "copy")
    (table,) = rows.open_parts(SUITES["logicvista"], folder, tmp_path / "scratch")
    assert [question.item.id for question in table.questions] == ["v1_0", "v1_1", "v1_2"]
    assert {question.item.gold for question in table.questions} == {("A", "B")}
    shown = table.pictures(1)
    assert shown["image"].tobytes() == Image.open(folder / "images" / "v1_1.png").tobytes()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"v1_0": {}}', '{"v1_0": 3}', '{"v1_0": {"imagename": 3, "question": "?", "answer": "A"}}'],
)
def test_a_file_that_is_not_the_benchmarks_is_one_sentence(tmp_path, content):
    folder = logicvista(tmp_path / "copy")
    (folder / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=r"logicvista|LogicVista"):
        rows.open_parts(SUITES["logicvista"], folder, tmp_path / "scratch")


def test_mathvistas_json_with_pictures_becomes_rows(tmp_path):
    (tmp_path / "copy" / "images").mkdir(parents=True)
    (tmp_path / "copy" / "images" / "1.jpg").write_bytes(suite_rows.picture(1))
    row = {
        key: value
        for key, value in suite_rows.SPLITS["mathvista", None][1][0].items()
        if key not in ("decoded_image", "query")
    }
    (tmp_path / "copy" / "testmini.json").write_text(json.dumps({"1": row}))
    (table,) = rows.open_parts(SUITES["mathvista"], tmp_path / "copy", tmp_path / "scratch")
    assert table.questions[0].item.gold == ("B",) and table.part.split == "testmini"


def test_fetch_from_a_copy_pins_rows_and_pictures_and_is_done_once(tmp_path):
    folder = logicvista(tmp_path / "copy")
    told = fetch(SUITES["logicvista"], tmp_path / "data", folder, None, silent)
    assert (told.state, told.rows, told.rows_expected, told.with_gold) == ("fetched", 3, 448, 3)
    assert set(artefacts.read_json(tmp_path / "data" / "logicvista.pins.json")["rows"]) == {
        "v1_0",
        "v1_1",
        "v1_2",
    }
    shutil.rmtree(folder)
    again = fetch(SUITES["logicvista"], tmp_path / "data", folder, None, silent)
    assert again.state == "already there" and again.sha256 == told.sha256


def test_what_a_killed_fetch_left_goes_with_the_next(tmp_path):
    folder, data = logicvista(tmp_path / "copy"), tmp_path / "data"
    nobody = 9_999_999  # above any process id
    names = ("logicvista", "logicvista.old", "logicvista.pins.json")
    dead = [data / f".{name}.{nobody}.tmp" for name in names]
    kept = [data / name for name in (".logicvista.x.tmp", f".other.{nobody}.tmp", ".logicvista.1.tmp")]
    for one in (*dead, *kept):
        one.mkdir(parents=True)
    fetch(SUITES["logicvista"], data, folder, None, silent)
    assert [one.exists() for one in (*dead, *kept)] == [False] * 3 + [True] * 3


def test_a_changed_row_is_refused_and_named(tmp_path):
    folder = logicvista(tmp_path / "copy", rows=6)
    fetch(SUITES["logicvista"], tmp_path / "data", folder, None, silent)
    (folder / "images" / "v1_4.png").write_bytes(suite_rows.picture(99))  # a picture
    table = json.loads((folder / "dataset.json").read_text())
    table["v1_2"]["answer"] = "C"  # a gold answer
    (folder / "dataset.json").write_text(json.dumps(table))
    write.converted(
        SUITES["logicvista"], [folder / "dataset.json"], tmp_path / "data"
    )  # behind the pins' back
    with pytest.raises(
        InputError, match=r"Rows of logicvista are not the ones that were pinned: v1_2, v1_4;"
    ):
        rows.open_parts(SUITES["logicvista"], tmp_path / "data", tmp_path / "scratch")
    with pytest.raises(InputError, match="v1_2, v1_4"):
        fetch(SUITES["logicvista"], tmp_path / "data", folder, None, silent)


def test_a_missing_row_is_refused(tmp_path):
    folder = logicvista(tmp_path / "copy", rows=6)
    fetch(SUITES["logicvista"], tmp_path / "data", folder, None, silent)
    shutil.rmtree(folder)
    fewer = logicvista(tmp_path / "less", rows=2) / "dataset.json"
    write.converted(SUITES["logicvista"], [fewer], tmp_path / "data")
    with pytest.raises(InputError, match="v1_2, v1_3, v1_4 and 1 more"):
        rows.open_parts(SUITES["logicvista"], tmp_path / "data", tmp_path / "scratch")


def test_damaged_pins_are_one_sentence(mmstar, tmp_path):
    pins.file(mmstar, SUITES["mmstar"]).write_text("{}")
    with pytest.raises(InputError, match="not a file of pins"):
        rows.open_parts(SUITES["mmstar"], mmstar, tmp_path)


def test_without_a_hub_fetching_says_so_at_once(tmp_path, monkeypatch):
    """A hub that refuses connections, as a machine without a network meets it."""
    from huggingface_hub import HfApi

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    with pytest.raises(InputError, match=r"hub cannot be reached for lscpku/LogicVista.*dataset\.json"):
        fetch(SUITES["logicvista"], tmp_path, None, None, silent)


def test_a_drawn_suite_is_not_fetched(tmp_path):
    with pytest.raises(InputError, match="nothing to fetch"):
        fetch(catalogue.find("pocket_math"), tmp_path, None, None, silent)


def test_an_item_without_a_picture_is_named():
    with pytest.raises(InputError, match="no picture"):
        rows.pictures(SUITES["mmstar"], {"image": None})


def test_limits_keep_proportions_and_touch_nothing_that_fits():
    limits = Limits(least=1000, most=4000)
    fits = Image.new("RGB", (60, 40))
    assert fit(fits, limits) is fits
    for size in ((400, 300), (4000, 100), (10, 4), (1, 1)):
        width, height = fit(Image.new("RGB", size), limits).size
        assert 1000 <= width * height <= 4000 or size == (1, 1)
        assert width / height == pytest.approx(size[0] / size[1], rel=0.2)


def test_pictures_side_by_side():
    red, blue = Image.new("RGB", (20, 30), "red"), Image.new("RGB", (10, 40), "blue")
    whole = side_by_side([red, blue])
    assert whole.size == (46, 40)
    assert whole.getpixel((0, 29)) == (255, 0, 0) and whole.getpixel((36, 39)) == (0, 0, 255)
    assert whole.getpixel((25, 5)) == whole.getpixel((5, 35)) == (255, 255, 255)


def test_a_chat_becomes_one_picture_and_its_words():
    picture = {"type": "image", "url": Image.new("RGB", (40, 40))}
    text = {"type": "text", "text": "How many?"}
    (message,), shown = one_picture([{"role": "user", "content": [picture, text]}])
    assert message.text == "How many?" and shown.size == (40, 40)
    (message,), shown = one_picture(
        [{"role": "user", "content": [{"type": "text", "text": "In "}, picture, picture, text]}]
    )
    assert (
        message.text.endswith("In (image 1)(image 2)How many?")
        and "2 images side by side" in message.text
        and shown.size == (96, 40)
    )
    for chat in (
        [{"role": "user", "content": [text]}],
        [{"role": "system", "content": [picture]}, {"role": "user", "content": [text]}],
    ):
        with pytest.raises(VZeroError):
            one_picture(chat)


def test_a_judge_that_is_down_or_refuses_is_said_before_anything_is_asked():
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from harness.evals.stock import reachable

    class Judge(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/good/models" else 401)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Judge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        reachable(f"{place}/good/chat/completions")
        with pytest.raises(InputError, match="status 401"):
            reachable(f"{place}/bad")
        server.shutdown()
    with pytest.raises(InputError, match="cannot be reached"):
        reachable(place)
