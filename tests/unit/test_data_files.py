"""Data decides nothing about files: folders of pictures, tables, `datasets` folders and authors' copies that
name or link to a private picture, a pipe or a device."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harness.evals import catalogue, fetch, layouts, rows, write
from tests.fixtures import suite_rows
from tests.unit.test_images import context, skipped
from vzero.errors import InputError
from vzero.images import stage
from vzero.images.records import load_records

SUITE = catalogue.find("mmstar")
OUTSIDE = "outside the folder that was given"


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A picture of the user's that no data may have shown to a model."""
    path = tmp_path / "private" / "me.png"
    path.parent.mkdir()
    path.write_bytes(png(200))
    return path


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Whoever opens and reads it waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_links_of_a_picture_folder_stay_inside(tmp_path: Path, private: Path, pipe: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(1))
    (folder / ".hidden").write_bytes(png(2))
    (folder / "inside.png").symlink_to(folder / ".hidden")
    for name, target in {"out": private, "up": Path("../private/me.png"), "whole": private.parent}.items():
        (folder / f"{name}.png").symlink_to(target)
    (folder / "pipe.png").symlink_to(pipe)
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    stage.run(context(tmp_path, folder))
    assert {one.path.name for one in load_records(tmp_path / "stage")} == {"a.png", ".hidden"}
    found = skipped(tmp_path)
    assert {name for name, why in found.items() if why == OUTSIDE} == {
        *("out.png", "up.png", "whole.png", "pipe.png", "zero.png")
    }
    assert found["inside.png"].startswith("a copy") and found["loop.png"].startswith("cannot be read")


def test_a_snapshot_of_the_hub_is_links_to_its_own_files(tmp_path: Path, private: Path) -> None:
    snapshot, blobs = tmp_path / "repo" / "snapshots" / "1", tmp_path / "repo" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "abc").write_bytes(png(3))
    (snapshot / "a.png").symlink_to("../../blobs/abc")
    (snapshot / "b.png").symlink_to(private)
    (snapshot / "train").mkdir()
    (snapshot / "train" / "c.png").symlink_to("../../../blobs/abc")
    stage.run(context(tmp_path, snapshot))
    assert [one.path.name for one in load_records(tmp_path / "stage")] == ["a.png"]
    assert skipped(tmp_path)["b.png"] == OUTSIDE and skipped(tmp_path)["c.png"].startswith("a copy")
    stage.run(context(tmp_path, snapshot / "train"))  # a folder of a snapshot has the same files
    assert [one.path.name for one in load_records(tmp_path / "stage")] == ["c.png"]


def test_a_picture_that_became_a_pipe_does_not_hang_later_stages(tmp_path: Path) -> None:
    from vzero.images.records import open_image

    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(1))
    stage.run(context(tmp_path, folder))
    (folder / "a.png").unlink()
    os.mkfifo(folder / "a.png")
    with pytest.raises(InputError, match="not a regular file"):
        open_image(load_records(tmp_path / "stage")[0])


def test_a_folder_of_tables_has_no_link_out_of_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(1)]}), tmp_path / "private.parquet")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.parquet").symlink_to(tmp_path / "private.parquet")
    with pytest.raises(InputError, match=OUTSIDE):
        stage.run(context(tmp_path, tmp_path / "tables"))


def stored(data: Path, *pictures: object, other: object = None) -> Path:
    """A `datasets` folder of the suite, its pictures as they are given: bytes, or a name of a file. `other`
    is a name in another column of pictures. `datasets` itself would read named files while it saves."""
    about = suite_rows.SPLITS["mmstar", None][1][0]
    table = [{**about, "image": None, "other": None, "index": i} for i in range(len(pictures))]
    place = data / "mmstar" / "val"
    features = {name: datasets.Image() for name in ("image", "other")}
    plain = datasets.Dataset.from_list([{**row, **{key: {"bytes": b"", "path": ""} for key in features}}
                                        for row in table])  # fmt: skip
    for name, feature in features.items():
        plain = plain.cast_column(name, feature)
    datasets.DatasetDict({"val": plain}).save_to_disk(str(data / "mmstar"))
    cells = [{"bytes": one, "path": None} if isinstance(one, bytes) else {"bytes": None, "path": str(one)}
             for one in pictures]  # fmt: skip
    found = plain.data.table
    kind = found.schema.field("image").type
    for name, values in (("image", cells), ("other", [{"bytes": None, "path": other}] * len(table))):
        at = found.schema.get_field_index(name)
        found = found.set_column(at, found.schema.field(name), pa.array(values, kind))
    (file,) = place.glob("*.arrow")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, found.schema) as writer:
        writer.write_table(found)
    return data


