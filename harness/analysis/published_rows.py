"""Rows of printed numbers for the model and suites of a comparison. They stand beside ours and are never
subtracted from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from harness.claims import published
from harness.claims.published import Number

SPLITS = {
    "mathvista": "mathvista-testmini",
    "blink": "blink-val",
    "mmmu": "mmmu-val",
}  # suites whose usual split the baselines name


def canonical(name: str) -> str:
    """ "Qwen/Qwen2.5-VL-7B-Instruct", "mathvista_testmini" and "mathvista" as the baselines write them."""
    plain = PurePosixPath(name).name.casefold().replace("_", "-")
    return SPLITS.get(plain, plain)


def rows(models: Sequence[str], suites: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each method and source with a number on one of `suites` and one of `models`; base figures
    of others come last.

    `kind` is "published" for a method's own claim and "third-party" for what somebody measured on the
    untrained model.
    """
    wanted, known = {canonical(model) for model in models}, {canonical(suite): suite for suite in suites}
    titles = {source.id: source.title for source in published.load().sources}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in published.numbers():
        if one.kind != "score" or canonical(one.model) not in wanted or canonical(one.suite) not in known:
            continue
        row = found.setdefault((one.method, one.model, one.source), _row(one, titles))
        row["cells"].setdefault(known[canonical(one.suite)], []).append(_cell(one))
    return sorted(found.values(), key=lambda row: row["kind"] == "third-party")


def _row(one: Number, titles: Mapping[str, str]) -> dict[str, Any]:
    kind = "third-party" if one.method == "base" else "published"
    return {
        "kind": kind,
        "name": f"{one.method} ({titles[one.source]})",
        "model": one.model,
        "source": one.source,
        "cells": {},
    }


def _cell(one: Number) -> dict[str, Any]:
    """A printed number in the units of ours (a share), with what is known about how it was measured."""
    stated = {key: value for key, value in one.protocol.model_dump().items() if value}
    return {
        "value": (one.value or 0.0) / 100,
        "n": one.n,
        "metric": one.metric,
        "certainty": one.certainty,
        "protocol": stated,
        "note": one.note,
    }
