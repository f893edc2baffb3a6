"""The check for a GPU, dry on the CPU: every section by the product's code, what is saved, what is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.perf import hardware
from tools import gpu_check, gpu_check_sections
from tools.gpu_check_models import Setup
from tools.gpu_check_report import Check, Report, Section, markdown
from vzero.errors import InputError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(dry=True, scratch=tmp_path_factory.mktemp("gpu-check"), processor_folder=None, layers=None)


@pytest.mark.parametrize("name", [name for name in gpu_check.LIMITS if name != "smoke"])
def test_a_section_runs_and_is_in_range(name: str, setup: Setup) -> None:
    found = gpu_check_sections.run(name, setup)
    assert (found.state, found.error) == ("done", "") and found.in_range and found.measured
    assert Section.model_validate_json(found.model_dump_json()) == found


def test_a_section_that_fails_says_why(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    from vzero.runtime import windows

    monkeypatch.setattr(windows, "group", lambda tower: False)
    found = gpu_check_sections.run("vision", setup)
    assert found.state == "failed" and not found.in_range
    assert found.error.startswith("RuntimeError: the tower cannot be grouped")


def test_a_kernel_that_cannot_be_built_leaves_the_others(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tools import gpu_check_kernels

    attend = gpu_check_kernels.attend

    def broken(module: Any, query: torch.Tensor, *given: Any, **options: Any) -> Any:
        if query.dtype == torch.bfloat16:
            raise RuntimeError("no such kernel")
        return attend(module, query, *given, **options)

    monkeypatch.setattr(gpu_check_kernels, "attend", broken)
    found = gpu_check_sections.run("attention", setup)
    assert found.measured["tiny, dense, bfloat16"] == {"error": "RuntimeError: no such kernel"}
    assert [check.in_range for check in found.checks] == [True, False] and found.state == "done"


def test_a_section_needs_nothing_of_the_others(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, gpu_check_sections.TRAINING, None
    )  # as if a package it needs were missing
    assert gpu_check_sections.run("attention", setup).state == "done"
    assert gpu_check_sections.run("parity", setup).state == "failed"


def test_the_last_words_of_a_section_that_died_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dies.py"
    program.write_text("import sys; sys.exit('no such module')")
    monkeypatch.setattr(gpu_check, "__file__", str(program))
    given = gpu_check.arguments(["--dry-run", "--scratch", str(tmp_path)])
    found = gpu_check._run(given, "facts", float("inf"))
    assert (found.state, found.error) == ("failed", "the process ended with 1: no such module")


def test_a_section_out_of_time_says_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "hangs.py"
    program.write_text("import time\n\n\ndef wait():\n    time.sleep(3600)\n\n\nwait()\n")
    monkeypatch.setattr(gpu_check, "__file__", str(program))
    given = gpu_check.arguments(["--dry-run", "--scratch", str(tmp_path)])
    for seconds in (2.0, 10.0, 60.0):  # a busy machine starts Python slowly
        found = gpu_check._run(given, "facts", seconds)
        if "hangs.py" in found.error:  # and no longer among Python's own imports
            break
    assert found.state == "out of time" and "hangs.py" in found.error and "in wait" in found.error


def test_attention_that_sees_too_much_is_out_of_range(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools import gpu_check_kernels

    pack = gpu_check_kernels.pack

    def leaking(*given: Any) -> Any:
        packed = pack(*given)
        packed.layout.visible.fill_(True)
        return packed

    monkeypatch.setattr(gpu_check_kernels, "pack", leaking)
    found = gpu_check_sections.run("attention", setup)
    assert found.state == "done" and not found.in_range


def test_a_tower_whose_windows_see_the_whole_picture_is_out_of_range(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from vzero.runtime import windows

    def whole(ends: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        every = torch.arange(int(ends[-1]))
        return [every[None]], every

    monkeypatch.setattr(windows, "_places", whole)
    found = gpu_check_sections.run("vision", setup)
    assert found.state == "done" and not found.in_range


def run(*given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/gpu_check.py", *given]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_second_run_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    first = run("--dry-run", "--only", "weights", "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    again = run("--dry-run", "--only", "weights", "--out", str(tmp_path))
    assert again.returncode == 0 and "weights: done before" in again.stdout
    saved = json.loads((tmp_path / "gpu_check.json").read_text("utf-8"))
    assert list(saved["sections"]) == ["weights"] and saved["dry"] is True
    page = (tmp_path / "gpu_check.md").read_text("utf-8")
    assert "dry run" in page and "- smoke: not run yet" in page
    assert not (tmp_path / hardware.RATES).exists()  # of a CPU nothing is known about a GPU


@pytest.mark.parametrize("given", [("--only", "nonsense"), ("--only", "facts")])
def test_wrong_input_is_refused(given: tuple[str, ...]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    refused = run(*given)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (Check(name="a", value=5.0, low=5), True),
        (Check(name="a", value=4.9, low=5), False),
        (Check(name="a", value=1.2, low=0.85, high=1.15), False),
        (Check(name="a", value=float("nan"), high=1), False),
        (Check(name="a", value=None, low=1), False),
        (Check(name="a", value=0.0, low=5, judged=False), True),
    ],
)
def test_what_is_in_range(check: Check, good: bool) -> None:
    assert check.in_range is good
    section = Section(state="done", seconds=1.0, checks=(check,))
    report = Report(
        card="x", device="X", dry=False, provenance={"packages": {}, "git": None, "python": "3"},
        sections={"vision": section},
    )  # fmt: skip
    page = markdown(report, ("vision",))
    assert ("Everything is in range." in page) is good and ("- vision: a is" in page) is not good


@pytest.mark.parametrize(
    ("driver", "memory", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", 85.0e9, "h100-80"),
        ("NVIDIA A100-SXM4-40GB", 42.3e9, "a100-40"),
        ("NVIDIA A100-SXM4-80GB", 84.9e9, "a100-80"),
        ("NVIDIA H200", 150.0e9, "h200-141"),
        ("NVIDIA GeForce RTX 4090", 25.3e9, "rtx-4090-24"),
        ("NVIDIA Something X", 16.0e9, "something-x-16"),
        ("NVIDIA H100 NVL", 100.0e9, "h100-nvl-100"),
    ],
)
def test_cards_are_told_by_the_drivers_name_and_memory(driver: str, memory: float, kind: str) -> None:
    assert hardware.kind_of(driver, memory) == kind


def test_measured_rates_take_the_place_of_assumed_ones(tmp_path: Path) -> None:
    assumed = hardware.card("h100-80", tmp_path)
    folder = tmp_path / "h100-80"
    folder.mkdir()
    (folder / hardware.RATES).write_text(json.dumps({"rates": {"computing": 0.5, "read": 2e9}}), "utf-8")
    found = hardware.card("h100", tmp_path)
    assert (found.rates.computing, found.rates.read) == (0.5, 2e9)
    assert found.measured == {"computing", "read"} and found.rates.decoding == assumed.rates.decoding
    assert hardware.card("a100-80", tmp_path).measured == frozenset()
    (folder / hardware.RATES).write_text('{"rates": {"luck": 1}}', "utf-8")
    with pytest.raises(InputError, match="measure again"):
        hardware.card("h100-80", tmp_path)
    with pytest.raises(InputError, match="names 2 known cards"):
        hardware.card("a100", tmp_path)
