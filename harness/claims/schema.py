"""The shape of a published number and of a claim. Percent and points as printed; `harness.claims.judge` works
in fractions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Certainty = Literal["read", "secondary", "inferred"]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Source(_Strict):
    """Where numbers stand. `kind`: how far from those who measured."""

    id: Id
    title: str
    where: str
    kind: Literal["paper", "repository", "issue", "report", "secondary"]


class Protocol(_Strict):
    """How it was measured, as far as it is stated; None is "not stated"."""

    harness: str | None = None
    judge: str | None = None
    decoding: str | None = None
    note: str | None = None


class Number(_Strict):
    """One cell of a published table, as printed.

    Attributes:
        method: "base" for the untrained model, else the method.
        suite: benchmark, or "average" with `scope` saying of what.
        kind: "score" in percent, or "gain" in points over its own base.
        n: items; None where unknown or an average.
        value: None where it could not be found; `missing` then says why.
        certainty: "read" in the source itself, "secondary" through somebody's summary, "inferred" unchecked.
    """

    id: Id
    method: str
    model: str
    suite: str
    scope: str | None = None
    kind: Literal["score", "gain"] = "score"
    metric: str
    value: float | None
    n: Annotated[int, Field(gt=0)] | None
    source: Id
    table: str
    protocol: Protocol = Protocol()
    certainty: Certainty
    missing: str | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> Number:
        if (self.value is None) != (self.missing is not None):
            raise ValueError(f"{self.id}: a value, or the reason why it is missing, and not both")
        low = -100 if self.kind == "gain" else 0
        if self.value is not None and not low <= self.value <= 100:
            raise ValueError(f"{self.id}: {self.value} is no percentage")
        if (self.suite == "average") != (self.scope is not None):
            raise ValueError(f"{self.id}: an average, and only an average, says what it is over (scope)")
        return self


class _Claim(_Strict):
    id: Id
    statement: str
    model: str | None
    suite: str
    metric: str
    n: Annotated[int, Field(gt=0)] | None
    source: Id
    table: str
    protocol: Protocol = Protocol()
    certainty: Certainty
    note: str | None = None


class GainClaim(_Claim):
    """`method` gains `value` points over its base. `tolerance` (points) is our choice: within it the claim
    counts as reproduced."""

    kind: Literal["gain"]
    method: str
    value: float
    tolerance: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _no_gain_is_no_reproduction(self) -> GainClaim:
        if self.tolerance >= abs(self.value):
            raise ValueError(
                f"{self.id}: within a tolerance of {self.tolerance} no gain at all would count as reproduced"
            )
        return self


class OrderClaim(_Claim):
    """`better` scores higher than `worse`. `model` None: said of the method, whatever the model."""

    kind: Literal["order"]
    better: str
    worse: str


Claim = Annotated[GainClaim | OrderClaim, Field(discriminator="kind")]


class Book(_Strict):
    """The contents of one file, or of all."""

    sources: list[Source] = []
    numbers: list[Number] = []
    claims: list[Claim] = []

    def checked(self) -> Book:
        """Itself, once ids are unique and every source named is there.

        Raises:
            ValueError: which id.
        """
        for group in (self.sources, self.numbers, self.claims):
            ids = [one.id for one in group]
            if twice := sorted({one for one in ids if ids.count(one) > 1}):
                raise ValueError(f"ids given twice: {', '.join(twice)}")
        known = {one.id for one in self.sources}
        if lost := sorted({one.source for one in (*self.numbers, *self.claims)} - known):
            raise ValueError(f"sources that are not listed: {', '.join(lost)}")
        return self
