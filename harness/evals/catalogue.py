"""Which suites there are and which of them make up a group; each is a file in `records`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vzero.config import EvaluationConfig
from vzero.errors import InputError

Profile = Literal["boxed", "stock"]
Purpose = Literal["greedy", "sampled"]  # what answers are for
PER_FAMILY = 75  # drawn questions where nobody says how many; as in the preset `pocket`
GROUPS = ("math", "logic", "vision", "cv_bench", "pocket")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """One table of rows of a suite, and lmms-eval's own task over it.

    Attributes:
        config, split: of the dataset on the hub.
        rows: how many rows the published split has.
        task, file: name and YAML of lmms-eval's task, the file below its tasks folder.
    """

    config: str | None = None
    split: str
    rows: int = Field(gt=0)
    task: str = ""
    file: str = ""


class Published(_Strict):
    """Which published numbers stand beside: suite and metric in `harness.claims.published`."""

    suite: str | None = None
    metric: str = "accuracy"


class Local(_Strict):
    """A suite as its authors publish it: files of rows (JSON, or JSON lines), and pictures beside them.

    Attributes:
        files: patterns below the folder given; the first that matches is read. One with `*` names the files
            of several variants, all of which are read.
        key: column that takes the key of a row, where a file is an object of rows by key.
        variant: column that takes the name of the folder in which a variant's file lies.
        renamed: column on the hub -> column of the file, where they differ.
        picture: column that says where the picture lies, below one of `folders`, seen from the file.
        only: column -> value of those rows that are the suite's.
    """

    files: tuple[str, ...]
    key: str | None = None
    variant: str | None = None
    renamed: dict[str, str] = Field(default_factory=dict)
    picture: str
    folders: tuple[str, ...] = ("", "images", "..")
    only: dict[str, str] = Field(default_factory=dict)


class Headline(_Strict):
    """A number that a suite's authors publish.

    Attributes:
        metrics: of lmms-eval's task, whose aggregates it is the mean of; none for drawn suites.
        over: a group of items: the number is the unweighted mean over its values.
        sets: what is counted: "item", or a set of `Suite.together`, right where all of its items are.
            Several: the mean over them.
        score: a rule of `harness.evals.headline` that counts in another way.
    """

    name: str = "accuracy"
    metrics: tuple[str, ...] = ()
    over: str | None = None
    sets: tuple[str, ...] = ("item",)
    score: Literal["strict", "loose"] | None = None


class Suite(_Strict):
    """A set of questions with gold answers.

    Attributes:
        id: columns whose values, with `id_separator` between them, are the id of a row.
        groups: whose averages it enters.
        dataset: id on the hub.
        scored: rows that have a gold answer.
        fields: the function of `harness.evals.fields` that reads a row.
        images: columns that may hold a picture, in the order they are shown.
        local: a local copy in the authors' layout, where they publish one.
        archive: a zip file of the dataset's repository that holds the pictures, where the rows only name
            them.
        table: the group of items that the terminal's table is by.
        together: names of sets of items that count as right only if all of theirs are.
        headlines: the first is the suite's number in tables of several suites.
        verdict: the metric of lmms-eval's task whose value over one row is that row's verdict; None: none is.
        percent: lmms-eval writes the headlines in percent.
        whole: they mean something of all rows alone.
        judge: lmms-eval's own scoring asks a judge model.
        stock: why lmms-eval's own task cannot be run on local data; None where it can.
        needs: Python modules that lmms-eval's own task imports and its package does not bring.
        rule: the suite's published rule and where it comes from.
        drawn: questions that `vzero.pocket.suites` draws of each family, 0 for a benchmark. A drawn suite is
            asked in the Solver's own prompt, its pictures as they are, and read by the Solver's own parser.
    """

    name: str
    title: str
    groups: tuple[str, ...]
    dataset: str
    parts: tuple[Part, ...]
    scored: int
    fields: str
    id: tuple[str, ...] = ()
    id_separator: str = "/"
    images: tuple[str, ...]
    local: Local | None = None
    archive: str | None = None
    table: str
    together: tuple[str, ...] = ()
    headlines: tuple[Headline, ...] = (Headline(),)
    verdict: str | None = None
    percent: bool = False
    whole: bool = False
    published: Published = Published()
    judge: bool = False
    stock: str | None = None
    needs: tuple[str, ...] = ()
    rule: str
    note: str | None = None
    drawn: int = 0

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    def sized(self, per_family: int, split: str) -> Suite:
        """The suite with so many drawn questions of each family, of the split "dev" or "test"; a benchmark as
        it is."""
        if not self.drawn:
            return self
        families = self.scored // self.drawn
        part = Part(split=split, rows=families * per_family)
        return self.model_copy(update={"parts": (part,), "scored": part.rows, "drawn": per_family})


@cache
def suites() -> dict[str, Suite]:
    """All suites by name, in alphabetical order."""
    folder = resources.files(__package__) / "records"
    found = [
        Suite.model_validate(yaml.safe_load(entry.read_text("utf-8")))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    return {suite.name: suite for suite in sorted(found, key=lambda suite: suite.name)}


def asked(config: EvaluationConfig) -> tuple[Suite, ...]:
    """The suites of a preset.

    Raises:
        InputError: an unknown suite, one named twice, none, or a probe of benchmarks.
    """
    if len(set(config.suites)) != len(config.suites) or not config.suites:
        raise InputError("evaluation.suites must name at least one suite and none twice.")
    found = tuple(find(name).sized(config.items_per_family, config.split) for name in config.suites)
    if config.prefill_words and not all(suite.drawn for suite in found):
        # Answers to rows without gold are not in samples.jsonl, where the probe takes its words from.
        raise InputError(
            "evaluation.prefill_words is for suites of the pocket world; set it to 0 to measure benchmarks."
        )
    return found


def find(name: str) -> Suite:
    """A suite by its name.

    Raises:
        InputError: there is none.
    """
    if name not in suites():
        raise InputError(f"There is no suite {name!r}; choose one of {', '.join(suites())}.")
    return suites()[name]


def members(group: str) -> list[str]:
    """Names of the suites in a group; "all" is every benchmark."""
    return [
        name
        for name, suite in suites().items()
        if group in suite.groups or (group == "all" and not suite.drawn)
    ]


def choose(names: str) -> tuple[Suite, ...]:
    """The suites that `names` (suites and groups with commas between them) mean, none twice.

    Raises:
        InputError: an unknown name, or none.
    """
    wanted: dict[str, None] = {}
    known = f"choose among {', '.join(suites())}, or a group: {', '.join(GROUPS)}, all."
    for name in (part.strip() for part in names.split(",") if part.strip()):
        found = [name] if name in suites() else members(name)
        if not found:
            raise InputError(f"There is no suite {name!r}; {known}")
        wanted.update(dict.fromkeys(found))
    if not wanted:
        raise InputError(f"--suites is empty; {known}")
    return tuple(suites()[name] for name in wanted)
