"""Images out of tables: only the image column is decoded, whatever stands beside it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vzero.config import ImagesConfig
from vzero.errors import InputError
from vzero.images import stage
from vzero.images.records import load_records, open_image
from vzero.images.tables import is_table
from vzero.runtime import artefacts

LABEL = b"THE-ANSWER-IS-%d"


def encoded(seed: int, size: tuple[int, int] = (20, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def run(tmp_path: Path, source: Path, count: int = 100, **more: object) -> Path:
    """The images stage over `source`."""
    config = ImagesConfig(source=str(source), count=count, **more)
    folder = tmp_path / f"stage {len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    progress = SimpleNamespace(update=lambda *_: None)
    stage.run(
        SimpleNamespace(preset=SimpleNamespace(images=config, seed=0), folder=folder, progress=progress)
    )
    return folder


def write(path: Path, rows: int = 6, labels: bool = True, **columns: list) -> Path:
    image = [{"bytes": encoded(i), "path": f"{i}.png"} for i in range(rows)]
    table = {"image": image, **columns}
    if labels:  # long enough that the column has pages of its own
        table = {
            "answer": [(LABEL % i).decode() * 40 for i in range(rows)],
            **table,
            "question": ["which ?"] * rows,
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, compression="none", use_dictionary=False, write_statistics=False)
    return path


def test_pictures_come_out_as_they_went_in_and_in_order(tmp_path: Path) -> None:
    stage = run(tmp_path, write(tmp_path / "data" / "train.parquet"), count=4)
    records = load_records(stage)
    assert [record.sha256 for record in records] == [hashlib.sha256(encoded(i)).hexdigest() for i in range(4)]
    assert [(record.width, record.height) for record in records] == [(20, 16)] * 4
    for i, record in enumerate(records):
        assert open_image(record).tobytes() == Image.open(io.BytesIO(encoded(i))).tobytes()
        assert record.path.is_relative_to(stage)  # the run needs the table no more


def test_labels_are_never_read(tmp_path: Path) -> None:
    path = write(tmp_path / "data" / "train.parquet")
    whole = run(tmp_path, path)
    layout = pq.ParquetFile(path).metadata.row_group(0)
    data = bytearray(path.read_bytes())
    for i in range(layout.num_columns):
        column = layout.column(i)
        if not column.path_in_schema.startswith("image"):
            data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = (
                b"\xff" * column.total_compressed_size
            )
    assert LABEL % 0 in path.read_bytes() and LABEL[:10] not in data
    path.write_bytes(data)
    with pytest.raises(Exception, match=r".*"):
        pq.read_table(path, columns=["answer"])  # whoever reads the labels falls over them
    torn = run(tmp_path, path)
    assert artefacts.folder_hashes(torn) == artefacts.folder_hashes(whole)
    assert not any(b"ANSWER" in file.read_bytes() for file in whole.rglob("*") if file.is_file())


def test_the_same_pictures_with_other_labels_are_the_same_run(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a" / "t.parquet"), write(tmp_path / "b" / "t.parquet", labels=False)
    assert artefacts.folder_hashes(run(tmp_path, one)) == artefacts.folder_hashes(run(tmp_path, other))


def test_folders_lists_bytes_and_several_columns(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder / "test-0.parquet", rows=1)
    pairs = pa.table(
        {
            "images": [[{"bytes": encoded(7)}, {"bytes": encoded(8)}], [], [{"bytes": encoded(9)}]],
            "label": [1, 2, 3],
        }
    )
    pq.write_table(pairs, folder / "train-0.parquet")
    assert len(load_records(run(tmp_path, folder, split="train"))) == 3
    assert len(load_records(run(tmp_path, folder))) == 4
    pq.write_table(pa.table({"a": [encoded(1)], "b": [encoded(2)]}), tmp_path / "two.parquet")
    with pytest.raises(InputError, match=r"2 columns of images \(a, b\)"):
        run(tmp_path, tmp_path / "two.parquet")
    (record,) = load_records(run(tmp_path, tmp_path / "two.parquet", column="b"))
    assert record.sha256 == hashlib.sha256(encoded(2)).hexdigest()
    with pytest.raises(InputError, match="no column 'label'"):
        run(tmp_path, folder, split="train", column="label")


def test_a_saved_data_set_of_hugging_face(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    features = Features({"image": ImageFeature(), "answer": Value("string")})
    rows = {"image": [Image.open(io.BytesIO(encoded(i))) for i in range(3)], "answer": ["A", "B", "C"]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    assert len(load_records(run(tmp_path, tmp_path / "saved"))) == 3


def test_what_is_no_picture_is_skipped_by_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(50))
    rows = [
        {"bytes": None, "path": str(secret)},
        {"bytes": b"rubbish", "path": None},
        None,
        {"bytes": encoded(1), "path": None},
    ]
    rows.append(rows[-1])
    pq.write_table(pa.table({"image": rows}), tmp_path / "t.parquet")
    stage = run(tmp_path, tmp_path / "t.parquet")
    assert len(load_records(stage)) == 1
    skipped = artefacts.read_json(stage / "skipped.json")["skipped"]
    assert [row["path"].rpartition("#")[2] for row in skipped] == ["0", "1", "2", "4"]
    assert "file elsewhere" in skipped[0]["reason"] and "same content" in skipped[3]["reason"]


@pytest.mark.parametrize("data", [b"", b"PAR1 but no table"])
def test_a_broken_table_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(InputError, match="Cannot read the table"):
        run(tmp_path, tmp_path / "t.parquet")


def test_what_is_a_table(tmp_path: Path) -> None:
    write(tmp_path / "pictures" / "metadata.parquet")
    assert is_table(str(tmp_path / "pictures"))
    (tmp_path / "pictures" / "a.JPG").touch()
    assert not is_table(str(tmp_path / "pictures"))  # captions beside pictures
    assert is_table("someone/some-data") and not is_table("/no/such/folder") and not is_table("nowhere")
