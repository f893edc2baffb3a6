"""The campaign of faults, sampled: a try of each kind but those whose tries take seconds. `make faults` makes
many of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.attempts import Attempt, attempt, no_injection
from vzero.runtime import artefacts

SLOW = (
    *("enospc, runner", "eio, runner", "damaged, read"),  # the last is what test_garbled_files.py samples
    "misshapen, read",  # as test_strangers.py
    *("enospc, grpo", "eio, grpo", "kill, sft", "enospc, sft", "eio, sft"),
    "garbled, evaluate",  # as tests/e2e/test_suites.py
)


@pytest.mark.parametrize("kind", [kind for kind in campaign.KINDS if kind not in SLOW])
def test_a_sampled_fault_is_held(kind: str) -> None:
    if kind.split(",")[0] in campaign.INJECTIONS and (reason := no_injection()):
        pytest.skip(f"no fault can be injected: {reason}")
    assert campaign.run_kind(kind, 1, 1, 0.0).failures == []


def test_what_does_not_hold_is_seen() -> None:
    """An oracle that let these through would let everything through."""
    ended = Attempt(0, "")
    assert ended.fault((0,)) is None and Attempt(75, "note: x\nNo space.\n").fault((75,)) is None
    for bad in (Attempt(None, ""), Attempt(3, ""), Attempt(0, "Traceback (most"), Attempt(75, "a\nb\n")):
        assert bad.fault((0, 75)) is not None
    assert "ZeroDivisionError" in attempt(lambda: 1 // 0).said


@pytest.mark.parametrize("harm", ["change", "lose", "add", "fact"])
def test_other_content_is_seen(tmp_path: Path, harm: str) -> None:
    """A run that is sealed with other content than an undisturbed one, and goes on without a word."""
    run = tmp_path / "run"
    assert campaign.attempt(lambda: campaign.DRIVES["stages"](run)).code == 0
    assert campaign.resumed("stages", run) is None
    path = next(run.rglob("labels.jsonl"))
    if harm == "change":
        path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
    elif harm == "lose":
        path.unlink()
    elif harm == "fact":
        seal = artefacts.read_json(path.with_name(artefacts.MANIFEST))
        seal["facts"]["kept"] += 1
        del seal["digest"]  # as a fault in the product would seal it
        artefacts.write_json(path.with_name(artefacts.MANIFEST), seal)
    else:
        path.with_name(".labels.jsonl.7.tmp").write_bytes(b"torn")
    assert "other content" in str(campaign.resumed("stages", run))
