"""What a stage's process is given."""

from __future__ import annotations

import pytest

from harness.runs.environment import environment
from vzero.presets import load_preset
from vzero.selfplay import plan


def test_only_the_images_of_a_data_set_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else that the pocket model needs is on the disk, where a look at the hub could only hang."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    drawn = load_preset("smoke")
    fetched = load_preset("smoke", ["images.source=org/pictures"])
    for preset, online in ((drawn, set()), (fetched, {"images"})):
        stages = {stage.kind: environment(preset, stage) for stage in plan(preset)}
        assert {kind for kind, one in stages.items() if "HF_HUB_OFFLINE" not in one} == online
        assert {one.get("HF_HUB_OFFLINE", "1") for one in stages.values()} == {"1"}
