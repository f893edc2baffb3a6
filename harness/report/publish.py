"""A finished run as a folder that says all of it without this program: the logbook (index.html), the report,
the settings, the questions, votes and labels as a data set, the checkpoint, and the SHA-256 of every file.

Everything is made anew from the sealed stages. The same run gives the same bytes; nothing in them is of the
machine that made or published it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis.build import build
from harness.analysis.results import Results, write_results
from harness.report import HTML, MARKDOWN, RESULTS, claims, dataset, export, html, hub, markdown
from harness.report.answer import answer
from harness.report.card import card
from harness.report.cards import card as question_card
from harness.report.ending import verdict
from harness.report.findings import run_name
from harness.report.material import Material, collect
from harness.report.questions import sample
from harness.report.sections import tables
from harness.runs import ledger
from harness.runs.sealed import Run, read_run
from harness.tables.html import environment
from harness.tables.table import Table, texts
from vzero import __version__
from vzero.config import EvaluationConfig, Preset
from vzero.errors import InputError, escaped
from vzero.presets import flatten
from vzero.presets.written import as_toml
from vzero.runtime import artefacts
from vzero.runtime.hub import is_id

LOGBOOK, SETTINGS, SUMS, MODEL, PICTURES = "index.html", "preset.toml", "SHA256SUMS", "model", "pictures"
ROUTINE = frozenset({"stage-started", "stage-finished", "stage-shared"})  # rows of the ledger
BINARY = (".safetensors", ".parquet")  # holds no text of this program's


@dataclass(frozen=True)
class Publication:
    """What is published of `run`. `pictures`: whether those it trained on are part of it."""

    run: Run
    results: Results
    material: Material
    export: export.Export
    pictures: bool


def prepare(path: Path, pictures: bool = False) -> Publication:
    """A finished run, read and checked; drawn pictures are part of it, others with `pictures` alone.

    Raises:
        InputError: no run, an unfinished one, or one whose files are not those that were sealed.
    """
    run = read_run(path)
    if run.missing:
        names = ", ".join(run.missing)
        raise InputError(f"{path} is not finished ({names}); run it to its end, then publish it.")
    for stage in run.stages.values():
        for name in stage.manifest["files"]:
            stage.file(name)
    results, material = build(run), collect(run)
    pictures = pictures or run.preset.images.source == "pocket"
    if not pictures:
        material = replace(material, pictures={})
    found = export.prepare(path, "solver", None)
    text = card(run, "solver", found.made.stage, found.made.manifest, results)
    return Publication(run, results, material, replace(found, card=text), pictures)


def to_folder(publication: Publication, target: Path) -> int:
    """Write it into a new folder, whole or not at all; the number of its files.

    Raises:
        InputError: the folder is there already or cannot be written, or what was written would tell something
            of this machine.
    """
    one = publication
    with export.new_folder(target) as staging:
        write_results(staging / RESULTS, one.results)
        artefacts.write_text(staging / HTML, html.render(one.results, one.material))
        artefacts.write_text(staging / MARKDOWN, markdown.render(one.results, one.material))
        settings = public(one.run).model_dump(mode="json")
        artefacts.write_text(staging / SETTINGS, as_toml(settings) + "\n")
        dataset.write(one.run, one.results, one.pictures, staging)
        export.to_folder(one.export, staging / MODEL)
        artefacts.write_text(staging / LOGBOOK, _logbook(one, staging))
        sums = artefacts.folder_hashes(staging)
        lines = (f"{digest}  {name}\n" for name, digest in sums.items())
        artefacts.write_text(staging / SUMS, "".join(lines))
        _refuse_private(staging, one.run.preset)
    return len(sums) + 1


def to_hub(publication: Publication, name: str, public: bool) -> list[str]:
    """Upload the checkpoint as the model `name` (ORG/NAME) and all else as the data set of that name, private
    unless `public`; their addresses.

    Raises:
        InputError: as `to_folder` and `hub.upload`.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "published"
        to_folder(publication, whole)
        hub.require_room(whole, name, "dataset", public, without=(MODEL,))  # before the model is sent
        return [
            hub.upload(whole / MODEL, name, "model", public),
            hub.upload(whole, name, "dataset", public, without=(MODEL,)),
        ]


