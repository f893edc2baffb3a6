"""All rules on one run, as a JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.analysis.build import build
from harness.check import exact, learning, protocol, reference
from harness.check.finding import Finding
from harness.runs.sealed import read_run
from vzero.errors import InputError
from vzero.runtime import artefacts


def check(path: Path, beside: Mapping[str, Any] | None) -> dict[str, Any]:
    """Hold every rule against the run in `path`; `beside` is a reference (`reference.measure`), or None for
    no comparison.

    Returns:
        ``{"passed", "failed", "not_checked", "findings": [{"rule", "stage", "passed", "says"}, ...]}``.

    Raises:
        InputError: `path` is no run, or a sealed file in it was changed.
    """
    run = read_run(path)
    results = build(run)
    found = [*exact.findings(run), *learning.findings(run), *protocol.findings(run, results)]
    if beside is None:
        found.append(Finding("beside-reference", "", None, "no reference was given"))
    else:
        found += reference.findings(run, results, beside)
    counts = {
        key: sum(one.passed is value for one in found)
        for key, value in (("failed", False), ("not_checked", None))
    }
    return {"passed": counts["failed"] == 0, **counts, "findings": [asdict(one) for one in found]}


def make_reference(path: Path) -> dict[str, Any]:
    """What `check` compares other runs with, from a finished run.

    Raises:
        InputError: the run is not finished.
    """
    run = read_run(path)
    if run.missing:
        raise InputError(
            f"{path} is not finished (missing: {', '.join(run.missing)}); a reference is made from a whole run."
        )
    return reference.measure(run, build(run))


def read_reference(path: Path) -> dict[str, Any]:
    """A reference file.

    Raises:
        InputError: it is not there or no reference.
    """
    try:
        found = artefacts.read_json(path)
        if found["format"] != reference.FORMAT or not {"preset", "items", "samples"} <= found.keys():
            raise KeyError(path)
    except FileNotFoundError:
        raise InputError(
            f"There is no reference {path}; make one from a good run with --write-reference, or give --no-reference."
        ) from None
    except (ValueError, KeyError, TypeError, OSError):
        raise InputError(
            f"{path} is no reference of this version; make it anew with --write-reference."
        ) from None
    return found
