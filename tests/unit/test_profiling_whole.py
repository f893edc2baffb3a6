"""One whole profile of the smoke preset: its schema, its exact counts, its files. Times are never
asserted."""

from __future__ import annotations

import gzip
import io
import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.perf.profile import page, tables
from harness.perf.profile.clock import Times
from harness.perf.profile.profile import measure, warnings
from harness.perf.profile.results import OURS, STOCK, Options, PhaseRow, Profile
from harness.perf.profile.training import TRAINED
from vzero.presets import load_preset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    trace = tmp_path_factory.mktemp("profile") / "trace.json.gz"
    short = ["solver.grpo.max_completion_tokens=8"]
    short += [f"{role}.votes.max_new_tokens=4" for role in ("questioner", "solver")]
    preset = load_preset("smoke", ["engine.threads=1", *short])
    options = Options(target="all", stock=True, repetitions=1, prompts=4)
    return SimpleNamespace(profile=measure(preset, options, trace, lambda step: None), trace=trace)


ROW = {
    "target", "phase", "role", "side", "seconds", "prompt_tokens", "completion_tokens",
    "prompt_tokens_per_second", "completion_tokens_per_second", "calls", "positions", "real_positions",
    "padding_factor", "pictures", "encoder_passes", "encoder_passes_per_picture", "peak_mib",
    "flops_needed", "flops_computed", "mfu", "hfu", "decode_bytes", "bandwidth_use",
}  # fmt: skip


def test_the_whole_profile(whole: SimpleNamespace) -> None:
    profile = whole.profile.as_json()
    text = json.dumps(profile, allow_nan=False)
    assert Profile.model_validate_json(text) == whole.profile
    assert set(profile) == {
        "schema", "preset", "model", "options", "machine", "provenance", "workload", "phases", "ratios",
        "parts", "logprob_gap", "trace", "warnings",
    }  # fmt: skip
    assert platform.node() not in text and str(Path.home()) + "/" not in text and "/tmp" not in text
    assert all(set(one) == ROW for one in profile["phases"])
    rows = {(one["target"], one["phase"], one["role"], one["side"]): one for one in profile["phases"]}
    assert len(rows) == len(profile["phases"])
    roles, sides = ("questioner", "solver"), (OURS, STOCK)
    trained = [
        ("grpo", phase, role, side)
        for role in roles
        for phase in ("logprobs", "update", TRAINED)
        for side in sides
    ]
    drawn = [
        (phase, phase, role, side)
        for phase, role in (("rollout", "questioner"), ("votes", "solver"))
        for side in sides
    ]
    ours = [("grpo", "rollout", role, OURS) for role in roles]
    assert set(rows) == {*drawn, *trained, *ours, ("grpo", "votes", "questioner", OURS)}
    compared = [(one["target"], one["phase"], one["role"]) for one in profile["ratios"]]
    assert sorted(compared) == sorted({one[:3] for one in (*drawn, *trained)})
    assert rows["votes", "votes", "solver", OURS]["encoder_passes_per_picture"] == 1
    assert (
        rows["votes", "votes", "solver", STOCK]["encoder_passes_per_picture"] == 40
    )  # 4 questions a picture, 10 votes each
    assert rows["rollout", "rollout", "questioner", STOCK]["encoder_passes_per_picture"] == 4
    assert all(one["padding_factor"] >= 1 for one in rows.values())
    assert all(profile["logprob_gap"][role]["max"] < 1e-2 for role in ("questioner", "solver"))
    assert profile["machine"]["matmul_tflops"] > 0 and profile["machine"]["bandwidth_gbs"] > 0
    assert "One repetition" in profile["warnings"][-1]