def test_a_benchmark_shows_bytes_and_opens_no_file(tmp_path: Path, private: Path, pipe: Path) -> None:
    names = (private, pipe, "/dev/zero", "http://127.0.0.1:9/a.png", private.parent)
    data = stored(tmp_path / "data", png(5), *names, other=str(pipe))
    (part,) = rows.open_parts(SUITE, data, tmp_path / "scratch")
    assert [one.item.id for one in part.questions] == ["0"]
    assert part.pictures(0)["image"].getpixel((0, 0)) == (5, 0, 0)
    assert {one.reason for one in part.set_aside} == {"its picture: the name of a file elsewhere"}
    assert len(part.set_aside) == len(names)


@pytest.mark.parametrize("place", ["dataset_dict.json", "val/state.json", "val/dataset_info.json", "arrow"])
def test_a_benchmarks_own_files_lie_in_its_folder(tmp_path: Path, pipe: Path, place: str) -> None:
    data = stored(tmp_path / "data", png(5))
    other = stored(tmp_path / "other", png(6))
    (file,) = (data / "mmstar" / "val").glob("*.arrow") if place == "arrow" else [data / "mmstar" / place]
    theirs = other / file.relative_to(data)
    for target in (theirs, pipe):
        file.unlink()
        file.symlink_to(target)
        with pytest.raises(InputError, match=r"datasets|There is no mmstar"):
            rows.open_parts(SUITE, data, tmp_path / "scratch")


@pytest.mark.parametrize("name", ["../../../other/mmstar/val/data-00000-of-00001.arrow", "pipe"])
def test_no_name_in_it_leads_elsewhere(tmp_path: Path, name: str) -> None:
    data = stored(tmp_path / "data", png(5))
    stored(tmp_path / "other", png(6))
    os.mkfifo(data / "mmstar" / "val" / "pipe")
    state = json.loads((data / "mmstar" / "val" / "state.json").read_text())
    state["_data_files"] = [{"filename": name}]
    (data / "mmstar" / "val" / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="cannot be read"):
        rows.open_parts(SUITE, data, tmp_path / "scratch")


@pytest.mark.parametrize("named", ["me.png", "link.png", "pipe.png", "linked/me.png"])
def test_an_authors_copy_shows_its_own_pictures(
    tmp_path: Path, private: Path, pipe: Path, named: str
) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (tmp_path / "me.png").write_bytes(png(9))  # beside the copy, where `..` leads
    (data / "images" / "link.png").symlink_to(private)
    (data / "images" / "linked").symlink_to(private.parent)
    (data / "images" / "pipe.png").symlink_to(pipe)
    (data / "images" / "good.png").write_bytes(png(1))
    row = {"question": "Which?", "answer": "B", "skill": ["spatial"], "broad_capability": ["diagram"]}
    table = {"1": {"imagename": "good.png", **row}, "2": {"imagename": named, **row}}
    (data / "dataset.json").write_text(json.dumps(table))
    (part,) = rows.open_parts(catalogue.find("logicvista"), data, tmp_path / "scratch")
    assert [one.item.id for one in part.questions] == ["1"]
    assert [one.reason for one in part.set_aside] == [f"its picture {named}: {OUTSIDE}"]


def test_an_authors_file_is_no_link_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "private.json").write_text('{"1": {"imagename": "a.png"}}')
    (tmp_path / "data" / "dataset.json").symlink_to(tmp_path / "private.json")
    with pytest.raises(InputError, match=OUTSIDE):
        layouts.items("logicvista", tmp_path / "data")


def test_a_fetched_dataset_may_not_name_files_of_this_machine(private: Path) -> None:
    held = datasets.Dataset.from_list([{"image": {"bytes": png(1), "path": "a.png"}}])
    fetch._check_pictures(held, SUITE)
    named = datasets.Dataset.from_list([{"image": {"bytes": None, "path": str(private)}}])
    with pytest.raises(InputError, match="in the place of a picture"):
        fetch._check_pictures(named, SUITE)


def test_what_lmms_eval_reads_holds_no_picture(tmp_path: Path) -> None:
    from harness.evals import tasks
    from vzero.config import SamplingConfig

    (part,) = rows.open_parts(SUITE, stored(tmp_path / "data", png(5)), tmp_path / "scratch")
    sampling = SamplingConfig(temperature=0, max_new_tokens=9)
    tasks.write_boxed(part, "greedy", sampling, "natural", tmp_path / "tasks")
    found = datasets.load_from_disk(str(tmp_path / "tasks" / "rows" / "mmstar"))["val"]
    assert len(found) == 1 and "question" in found.column_names
    assert not {"image", "other"} & set(found.column_names)


def test_a_copy_is_converted_as_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "images" / "a.png").write_bytes(png(1))
    row = {"question": "Which?", "answer": "B", "skill": ["spatial"], "broad_capability": ["diagram"]}
    (data / "dataset.json").write_text(json.dumps({"1": {"imagename": "a.png", **row}}))
    aside = write.converted(catalogue.find("logicvista"), [data / "dataset.json"], tmp_path / "scratch")
    assert aside == [] and (tmp_path / "scratch" / "logicvista" / "dataset_dict.json").is_file()
