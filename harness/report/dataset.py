"""What a run asked, voted and labelled as Parquet files with a card, which `datasets` reads by themselves."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.analysis.ground_truth import pocket_truths
from harness.analysis.questions import questions_of, recycled_of, trained_of
from harness.analysis.results import Results
from harness.report.card import images, templates
from harness.runs.sealed import Row, Run, SealedStage
from vzero import __version__
from vzero.errors import InputError
from vzero.images.records import load_records, open_foreign, records_by_id
from vzero.runtime import artefacts

DATA = "data"  # folder of the tables
BATCH = 256  # rows written at once; of pictures, as many are in memory
TEXT, COUNT, FLAG = pa.string(), pa.int32(), pa.bool_()
ABOUT = {"question_id": TEXT, "iteration": COUNT}
COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "questions": {
        **{**ABOUT, "image_id": TEXT, "image_sha256": TEXT, "valid": FLAG, "question": TEXT},
        **{"intuitive": TEXT, "description": TEXT, "written": TEXT},
        **{"family": TEXT, "well_posed": FLAG, "true_answer": TEXT},
    },
    "votes": {
        **{**ABOUT, "index": COUNT, "text": TEXT, "answer": TEXT, "finish_reason": TEXT, "tokens": COUNT}
    },
    "labels": {
        **{**ABOUT, "votes": pa.list_(TEXT), "answer": TEXT, "confidence": pa.float64(), "kept": FLAG}
    },
}


def write(run: Run, results: Results, pictures: bool, folder: Path) -> None:
    """Questions, votes and labels, with `pictures` those too, below `folder`, and its README.md.

    Raises:
        InputError: a stage whose rows are not of their form, or a picture that is gone.
    """
    counts = {
        name: _write(folder, name, pa.schema(list(columns.items())), _rows(run, name))
        for name, columns in COLUMNS.items()
    }
    if pictures:
        counts["images"] = _write(folder, "images", _pictures_schema(), _pictures(run))
    template = templates().get_template("dataset.md.j2")
    text = template.render(
        counts=counts,
        data=DATA,
        preset=run.preset,
        results=results,
        base=run.model,
        images=images(run.preset),
        version=__version__,
    )
    artefacts.write_text(folder / "README.md", text)


def _rows(run: Run, name: str) -> Iterator[Row]:
    """Of one of the tables, iteration by iteration."""
    for iteration in range(1, run.preset.iterations + 1):
        if name == "questions":
            yield from _questions(run, iteration)
        elif stage := _source(run, name, iteration):
            yield from ({**row, "iteration": iteration} for row in stage.rows(f"{name}.jsonl"))


def _source(run: Run, name: str, iteration: int) -> SealedStage | None:
    """The votes that were drawn for labels alone; the labels that the Solver was trained on."""
    return run.of_iteration("label", iteration) if name == "votes" else trained_of(run, iteration)


def _questions(run: Run, iteration: int) -> Iterator[Row]:
    pictures = records_by_id(run.stages["00-images"].folder)
    rows = questions_of(run, iteration) or []
    if run.preset.solver.questions == "both":
        rows = [*rows, *(recycled_of(run, iteration) or ())]
    truths = pocket_truths(run, [row for row in rows if row["valid"]]) or {}
    for row in rows:
        truth = truths.get(row["question_id"])
        yield {
            **row,
            "iteration": iteration,
            "image_sha256": pictures[row["image_id"]].sha256,
            "question": row["text"],
            "written": row["raw"],
            "family": truth.family if truth else None,
            "well_posed": truth.well_posed if truth else None,
            "true_answer": truth.answer if truth else None,
        }


def _pictures_schema() -> pa.Schema:
    """Says to `datasets` which column is a picture."""
    from datasets import Features, Image, Value

    texts = {name: Value("string") for name in ("image_id", "sha256")}
    return Features({**texts, "image": Image()}).arrow_schema


def _pictures(run: Run) -> Iterator[Row]:
    """Each as the models saw it, encoded anew: without the file's metadata. `sha256` is the file's."""
    for record in load_records(run.stages["00-images"].folder):
        buffer = io.BytesIO()
        open_foreign(record).save(buffer, "PNG")
        shown = {"bytes": buffer.getvalue(), "path": None}
        yield {"image_id": record.image_id, "sha256": record.sha256, "image": shown}


def _write(folder: Path, name: str, schema: pa.Schema, rows: Iterator[Row]) -> int:
    """One table; the number of its rows."""
    path, count = folder / DATA / f"{name}.parquet", 0
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while some := list(islice(rows, BATCH)):
            try:
                table = pa.Table.from_pylist([_storable(row) for row in some], schema)
            except pa.ArrowException:
                raise InputError(f"The {name} of this run are not of the form that a run writes.") from None
            writer.write_table(table)
            count += len(some)
    return count


def _storable(value: object) -> object:
    """Lone surrogates, which a model may write and no table holds, as escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: _storable(entry) for key, entry in value.items()}
    return [_storable(entry) for entry in value] if isinstance(value, list) else value
