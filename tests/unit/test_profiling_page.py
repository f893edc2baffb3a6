"""profile.html: bars as long as their numbers, inferred parts marked as such, hostile text inert, nothing
loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from harness.perf.profile import charts, page
from harness.perf.profile.charts import Part
from harness.perf.profile.clock import summary
from harness.perf.profile.results import (
    OURS,
    STOCK,
    Machine,
    Model,
    Options,
    PhaseRow,
    Profile,
    Workload,
    ratios,
)

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e&\"'"


def phase(target: str, name: str, role: str, side: str, seconds: list[float]) -> PhaseRow:
    return PhaseRow(
        target=target, phase=name, role=role, side=side, seconds=summary(seconds),
        prompt_tokens=50, completion_tokens=100,
        prompt_tokens_per_second=10.0, completion_tokens_per_second=20.0,
        calls=3, positions=300, real_positions=200, padding_factor=1.5,
        pictures=2, encoder_passes=8 if side == STOCK else 2, encoder_passes_per_picture=1.0, peak_mib=None,
        flops_needed=2e9, flops_computed=3e9, mfu=0.5, hfu=0.6, decode_bytes=0, bandwidth_use=None,
    )  # fmt: skip


@pytest.fixture
def profile() -> Profile:
    phases = [
        phase("rollout", "rollout", "questioner", OURS, [1.0, 1.0, 1.0]),
        phase("rollout", "rollout", "questioner", STOCK, [3.0, 3.0, 3.0]),
        phase("grpo", "rollout", "questioner", OURS, [2.0]),
        phase("grpo", "votes", "questioner", OURS, [1.0]),
        phase("grpo", "logprobs", "questioner", OURS, [1.0]),
        phase("grpo", "update", "questioner", OURS, [4.0]),
        phase("grpo", "logprobs", "questioner", STOCK, [5.0]),
        phase("grpo", "update", "questioner", STOCK, [2.0]),
    ]
    machine = Machine(
        device=HOSTILE, kind="cpu", cores=2, threads=2, memory_gib=None, dtype="float32",
        matmul_tflops=0.2, bandwidth_gbs=50.0,
    )  # fmt: skip
    return Profile(
        preset=HOSTILE,
        model=Model(name=HOSTILE, architecture="A", parameters=500_000, vision_parameters=None),
        options=Options(target="all", repetitions=3),
        machine=machine,
        provenance={"git": None, "python": "3.11.7", "packages": {"torch": "2.13.0"}},
        workload=Workload(pictures=4, questions=16, questions_written=12),
        phases=phases,
        ratios=ratios(phases),
        parts={"questioner": {OURS: {"old": 0.5}, STOCK: {"old": 0.75}}},
        logprob_gap={},
        trace=None,
        warnings=[HOSTILE],
    )


def drawn(markup: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(markup) if one.tag == "rect"]


def test_parts_of_stock_are_measured_scaled_or_borrowed(profile: Profile) -> None:
    sides = charts.batches(profile)["questioner"]
    assert [(one.phase, one.seconds) for one in sides[OURS]] == [
        ("rollout", 2),
        ("votes", 1),
        ("logprobs", 1),
        ("update", 4),
    ]
    assert sides[STOCK] == [
        Part("rollout", 6.0, charts.SCALED),  # 2 s in the batch, three times as slow when measured alone
        Part("votes", 1.0, charts.BORROWED),  # votes were not measured alone
        Part("logprobs", 5.0, charts.MEASURED),
        Part("update", 2.0, charts.MEASURED),
    ]


def test_bars_are_as_long_as_their_seconds(profile: Profile) -> None:
    sides = charts.batches(profile)["questioner"]
    bars = drawn(charts.stacked("questioner", sides))
    widths = [float(one.get("width")) + 1 for one in bars]  # a pixel is left between neighbours
    whole = sum(widths[4:])  # stock takes 14 s, the longest
    assert [round(14 * width / whole, 1) for width in widths] == [2, 1, 1, 4, 6, 1, 5, 2]
    assert ["borrowed" in one.get("class") for one in bars] == [False] * 5 + [True] + [False] * 2
    starts = [float(one.get("x")) for one in bars]
    assert starts[1] == pytest.approx(starts[0] + widths[0], abs=0.2)


def test_lede_names_the_longest_part_and_what_was_measured(profile: Profile) -> None:
    # ours: 4 of 8 s; measured on both sides: logprobs and update, 5 s against 7 s
    assert page.findings(profile) == [
        "A generation batch of the questioner takes 8 s, 50% of it update; "
        "logprobs and update take stock 1.40 times as long.",
        "Rollouts alone: 3.00 times the speed of stock (3.00 to 3.00).",
    ]


class Balanced(HTMLParser):
    """Every element is closed in order; links and sources are kept."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.regions = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        self.targets += [found[name] for name in ("href", "src") if name in found]
        self.regions += found.get("role") == "region" and found.get("tabindex") == "0"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("trace", [None, "trace.json.gz"])
def test_page_is_whole_and_inert(profile: Profile, trace: str | None) -> None:
    text = page.render(profile.model_copy(update={"trace": trace}))
    reader = Balanced()
    reader.feed(text)
    assert reader.open == [] and reader.regions == 4  # each table can be scrolled by keyboard
    assert reader.targets == ([trace] if trace else [])
    assert "<script" not in text and "\x1b" not in text and "\u202e" not in text and "url(" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 5
    assert not re.search(r"\son\w+=", text)
    assert page.render(profile.model_copy(update={"trace": trace})) == text


def test_page_of_one_side_alone(profile: Profile) -> None:
    ours = [one for one in profile.phases if one.side == OURS]
    text = page.render(profile.model_copy(update={"phases": ours, "ratios": [], "parts": {}}))
    assert "Stock over ours" not in text and "stand in" not in text and "update" in text
    drawing = [one for one in ours if one.target == "rollout"]
    text = page.render(profile.model_copy(update={"phases": drawing, "ratios": [], "parts": {}}))
    assert "Where the time" not in text and "Rollouts alone" in text
