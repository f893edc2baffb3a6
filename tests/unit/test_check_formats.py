"""A `check` report for machines: whatever a model wrote, the CI that reads it sees our commands alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.check import formats
from harness.check.finding import Report, finding

HOSTILE = (
    "x\n::add-mask::e\r\n::error::no %0A::stop-commands::t ##[add-mask]a <img src=x>|`@all` ]]>&"
    "\x00\x1b[2J\u202e\ud800\ufffe"
)
MESSAGES = st.lists(
    st.one_of(st.text(max_size=60), st.sampled_from([HOSTILE, "::warning::a", "##[error]b", "%0A,:", ""])),
    min_size=1,
    max_size=4,
)


def runner(line: str) -> tuple[str, dict[str, str], str] | None:
    """A line of a log as the runner of GitHub Actions reads it: (command, properties, text), None for no
    command. Its two ways of writing one, from the runner's own parser."""
    stripped = line.lstrip()
    if stripped.startswith("::") and "::" in stripped[2:]:
        head, _, data = stripped[2:].partition("::")
    elif "##[" in line and "]" in line.partition("##[")[2]:
        head, _, data = line.partition("##[")[2].partition("]")
    else:
        return None
    name, _, pairs = head.partition(" ")
    found = dict(pair.split("=", 1) for pair in pairs.split(",") if "=" in pair)
    return name, {key: unescaped(value) for key, value in found.items()}, unescaped(data)


def unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def report(messages: list[str]) -> Report:
    """One failed finding for each, then one that passed and one that was not checked."""
    failed = [finding("reward-formula", "05-train, a:b", False, one) for one in messages]
    return Report.of([*failed, finding("kl-bounded", "", True, HOSTILE), finding("x", "", None, HOSTILE)])


@given(MESSAGES)
@example([HOSTILE])
def test_every_line_for_github_is_one_of_our_annotations(messages: list[str]) -> None:
    lines = re.split(r"[\r\n]", formats.github(report(messages)))
    commands = [runner(line) for line in lines]
    assert [one and one[0] for one in commands] == ["error"] * len(messages) + ["notice"]
    assert all(one and one[1] == {"title": "reward-formula [05-train, a:b]"} for one in commands[:-1])
    assert all("\n" not in one[2] and "\r" not in one[2] for one in commands if one)


@given(MESSAGES)
@example([HOSTILE])
def test_junit_is_xml_that_says_what_the_report_says(messages: list[str]) -> None:
    root = ElementTree.fromstring(formats.render(report(messages), "junit"))
    suite = root.find("testsuite")
    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "skipped", "errors")}
    assert counts == {"tests": len(messages) + 2, "failures": len(messages), "skipped": 1, "errors": 0}
    cases = suite.findall("testcase")
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)
    assert [len(case.findall("failure")) for case in cases] == [1] * len(messages) + [0, 0]


@given(MESSAGES)
@example([HOSTILE])
def test_no_line_in_words_is_a_command_and_the_summary_keeps_its_table(messages: list[str]) -> None:
    said = report(messages)
    assert all(runner(f"FAIL rule: {formats.sentence(one)}") is None for one in said.findings)
    lines = formats.summary(said).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(said.findings) and all(len(row.split(" | ")) in (1, 4) for row in rows)
    assert not any(mark in "".join(rows) for mark in ("<", "](", "##["))


def test_a_message_stands_whole_in_each_format() -> None:
    said = report(["3 of 9 rewards are not: 100 %, a: b"])
    (error, *_) = formats.github(said).splitlines()
    assert error == "::error title=reward-formula [05-train%2C a%3Ab]::3 of 9 rewards are not: 100 %25, a: b"
    failure = ElementTree.fromstring(formats.junit(said)).find(".//failure")
    assert failure is not None and failure.attrib["message"] == failure.text == said.findings[0].message
    assert "| reward-formula | **failed** |" in formats.summary(said)


@pytest.mark.parametrize("passed", [True, False])
def test_the_verdict_is_the_notice(passed: bool) -> None:
    said = Report.of([finding("a", "", passed, "m")])
    last = runner(formats.github(said).splitlines()[-1])
    assert last is not None and last[2].startswith("training did" if passed else "1 findings")
