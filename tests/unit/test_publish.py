"""A published run: complete, the same bytes each time, nothing of this machine; on the hub and off it."""

from __future__ import annotations

import errno
import getpass
import hashlib
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.cli import app
from harness.report import cards, dataset, export, publish
from harness.report.questions import written_questions
from harness.runs import ledger
from harness.runs.directory import opened
from harness.runs.sealed import Run, SealedStage
from tests.browser import browser
from tests.fixtures import synthetic_run
from tests.hub import hub
from vzero.arms import recycling, selection
from vzero.errors import InputError, InterruptedRun
from vzero.presets import load_preset
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.stage import read_preset
from vzero.selfplay import plan

pytestmark = pytest.mark.slow

TOKEN = "hf_test0123456789"
TABLES = ("images", "labels", "questions", "votes")
GOOD = "<question> how many ? A) 1 B) 2 C) 3 D) 4 </question> <answer> A </answer>"
MODEL = {path.name for path in checkpoints.POCKET.iterdir()} | {"README.md"}


def make(run: Path, **given: object) -> Path:
    """A finished run with a checkpoint that loads, stopped and resumed once."""
    for iteration in (1, 2):
        shutil.copytree(checkpoints.POCKET, run / "trained" / f"train-solver-{iteration}" / "checkpoint")
    synthetic_run.make(run, count=12, items_per_family=2, **given)
    ledger.append(run, {"event": "run-started", "command": "reproduce"})
    ledger.append(run, {"event": "stage-failed", "stage": "00-images", "reason": f"{run}: no space"})
    ledger.append(run, {"event": "run-resumed", "command": "<img src=x onerror=alert(1)>"})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("published") / "run")


@pytest.fixture(scope="module")
def published(run: Path) -> Path:
    folder = run.parent / "out" / "published"
    publish.to_folder(publish.prepare(run), folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def told(folder: Path) -> bytes:
    """Everything in it that is a text, also that in the tables."""
    files = contents(folder)
    tables = [pq.read_table(io.BytesIO(data)) for name, data in files.items() if name.endswith(".parquet")]
    rows = repr([table.to_pylist() for table in tables]).encode()
    texts = (data for name, data in files.items() if not name.endswith(".parquet"))
    return rows + re.sub(rb"data:image/[^\"]*", b"", b"".join(texts))  # a picture's letters say nothing


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs


def test_the_folder_is_whole_and_every_file_has_its_hash(published: Path) -> None:
    files = contents(published)
    top = {"README.md", "SHA256SUMS", "index.html", "preset.toml", "report.html", "report.md", "results.json"}
    assert set(files) == top | {f"data/{name}.parquet" for name in TABLES} | {
        f"model/{name}" for name in MODEL
    }
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=published, check=True)
    assert len(files["SHA256SUMS"].splitlines()) == len(files) - 1
    page = files["index.html"].decode()
    for name, data in files.items():
        assert (hashlib.sha256(data).hexdigest() in page) == (name not in ("index.html", "SHA256SUMS")), name
    places = [value or "" for name, value in Elements(page).attributes if name in ("href", "src")]
    assert places and all(place.startswith("data:image/") or place in files for place in places)
    again = load_preset(str(published / "preset.toml"))
    assert again == load_preset("pocket", changes={"images.count": 12, "evaluation.items_per_family": 2})


