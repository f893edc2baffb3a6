"""Which suites there are and which of them make up a group; each is a file in `records`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vzero.errors import InputError

GROUPS = ("math", "logic", "vision")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """One table of rows of a suite, and lmms-eval's own task over it.

    Attributes:
        config, split: of the dataset on the hub.
        rows: how many rows the published split has.
        task, file: name and YAML of lmms-eval's task, the file below its tasks folder.
    """

    config: str | None
    split: str
    rows: int = Field(gt=0)
    task: str
    file: str


class Published(_Strict):
    """Which published numbers stand beside: suite and metric in `harness.claims.published`."""

    suite: str | None
    metric: str


class Suite(_Strict):
    """A benchmark.

    Attributes:
        groups: whose averages it enters.
        dataset: id on the hub.
        scored: rows that have a gold answer.
        fields: the function of `harness.evals.fields` that reads a row.
        images: columns that may hold a picture, in the order they are shown.
        archive: a zip file of the dataset's repository that holds the pictures, where the rows only name
            them.
        table: the group of items that the terminal's table is by.
        together: names of sets of items that count as right only if all of theirs are.
        judge: lmms-eval's own scoring asks a judge model.
        stock: why lmms-eval's own task cannot be run on local data; None where it can.
        needs: Python modules that lmms-eval's own task imports and its package does not bring.
        rule: where our scoring rule comes from.
    """

    name: str
    title: str
    groups: tuple[str, ...]
    dataset: str
    parts: tuple[Part, ...]
    scored: int
    fields: str
    images: tuple[str, ...]
    archive: str | None = None
    table: str
    together: tuple[str, ...] = ()
    published: Published
    judge: bool
    stock: str | None = None
    needs: tuple[str, ...] = ()
    rule: str
    note: str | None = None

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)


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


def members(group: str) -> list[str]:
    """Names of the suites in a group; "all" is every suite."""
    return [name for name, suite in suites().items() if group == "all" or group in suite.groups]


def choose(names: Sequence[str]) -> list[Suite]:
    """The suites that `names` (suites and groups, also several in one string with commas between) mean, none
    twice.

    Raises:
        InputError: an unknown name, or none.
    """
    wanted: dict[str, None] = {}
    for name in (part.strip() for text in names for part in text.split(",") if part.strip()):
        if name in (*GROUPS, "all"):
            wanted.update(dict.fromkeys(members(name)))
        elif name in suites():
            wanted[name] = None
        else:
            raise InputError(
                f"There is no suite {name!r}; choose among {', '.join(suites())}, or a group: {', '.join(GROUPS)}, all."
            )
    if not wanted:
        raise InputError(
            f"--suites is empty; choose among {', '.join(suites())}, or a group: {', '.join(GROUPS)}, all."
        )
    return [suites()[name] for name in wanted]
