"""The finished stages of a run, as far as they can be trusted: sealed, made by this preset, from the very
inputs that lie beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.folder import RECORD
from vzero.config import Preset
from vzero.errors import InputError
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import plain_name
from vzero.runtime.stage import read_preset, stage_folder
from vzero.selfplay import Stage, plan

Row = Mapping[str, Any]  # of a JSONL file


@dataclass(frozen=True, eq=False)
class SealedStage:
    """One finished stage. Files are checked against the manifest's hash when they are read."""

    stage: Stage
    folder: Path
    manifest: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest file, which lists the hash of every file of the stage."""
        return artefacts.sha256_file(self.folder / artefacts.MANIFEST)

    def has(self, name: str) -> bool:
        """Whether the stage made a file of this name."""
        return name in self.manifest["files"]

    def rows(self, name: str) -> list[Row]:
        """A JSONL file of the stage; empty where it made none of that name.

        Raises:
            InputError: it is not the file that was sealed, or holds other rows than a run writes.
        """
        return list(artefacts.read_rows(self.file(name), self.stage.kind)) if self.has(name) else []

    def json(self, name: str) -> Any:
        """A JSON file of the stage; None where it made none of that name. Raises as `rows`."""
        return artefacts.read_rows(self.file(name))[0] if self.has(name) else None

    def file(self, name: str) -> Path:
        """A file that the stage made. Raises as `rows`."""
        path = self.folder / name
        if not path.is_file() or artefacts.sha256_file(path) != self.manifest["files"][name]:
            raise InputError(
                f"{self.stage.name}/{name} is not the file that was sealed; delete that stage's folder and "
                "run the same command again."
            )
        return path


@dataclass(frozen=True)
class Run:
    """A run as it stands: its preset, the finished stages by name in plan order, the names of the others and
    why they do not count."""

    path: Path
    preset: Preset
    stages: Mapping[str, SealedStage]
    missing: Mapping[str, str]

    @cached_property
    def model(self) -> str:
        """The base's name: as the hub has it, or without its folders, wherever one asks."""
        stated = artefacts.read_json(self.path / RECORD).get("model")  # runs of earlier versions have none
        return stated if isinstance(stated, str) else plain_name(self.preset.model)

    def of_kind(self, kind: str) -> list[SealedStage]:
        """Finished stages of one kind, in plan order."""
        return [one for one in self.stages.values() if one.stage.kind == kind]

    def of_iteration(self, kind: str, iteration: int) -> SealedStage | None:
        """The finished stage of this kind in this iteration."""
        return next((one for one in self.of_kind(kind) if one.stage.iteration == iteration), None)


def read_run(path: Path) -> Run:
    """What of `path` is finished. A sealed stage whose config or inputs are no longer the run's is not.

    Raises:
        InputError: `path` is no run directory.
    """
    preset = read_preset(path)
    stages: dict[str, SealedStage] = {}
    missing: dict[str, str] = {}
    for stage in plan(preset):
        folder = stage_folder(path, stage.name)
        manifest = artefacts.sealed(folder)
        if manifest is None:
            missing[stage.name] = "not finished" if folder.exists() else "not started"
        elif not _current(stage, manifest, stages):
            missing[stage.name] = "made from other inputs than the ones here"
        else:
            stages[stage.name] = SealedStage(stage, folder, manifest)
    return Run(path, preset, stages, missing)


def _current(stage: Stage, manifest: Mapping[str, Any], stages: Mapping[str, SealedStage]) -> bool:
    spec, inputs = manifest["spec"], manifest["spec"].get("inputs")
    if spec.get("config") != stage.config or spec.get("kind") != stage.kind:
        return False
    if not isinstance(inputs, dict) or set(inputs) != set(stage.inputs):
        return False
    return all(
        source == "base"
        or (source in stages and inputs[role] == artefacts.content_digest(stages[source].manifest))
        for role, source in stage.inputs.items()
    )