def public(run: Run) -> Preset:
    """The settings without where things are: folders by a name alone, servers and clusters not at all."""
    preset, pictures = run.preset, run.preset.images.source
    if pictures != "pocket" and not is_id(pictures):
        pictures = PICTURES
    parts = {
        "images": preset.images.model_copy(update={"source": pictures}),
        "evaluation": preset.evaluation.model_copy(
            update={"data": EvaluationConfig.model_fields["data"].default}
        ),
        "engine": preset.engine.model_copy(update={"urls": ()}),
        "launch": preset.launch.model_copy(update={"cluster": None}),
    }
    return preset.model_copy(update={"model": run.model, **parts})


def _logbook(one: Publication, staging: Path) -> str:
    """The page, around parts of the report."""
    results, material = one.results, one.material
    files = [(name, (staging / name).stat().st_size, digest) for name, digest in _hashes(staging).items()]
    template = environment("harness.report").get_template("logbook.html.j2")
    return template.render(
        results=results,
        run_name=run_name(results),
        answer=answer(results),
        verdict=verdict(results),
        claims=claims.ordered(results.claims),
        on_card=claims.on_card,
        cited=claims.cited,
        commands=_commands(one),
        programs=one.run.preset.programs(),
        software=material.software,
        cost=tables(results, material.cost)["cost"],
        history=_history(one.run.path),
        curves=html.panels(material.curves),
        sample=[question_card(each) for each in sample(material.questions)],
        pictures=material.pictures,
        written=material.written,
        manifests=material.manifests,
        files=files,
        version=__version__,
    )


def _hashes(staging: Path) -> Mapping[str, str]:
    """As `artefacts.folder_hashes`; raises InputError for a name that no list of files can hold."""
    found = artefacts.folder_hashes(staging)
    for name in found:
        if not name.isprintable() or "\\" in name:
            raise InputError(f"A file of the checkpoint has an unfit name, {escaped(name)}; rename it.")
    return found


def _commands(one: Publication) -> list[tuple[str, str]]:
    """(command, what for), from inside the folder."""
    preset = one.run.preset
    own = preset.images.source != "pocket" and not is_id(preset.images.source)
    again = [
        "vzero-harness reproduce --preset preset.toml --out again",
        *(["--images FOLDER"] if own else []),
        *(["--trust-code"] if preset.programs() else []),
    ]
    return [
        (f"sha256sum --check {SUMS}", "every file is the one that was published"),
        ("vzero-harness table .", f"the numbers again, out of {RESULTS}"),
        (" ".join(again), "the same experiment"),
        ("vzero-harness table again --against .", "what it gained over this one"),
    ]


def _history(run: Path) -> Table:
    """What the ledger says of the run as a whole: when it was begun, stopped and resumed, and what failed."""
    rows = [
        tuple(str(row.get(key, "")) for key in ("time", "event", "stage", "command"))
        for row in ledger.read(run)
        if row.get("event") not in ROUTINE
    ]
    return Table("History", texts("time, UTC", "event", "stage", "command"), [rows])


def _refuse_private(staging: Path, preset: Preset) -> None:
    """The last look: a reward file, a base's config or the like may hold what no part of this program wrote
    there."""
    words = b"|".join(map(re.escape, _private(preset))) or rb"(?!)"  # with none there is nothing to find
    private = re.compile(rb"(?<![\w.-])(?:%b)(?![\w-])" % words)
    for path in sorted(staging.rglob("*")):
        if path.is_file() and path.suffix not in BINARY and private.search(path.read_bytes()):
            raise InputError(
                f"{path.relative_to(staging)} would name a folder or a server of this machine, or the hub's"
                " token; take it out of the run (a reward file, a model's config) and run that anew."
            )


def _private(preset: Preset) -> Iterator[bytes]:
    """The folders of this machine and of the run's settings, its servers and cluster, and the hub's token."""
    from huggingface_hub import get_token

    settings = flatten(preset.model_dump(mode="json"))
    paths = (one for one in settings.values() if isinstance(one, str) and one.startswith(("/", ".", "~")))
    places = [os.path.abspath(os.path.expanduser(one)) for one in paths]
    if ":" in (cluster := preset.launch.cluster or ""):  # neither "auto" nor "local"
        places.append(cluster)
    for word in (str(Path.home()), str(Path.cwd()), get_token(), *preset.engine.urls, *places):
        if word and len(word) > 3:
            yield word.encode("utf-8", "surrogateescape")