def test_the_same_run_gives_the_same_bytes_elsewhere(
    run: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    publish.to_folder(publish.prepare(Path("elsewhere")), Path("again"))
    assert contents(tmp_path / "again") == contents(published)


def test_a_model_in_a_folder_is_named_alike_wherever_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that is written like an id of the hub."""
    begun, run, seen = tmp_path / "begun", tmp_path / "begun" / "run", []
    shutil.copytree(checkpoints.POCKET, begun / "secret" / "mine")
    monkeypatch.chdir(begun)
    make(run, model="secret/mine")
    preset = read_preset(run)
    (run / "run.json").unlink()
    with opened(run, preset, "reproduce"):
        pass
    for folder in (begun, tmp_path):
        monkeypatch.chdir(folder)
        publish.to_folder(publish.prepare(run), folder / "out")
        seen.append(contents(folder / "out"))
        assert b"secret" not in told(folder / "out")
    assert seen[0] == seen[1] and b"base_model" not in seen[0]["model/README.md"]
    assert load_preset(str(begun / "out" / "preset.toml")).model == "mine"
    record = artefacts.read_json(run / "run.json")
    artefacts.write_json(run / "run.json", {**record, "model": "org/name"})  # begun elsewhere
    assert 'base_model: "org/name"' in publish.prepare(run).export.card
    artefacts.write_json(run / "run.json", {**record, "model": ["no name"]})
    assert "mine, solver after" in publish.prepare(run).export.card


def test_the_tables_hold_what_the_run_says(run: Path, published: Path) -> None:
    table = {name: pq.read_table(published / "data" / f"{name}.parquet").to_pylist() for name in TABLES}
    stages = {one.name.split("-", 1)[1]: one for one in (run / "stages").iterdir()}
    both = {
        name: [artefacts.read_jsonl(stages[f"{kind}-{t}"] / f"{name}.jsonl") for t in (1, 2)]
        for name, kind in (("questions", "write-questions"), ("votes", "label"), ("labels", "label"))
    }
    for name, keys in (
        ("votes", ("question_id", "index", "answer", "tokens")),
        ("labels", ("question_id", "votes", "answer", "confidence", "kept")),
        ("questions", ("question_id", "image_id", "valid", "intuitive", "description")),
    ):
        wanted = [[t, *(row[key] for key in keys)] for t, rows in enumerate(both[name], 1) for row in rows]
        assert [[row["iteration"], *(row[key] for key in keys)] for row in table[name]] == wanted and wanted
    texts = [row["text"] for rows in both["questions"] for row in rows]
    safe = [text and text.replace("\ud800", "\\ud800") for text in texts]
    assert [row["question"] for row in table["questions"]] == safe and texts != safe
    right = [row for row in table["questions"] if row["well_posed"]]
    assert right and all(row["true_answer"] in "ABCD" and row["family"] for row in right)
    for row in table["images"]:
        file = stages["images"] / "images" / f"{row['image_id']}.png"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        assert (
            Image.open(io.BytesIO(row["image"]["bytes"])).tobytes()
            == Image.open(file).convert("RGB").tobytes()
        )
    assert {row["image_sha256"] for row in table["questions"]} == {row["sha256"] for row in table["images"]}


def test_labels_are_those_that_trained_and_no_question_is_missing(tmp_path: Path) -> None:
    """An arm that trains on all questions, those of the Questioner's training among them, with labels by lot:
    what votes and filter chose is not what the Solver was trained on."""
    settings = ("iterations=1", "images.count=8", "solver.questions=both", "solver.filter=none")
    settings = (*settings, "solver.labels=random")
    preset = load_preset("pocket", settings)
    stages = {stage.kind: stage for stage in plan(preset)}
    folders = {stage.name: tmp_path / "stages" / stage.name for stage in stages.values()}
    said = {"generation": 1, "finish_reason": "stop", "tokens": 9, "intuitive": "A", "text": GOOD}
    said |= {"reward": 0.0, "advantage": 0.0}
    made = {"images": synthetic_run._images, "write-questions": synthetic_run._write_questions}
    made |= {"label": synthetic_run._label}
    programs = {"recycle": recycling.run, "select": selection.run}
    sealed = {}
    for kind, stage in stages.items():
        if kind == "evaluate":
            continue
        (folder := folders[stage.name]).mkdir(parents=True)
        if kind in made:
            made[kind](tmp_path, preset, stage, folder, random.Random(kind), False)
        elif kind in programs:
            inputs = {role: folders.get(source) for role, source in stage.inputs.items()}
            programs[kind](SimpleNamespace(preset=preset, stage=stage, inputs=inputs, folder=folder))
        elif kind == "train-questioner":
            images = artefacts.read_jsonl(folders["00-images"] / "images.jsonl")[:3]
            asked = [
                {**said, "index": i, "prompt": one["image_id"], "votes": list("AAA")}
                for i, one in enumerate(images)
            ]
            artefacts.write_jsonl(folder / "rollouts.jsonl", asked)
        sealed[stage.name] = SealedStage(stage, folder, artefacts.seal(folder, {}))
    (tmp_path / "out").mkdir()
    run = Run(tmp_path, preset, sealed, {})
    artefacts.write_json(tmp_path / "run.json", {})
    dataset.write(run, SimpleNamespace(arm="own"), False, tmp_path / "out")
    table = {
        name: pq.read_table(tmp_path / "out" / "data" / f"{name}.parquet").to_pylist()
        for name in ("questions", "votes", "labels")
    }
    trained = artefacts.read_jsonl(folders[stages["select"].name] / "labels.jsonl")
    filtered = artefacts.read_jsonl(folders[stages["label"].name] / "labels.jsonl")
    kept = {row["question_id"]: row["kept"] for row in table["labels"]}
    assert kept == {row["question_id"]: row["kept"] for row in trained} and all(kept.values())
    recycled = artefacts.read_jsonl(folders[stages["recycle"].name] / "labels.jsonl")
    assert sum(not row["kept"] for row in recycled) >= 3 and len(trained) == len(filtered) + 3
    assert kept.keys() <= {row["question_id"] for row in table["questions"]}
    assert {row["question_id"] for row in table["votes"]} == {row["question_id"] for row in filtered}
    browsed_as_trained(run, trained, filtered)


def browsed_as_trained(run: Run, trained: list[dict], filtered: list[dict]) -> None:
    """The report's browser has the votes' majority, and the choice and the label that trained."""
    by_id, majority = ({row["question_id"]: row for row in rows} for rows in (trained, filtered))
    shown = {one.question_id: one for one in written_questions(run)[0] if one.state != "invalid"}
    assert shown.keys() == majority.keys() and {one.state for one in shown.values()} == {"kept"}
    others = 0
    for name, one in shown.items():
        label, right = by_id[name]["answer"], one.truth.answer if one.truth.well_posed else None
        assert one.label.majority == majority[name]["answer"] and one.label.answer == label
        assert one.verdict == ("ill-posed" if right is None else "right" if label == right else "wrong")
        other = label != majority[name]["answer"]
        assert (f", label {label}" in cards.card(one).said) == other
        others += other
    assert others, "some lots fall beside the majority"
    pending = replace(run, stages={name: one for name, one in run.stages.items() if "select" not in name})
    waiting = [one for one in written_questions(pending)[0] if one.state != "invalid"]
    assert {one.state for one in waiting} == {"unlabelled"}, "the filter's choice is not the arm's"
    assert {one.verdict for one in waiting} <= {"", "ill-posed"} and all(one.label.votes for one in waiting)


def test_datasets_reads_it_by_its_card(published: Path, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    copied = shutil.copytree(published, tmp_path / "set")
    assert sorted(get_dataset_config_names(str(copied))) == list(TABLES)
    images = load_dataset(str(copied), "images", split="train", cache_dir=str(tmp_path / "cache"))
    assert images.num_rows == 12 and images[0]["image"].size == (42, 42)


def test_what_models_wrote_is_text(published: Path) -> None:
    page = (published / "index.html").read_text()
    found = Elements(page)
    assert not {"script", "iframe", "object", "form"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert all((value or "").startswith("data:image/") for name, value in found.attributes if name == "src")
    assert "&lt;script&gt;alert(1)" in page and "&lt;img src=x onerror=alert(1)&gt;" in page
    assert not any(mark in page for mark in "\x1b\x07\u202e") and "{{ 7*7 }}" in page
    assert "<img" not in (published / "README.md").read_text()


def test_it_opens_from_disk_and_is_read_in_a_browser(published: Path) -> None:
    with browser() as page:
        for width, dark in ((390, True), (1400, False)):
            page.show(width, dark=dark)
            page.open(published / "index.html")
            assert page.problems == [] and page.overflow() == 0 and page.faint() == []
        parts = "#claims, #commands, #environment, #curves, #samples, #files"
        assert page.run(f"document.querySelectorAll('{parts}').length") == 6
        assert page.run("document.querySelectorAll('article.sample').length") == 20
        if place := os.environ.get("VZERO_PICTURES"):
            page.picture(Path(place) / "logbook.png")


@pytest.fixture(scope="module")
def holiday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on somebody's own pictures, which lie in a telling folder and hold a telling remark."""
    folder = tmp_path_factory.mktemp("alice-secrets")
    (folder / "holiday").mkdir()
    for number in range(12):
        exif = Image.Exif()
        exif[0x010E] = "SECRET-REMARK"
        picture = Image.effect_noise((160, 120), 40 + number).convert("RGB")
        picture.save(folder / "holiday" / f"beach-{number}.jpg", exif=exif)
    run = make(folder / "run", images=folder / "holiday")
    record = artefacts.read_json(run / "run.json")
    record["preset"]["evaluation"]["data"] = "../bobs-own-share/benchmarks"
    record["preset"]["engine"]["urls"] = ["http://gpu7-in-the-cellar.lab.example:8000/v1"]
    artefacts.write_json(run / "run.json", record)
    return run


def test_nothing_of_this_machine_is_told(
    holiday: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("VZERO_TELLING", "value-of-the-environment")
    words = [
        "alice-secrets",
        "holiday",
        "SECRET-REMARK",
        "bobs-own-share",
        "gpu7-in-the-cellar",
        "no space",
        TOKEN,
    ]
    words += ["value-of-the-environment", str(tmp_path), str(holiday), str(Path.cwd())]
    words += [socket.gethostname()] if len(socket.gethostname()) > 5 else []
    users = {name for name in (getpass.getuser(), Path.home().name) if len(name) > 3}  # others by chance
    seen = []
    for pictures in (False, True):
        publish.to_folder(publish.prepare(holiday, pictures), tmp_path / str(pictures))
        text = told(tmp_path / str(pictures))
        assert [word for word in words if word.encode() in text] == []
        assert not [user for user in users if f"/{user}".encode() in text]
        seen.append(contents(tmp_path / str(pictures)))
    without, included = seen
    assert "data/images.parquet" not in without and "not part of this" in without["README.md"].decode()
    assert b"data:image/webp" not in without["report.html"] + without["index.html"]
    assert b"data:image/webp" in included["index.html"] and b"data:image/webp" in included["report.html"]
    rows = pq.read_table(io.BytesIO(included["data/images.parquet"])).to_pylist()
    first = Image.open(io.BytesIO(rows[0]["image"]["bytes"]))
    assert len(rows) == 12 and first.size == (160, 120) and not first.getexif() and not first.info
    assert b"--images FOLDER" in included["index.html"]


def test_a_program_that_names_a_folder_of_this_machine_is_refused(
    run: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, home = publish.prepare(run), str(tmp_path / "home")
    monkeypatch.setenv("HOME", home)
    program = {"reward": "own", "reward_source": f"open('{home}/judge.json')  # <b>"}
    asked = found.run.preset.questioner.model_copy(update=program)
    preset = found.run.preset.model_copy(update={"questioner": asked})
    one = replace(found, run=replace(found.run, preset=preset))
    page = publish._logbook(one, published)
    assert "--trust-code" in page and "/judge.json&#39;)  # &lt;b&gt;</pre>" in page
    with pytest.raises(InputError, match=r"(index\.html|preset\.toml) would name a folder"):
        publish.to_folder(one, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_search_is_for_the_settings_places_and_with_none_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    (tmp_path / "config.json").write_text("{}")
    publish._refuse_private(tmp_path, load_preset("pocket"))
    given = {"evaluation.data": "../srv/bob/data/", "launch.cluster": "gpu7.lab:6379"}
    for text in ("/srv/bob/data/suite", "ray://gpu7.lab:6379"):
        (tmp_path / "config.json").write_text(f'{{"place": "{text}"}}')
        with pytest.raises(InputError, match=r"config\.json would name a folder"):
            publish._refuse_private(tmp_path, load_preset("pocket", changes=given))


def test_what_is_unfinished_changed_or_in_the_way_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_run.make(tmp_path / "half", stop_after="04-label-1", count=12, items_per_family=2)
    with pytest.raises(InputError, match=r"is not finished \(05-train-solver-1, "):
        publish.prepare(tmp_path / "half")
    changed = shutil.copytree(run, tmp_path / "changed")
    rollouts = next(changed.glob("stages/*-label-1/votes.jsonl"))
    rollouts.write_text(rollouts.read_text().replace('"tokens": 12', '"tokens": 13', 1))
    with pytest.raises(InputError, match=r"label-1/votes\.jsonl is not the file that was sealed"):
        publish.prepare(changed)
    found = publish.prepare(run)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("kept")
    with pytest.raises(InputError, match="is there already"):
        publish.to_folder(found, tmp_path / "there")
    assert contents(tmp_path / "there") == {"mine": b"kept"}
    before = sorted(tmp_path.iterdir())
    for number, kind in ((errno.ENOSPC, InterruptedRun), (errno.EACCES, InputError)):

        def fails(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(publish.dataset, "write", fails)
        with pytest.raises(kind):
            publish.to_folder(found, tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before


def test_the_command(run: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["publish", str(run), "--to", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"to": str(tmp_path / "out"), "files": len(contents(published))}
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2 and "is there already" in refused.stderr
    for shown in (["table", str(published)], ["table", str(tmp_path / "out"), "--against", str(published)]):
        assert CliRunner().invoke(app, [*shown, "--json"]).exit_code == 0
    monkeypatch.setitem(sys.modules, "transformers.utils", None)  # wrong options are refused before it loads
    for command in ("publish", "export"):
        refused = CliRunner().invoke(app, [command, str(run), "--to", str(tmp_path / "x"), "--public"])
        assert refused.exit_code == 2 and "--public is of" in refused.stderr
        assert CliRunner().invoke(app, [command, str(run), "--to", "hub:no-slash"]).exit_code == 2


def test_the_hub_has_the_model_and_the_rest_private_unless_told(
    run: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(published)
    model = {name.removeprefix("model/"): data for name, data in files.items() if name.startswith("model/")}
    rest = {name: data for name, data in files.items() if not name.startswith("model/")}
    with hub(monkeypatch, TOKEN) as there:
        result = CliRunner().invoke(app, ["publish", str(run), "--to", "hub:org/name", "--json"])
        assert result.exit_code == 0, result.output
        places = [f"{there.url}/org/name", f"{there.url}/datasets/org/name"]
        assert json.loads(result.stdout) == {"to": places} and TOKEN not in result.output
        assert there.private == {"org/name": True, "datasets/org/name": True}
        assert {name: {**held} for name, held in there.files.items()} == {
            "org/name": {".gitattributes": b"", **model},
            "datasets/org/name": {".gitattributes": b"", **rest},
        }
        unmeasured = export.prepare(run, "solver", None).card.encode()  # this run has no results.json
        assert CliRunner().invoke(app, ["export", str(run), "--to", "hub:org/alone"]).exit_code == 0
        assert there.files["org/alone"] == {".gitattributes": b"", **model, "README.md": unmeasured}
        assert not any(TOKEN.encode() in data for held in there.files.values() for data in held.values())


def test_nothing_is_sent_where_one_of_both_repositories_is_taken(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(monkeypatch, TOKEN) as there:
        there.add("datasets/org/name", True, **{"README.md": b"another"})
        refused = CliRunner().invoke(app, ["publish", str(run), "--to", "hub:org/name"])
        assert refused.exit_code == 2 and "holds other files already (README.md)" in refused.stderr
        assert there.files == {"datasets/org/name": {".gitattributes": b"", "README.md": b"another"}}


def test_a_repository_of_something_else_or_that_all_see_is_left_alone(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exports go the same way."""
    folder = published / "model"
    upload = publish.hub.upload
    with hub(monkeypatch, TOKEN) as there:
        there.add("org/open", private=False)
        with pytest.raises(InputError, match="is there already and is public; add --public"):
            upload(folder, "org/open", "model", public=False)
        there.add("org/closed", private=True)
        with pytest.raises(InputError, match="is private; leave --public out"):
            upload(folder, "org/closed", "model", public=True)
        there.add("datasets/org/other", True, **{"thesis.pdf": b"x"})
        with pytest.raises(InputError, match=r"holds other files already \(thesis\.pdf\)"):
            upload(folder, "org/other", "dataset", public=False)
        for name in ("README.md", "model.safetensors"):  # another model's, under the names of this one's
            there.add("org/another", True, **{name: b"another"})
            with pytest.raises(InputError, match=rf"holds other files already \({name}\)"):
                upload(folder, "org/another", "model", public=False)
            assert there.files["org/another"][name] == b"another"
        assert not any("commit" in one or "preupload" in one for one in there.asked)
        there.refuse = 403
        with pytest.raises(InputError, match=r"did not take org/new \(\w+\); log in with"):
            upload(folder, "org/new", "model", public=True)
        there.refuse = None  # what a failed attempt left is gone on with
        assert upload(folder, "org/new", "model", public=True) == f"{there.url}/org/new"
        assert upload(folder, "org/new", "model", public=True) == f"{there.url}/org/new"
        assert there.private["org/new"] is False
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(InputError, match="log in with") as refused:
            upload(folder, "org/stranger", "model", public=False)
        assert "hf_wrong" not in str(refused.value)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")  # where nobody listens
    with pytest.raises(InputError, match="see that it can be reached"):
        upload(folder, "org/name", "model", public=False)
