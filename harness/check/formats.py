"""A report of `check` for machines: JSON, annotations of GitHub Actions, JUnit XML, a Markdown summary.

Messages may quote what a model wrote, which is hostile text: nothing in it may become a command of the CI
that reads our output, or markup.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from harness.check.finding import Finding, Report
from harness.tables.markdown import escape
from harness.tables.text import one_line

Format = Literal["text", "json", "github", "junit"]
LONGEST = 2000  # characters of a message
_WORDS: dict[bool | None, str] = {True: "passed", False: "**failed**", None: "not checked"}


def sentence(one: Finding) -> str:
    """A finding's message on one line. The runner of GitHub Actions takes "##[" for a command wherever it
    stands in a line of a log."""
    return one_line(one.message, LONGEST).replace("##[", "## [")


def verdict(report: Report) -> str:
    """The last line of a report."""
    said = "training did what it says" if report.passed else f"{report.failed} findings against this run"
    return f"{said}; {report.not_checked} rules had nothing to look at"


def render(report: Report, name: Literal["json", "github", "junit"]) -> str:
    """The report as `name` wants it, without the last line break."""
    if name == "json":
        return json.dumps(report.model_dump(mode="json"), indent=2)
    return github(report) if name == "github" else junit(report)


def github(report: Report) -> str:
    """One annotation per finding that failed, then one with the verdict; each is one line."""
    lines = [
        f"::error title={_property(_place(one))}::{_data(sentence(one))}"
        for one in report.findings
        if one.passed is False
    ]
    return "\n".join([*lines, f"::notice title=vzero-harness check::{_data(verdict(report))}"])


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def junit(report: Report) -> str:
    """One test case per finding: its class is the stage, its name the rule (numbered where it repeats)."""
    suite = ElementTree.Element("testsuite", {"name": "vzero-harness check", **_counts(report)})
    seen: Counter[str] = Counter()
    for one in report.findings:
        seen[_place(one)] += 1
        number = seen[_place(one)]
        name = one.rule if number == 1 else f"{one.rule} ({number})"
        case = ElementTree.SubElement(suite, "testcase", {"classname": one.stage or "run", "name": name})
        if one.passed is True:
            ElementTree.SubElement(case, "system-out").text = sentence(one)
        elif one.passed is False:
            failure = ElementTree.SubElement(case, "failure", {"message": sentence(one), "type": one.rule})
            failure.text = sentence(one)
        else:
            ElementTree.SubElement(case, "skipped", {"message": sentence(one)})
    root = ElementTree.Element("testsuites", {"name": "vzero-harness", **_counts(report)})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}'


def _counts(report: Report) -> dict[str, str]:
    counts = {"tests": len(report.findings), "failures": report.failed, "errors": 0}
    return {name: str(count) for name, count in (counts | {"skipped": report.not_checked}).items()}


def _place(one: Finding) -> str:
    return f"{one.rule} [{one.stage}]" if one.stage else one.rule


def summary(report: Report) -> str:
    """Markdown for the page of a CI run: what failed first. Messages are escaped whole, links too."""
    order = (False, None, True)
    rows = [
        f"| {one.rule} | {_WORDS[one.passed]} | {one.stage or 'run'} | {escape(sentence(one), LONGEST)} |"
        for one in sorted(report.findings, key=lambda one: order.index(one.passed))
    ]
    head = ["## vzero-harness check", "", "| rule | result | stage | what was found |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{verdict(report)}."])


def append_summary(report: Report, path: Path) -> None:
    """Add the summary to a file that other steps may have written to."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{summary(report)}\n")
