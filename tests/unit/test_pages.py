"""README and docs: links that lead somewhere, numbers that were measured, words that a reader knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
NUMBER = r"[+\u2212]?\d+\.\d"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


def test_every_page_is_reached_from_the_first() -> None:
    """By links of README and of the pages it leads to."""
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page not in seen:
            seen.add(page)
            targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
            queue += [(page.parent / one).resolve() for one in targets if "://" not in one]
    assert set(DOCS) <= seen


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_opens_with_a_command(page: Path) -> None:
    title, _, rest = page.read_text(encoding="utf-8").partition("\n\n")
    assert (
        title.startswith("# ")
        and rest.startswith("```")
        and re.search(r"^(vzero-harness|make|docker)", rest, re.M)
    )
    assert rest.split("```")[2].lstrip().startswith("This page answers"), "what the page answers comes next"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS], ids=lambda page: page.name
)
def test_the_words_are_those_of_the_field(page: Path) -> None:
    odd = (
        r"\b(told from|tell \w+ from zero|mends?|leash|rivals?|voice|clipped off|cut off|alarm rings|hole)\b"
    )
    text = page.read_text(encoding="utf-8")
    assert not re.findall(odd, text)
    things = "question|image|picture|stage|iteration|run|process|token|seed|group|layer|window|machine"
    assert not re.findall(
        rf"\b(?:\d[\d,.]*|one|two|three|four|ten|once) (?:[a-z]+ )?an? (?:{things})\b", text
    ), "one question per image"


def test_the_readme_answers_in_one_screen_and_defines_its_terms_first() -> None:
    start, glossary, found, rest = re.split(r"(?m)^## .*$", README)[1:5]
    assert len(re.findall(r"(?m)^make ", start)) == 3 and {"make reproduce", "make test"} <= {
        " ".join(line.split()[:2]) for line in start.splitlines()
    }
    terms = re.findall(r"(?m)^\| ([^|]+) \|", glossary)[1:]
    wanted = {"c", "T = 1", "maj@10", "pass@10", "kept", "Questioner", "Solver", "iteration"}
    assert set(terms) == wanted and len(terms) == 8
    assert len(re.findall(r"(?m)^\| (?!arm|---)", found)) <= 5 and rest
    assert "nothing has been run on a GPU yet" in README and len(README.splitlines()) <= 90


def test_the_numbers_of_the_readme_are_those_of_the_grid() -> None:
    page = (ROOT / "results" / "pocket" / "README.md").read_text(encoding="utf-8")
    grid = {frozenset(re.findall(NUMBER, row)) for row in re.findall(r"(?m)^\| `.*$", page)}
    rows = [row for row in README.splitlines() if re.match(r"\| [^|]+\| \d\d\.\d \|", row)]
    assert len(rows) == 5
    for row in rows:
        numbers = set(re.findall(NUMBER, row))
        assert len(numbers) >= 4 and any(numbers <= one for one in grid), row
    for number in ("+3.4 (+0.1 to +6.6)", "70.5", "all 74 gains"):
        assert number in README and number in page
