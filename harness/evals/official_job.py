"""What is handed to lmms-eval's scoring, and what comes back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Judge(_Strict):
    """A model on an OpenAI-compatible server, .../v1; `remote`: it may be another machine."""

    url: str
    model: str
    remote: bool = False

    @classmethod
    def named(cls, url: str | None, model: str | None, remote: bool) -> Judge | None:
        """None where the user names none."""
        return cls(url=url.rstrip("/"), model=model, remote=remote) if url and model else None


class AnsweredRow(_Strict):
    """A row of the dataset without its pictures, and the answer to it."""

    id: str
    row: dict[str, JsonValue]
    answer: str


class Job(_Strict):
    """One suite.

    Attributes:
        file: lmms-eval's task, below its tasks folder.
        item: the metric whose value over one row is the row's verdict; None: there is none.
        headlines: name -> metrics whose mean over the strata it is.
        strata: name -> rows (by position) of each of its strata; one with all rows where it is not named.
    """

    file: str
    item: str | None
    headlines: dict[str, tuple[str, ...]]
    strata: dict[str, list[list[int]]]
    rows: tuple[AnsweredRow, ...]
    judge: Judge | None = None


class Outcome(_Strict):
    """What lmms-eval's code says.

    Attributes:
        unavailable: why it says nothing at all.
        verdicts: row id -> right or wrong.
        set_aside: row id -> the exception by which its scoring ended; in no number.
        headlines: its own numbers, of 1 or of 100 as it gives them.
        failed: name -> the exception by which its aggregation ended.
    """

    unavailable: str | None = None
    verdicts: dict[str, bool] = {}
    set_aside: dict[str, str] = {}
    headlines: dict[str, float] = {}
    failed: dict[str, str] = {}