def test_every_number_is_rendered_whole(whole: SimpleNamespace) -> None:
    profile = whole.profile
    table = tables.as_markdown(profile)
    stream = io.StringIO()
    tables.show(profile, Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    for one in profile.phases:
        seconds, passes = f"{one.seconds.median:.3g}", f"{one.encoder_passes_per_picture:.3g}"
        assert any(one.side in line and f" {seconds} " in line for line in lines), one
        assert f"| {one.side} | {seconds} | 0 |" in table
        assert f"| {one.side} | {one.padding_factor:.2f} | {passes} |" in table
    for one in profile.ratios:
        assert any(line.startswith(one.phase) and f" {one.speedup:.2f}x " in line for line in lines)
    widths = [len(line) for line in lines if not line.endswith(".")]  # sentences wrap on a terminal alone
    assert max(widths) <= 80
    assert "\u2026" not in stream.getvalue()  # nothing was cut
    for title in ("Rollouts alone", "Votes alone", "Questioner's batch", "Solver's batch"):
        assert f"| **{title}** |" in table and any(line.strip() == title for line in lines)


def test_wide_numbers_fit_eighty_columns(whole: SimpleNamespace) -> None:
    seconds = Times(median=12345.6, min=1.0, max=2e4, stdev=1234.5, stable=False, values=(12345.6,))
    wide = {
        "seconds": seconds,
        "prompt_tokens_per_second": 123456.0,
        "completion_tokens_per_second": 123456.0,
        "peak_mib": 81234.5,
        "padding_factor": 13.37,
        "flops_needed": 9.99e14,
        "mfu": 1.469,
        "hfu": 0.99949,
        "bandwidth_use": 0.999,
    }
    stream = io.StringIO()
    phases = [one.model_copy(update=wide) for one in whole.profile.phases]
    tables.show(whole.profile.model_copy(update={"phases": phases}), Console(file=stream, width=80))
    text = stream.getvalue()
    assert "\u2026" not in text
    assert all(word in text for word in ("12,346?", "123,456", "81,234", "13.37", " 999 ", "146.9", "99.9"))


def test_names_are_inert(whole: SimpleNamespace) -> None:
    names = {"preset": "a\x1b[31m\nb", "warnings": ["\x1b]0;x\x07 [red]no markup[/red]"]}
    hostile = whole.profile.model_copy(update=names)
    assert "\x1b" not in tables.as_markdown(hostile)
    stream = io.StringIO()
    tables.show(hostile, Console(file=stream, width=80))
    assert "\x1b" not in stream.getvalue() and "[red]no markup[/red]" in stream.getvalue()


def test_unit_of_work_follows_its_size(whole: SimpleNamespace) -> None:
    large = [one.model_copy(update={"flops_needed": 2.5e15}) for one in whole.profile.phases]
    table = tables.tables(whole.profile.model_copy(update={"phases": large}))[1]
    names = [column.name for column in table.columns]
    assert table.rows[0][names.index("PFLOP")].text == "2.5"


def test_the_committed_profile_can_be_read() -> None:
    text = (ROOT / "results" / "profile" / "profile.json").read_text(encoding="utf-8")
    profile = Profile.model_validate_json(text)
    assert profile.as_json() == json.loads(text)
    assert f"{profile.ratios[0].speedup:.2f}x" in page.render(profile)


def test_trace_opens_and_names_no_file(whole: SimpleNamespace) -> None:
    text = gzip.decompress(whole.trace.read_bytes()).decode()
    events = json.loads(text)
    assert any(event.get("name", "").startswith("aten::") for event in events["traceEvents"])
    assert "traceName" not in events and "/tmp" not in text and platform.node() not in text


def test_warnings_name_what_is_shaky_and_the_load(whole: SimpleNamespace) -> None:
    def row(phase: str, stable: bool, hfu: float = 0.5) -> PhaseRow:
        times = Times(median=1.5, min=1.0, max=2.0, stdev=0.1, stable=stable, values=(1.0, 2.0))
        changes = {
            "target": phase,
            "phase": phase,
            "role": "solver",
            "side": OURS,
            "seconds": times,
            "hfu": hfu,
        }
        return whole.profile.phases[0].model_copy(update=changes)

    assert warnings([row("votes", True)], 0.1) == []
    [disturbed] = warnings([row("votes", True, 1.2)], 0.1)
    assert "over 100%" in disturbed
    busy, shaky = warnings([row("votes", True), row("update", False)], 1.9)
    assert "1.9 cores" in busy
    assert shaky.startswith("1 of 2 times may be unstable (update: update (solver, vzero))")
