"""All rules on one run, and the reference to compare it with."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from harness.analysis.build import build
from harness.check import exact, learning, protocol, reference
from harness.check.finding import Report, finding
from harness.check.reference import Reference
from harness.runs.sealed import read_run
from vzero.errors import InputError

SMOKE = Path(__file__).parent / "smoke.json"  # of the preset smoke


def check(path: Path, beside: Reference | None) -> Report:
    """Hold every rule against the run in `path`; `beside` None compares it with nothing.

    Raises:
        InputError: `path` is no run, or a sealed file in it was changed.
    """
    run = read_run(path)
    results = build(run, operations=False)
    findings = [*exact.findings(run), *learning.findings(run), *protocol.findings(run, results)]
    if beside is None:
        findings.append(finding("beside-reference", "", None, "no reference was given"))
    else:
        findings += reference.findings(run, results, beside)
    return Report.of(findings)


def make_reference(path: Path) -> Reference:
    """What `check` compares other runs with, from a finished run.

    Raises:
        InputError: the run is not finished.
    """
    run = read_run(path)
    if run.missing:
        raise InputError(
            f"{path} is not finished (missing: {', '.join(run.missing)}); finish it first, with the command "
            "that began it."
        )
    return reference.measure(run, build(run, operations=False))


def read_reference(path: Path) -> Reference:
    """A reference file.

    Raises:
        InputError: it is not there or no reference.
    """
    try:
        return Reference.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"There is no reference {path}; make one from a good run with --write-reference, or give "
            "--no-reference."
        ) from None
    except (ValidationError, OSError):
        raise InputError(
            f"{path} is no reference of this version; make it anew with --write-reference."
        ) from None
