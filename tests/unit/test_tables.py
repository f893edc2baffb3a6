"""One table, five views: each fits its medium, none can be broken by what stands in a cell."""

from __future__ import annotations

import csv as reader
import io
import re
from html.parser import HTMLParser

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.tables import csv, html, latex, markdown, terminal, words
from harness.tables.table import Cell, Table, keys, numbers, texts
from harness.tables.text import one_line, visible

HOSTILE = "=x|<b>[red]&\\`*_$%{}\x1b[31m\u202e\n"


def table(name: str = "suite") -> Table:
    def row(suite: str, measure: str) -> tuple[Cell, ...]:
        levels = (Cell.percent(0.612), Cell.percent(0.7, "n 300", tone="good"))
        return (
            Cell.of(suite),
            Cell.of(measure),
            *levels,
            Cell.gain(0.07, 0.03, 0.11, "good"),
            Cell.missing("no run"),
        )

    groups = [[row(suite, measure) for measure in ("greedy", "T = 1")] for suite in (name, "average")]
    columns = (*keys("suite", "measure"), *numbers("base", "S2", unit="%"), *numbers("S2 over base", "S3"))
    return Table("Held-out accuracy", columns, groups, ["A note."], ["First", "Second"])


def shown(one: Table, width: int) -> str:
    stream = io.StringIO()
    terminal.show(one, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_terminal_shows_every_number_within_its_width(width: int) -> None:
    text = shown(table(), width)
    assert max(cell_len(line) for line in text.split("\n")) <= width
    for part in ("61.2", "70.0", "n 300", "+7.0", "+3.0 to +11.0", "no run", "T = 1", "A note.", "Second"):
        assert part in text, part
    assert len(re.findall("─{9,}", text)) == (1 if width >= 80 else len(re.findall("─{9,}", text)))


def test_terminal_reads_no_markup_and_no_control_character() -> None:
    text = shown(table(HOSTILE), 200)
    assert "[red]" in text and "\x1b" not in text and "\u202e" not in text and "\\x1b[31m" in text


def test_sentences_wrap_and_numbers_do_not() -> None:
    one = Table(
        "Claims",
        (*texts("claim", "here"), *numbers("n")),
        [[(Cell.of("words " * 40), Cell.of("more " * 30), Cell.number(123456))]],
    )
    text = shown(one, 60)
    assert max(map(len, text.split("\n"))) <= 60 and "123,456" in text and text.count("words") == 40


def test_a_key_stands_once_in_a_group_and_always_in_a_file() -> None:
    text = markdown.render(table())
    assert len(re.findall(r"^\| suite \|", text, re.M)) == 2, "the heading and the first row"
    lines = list(reader.reader(io.StringIO(csv.render(table()))))
    assert [line[0] for line in lines] == ["suite", "suite", "suite", "average", "average"]
    assert lines[1][2:] == ["0.612", "0.7", "0.07", ""], "values, not words"


def test_texts_numbers_and_nothing_stand_in_a_row_as_they_are() -> None:
    one = Table("t", (*keys("suite"), *numbers("items", "gain", "mean")), [[("a", 1234, None, -0.5)]])
    assert markdown.render(one).endswith("| a | 1,234 | \u2013 | \u22120.500 |")
    assert csv.render(one).endswith("\r\na,1234,,-0.5\r\n")


def test_a_formula_cannot_start_a_cell() -> None:
    for start in ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"):
        assert str(csv.guarded(f"{start}1")).startswith("'") and str(csv.guarded(f"  {start}1")).startswith(
            "'"
        )
    assert csv.guarded(-0.5) == -0.5 and csv.guarded("plain") == "plain"
    assert "\n'=x|" in csv.render(table(HOSTILE)).replace('"', "").replace("\r", "")


def test_markdown_keeps_its_columns() -> None:
    rows = [line for line in markdown.render(table(HOSTILE)).split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {7}
    assert not re.search(r"(?<!\\)[*_`\[]red", rows[3]) and "<b>" not in rows[3]


def test_latex_is_ascii_and_holds_no_command_of_a_cell() -> None:
    text = latex.render(table(HOSTILE))
    assert text.isascii() and r"\textbackslash{}" in text and r"\&" in text and r"\$\%\{\}" in text
    assert text.count(" & ") == 5 * 5 and text.count("{") == text.count("}") + text.count(r"\{") - text.count(
        r"\}"
    )


def test_html_escapes_and_aligns() -> None:
    class Page(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []

        def handle_starttag(self, tag: str, attributes: object) -> None:
            self.tags.append(tag)

    page = Page()
    page.feed(str(html.render(table(HOSTILE))))
    assert "b" not in page.tags and page.tags.count("td") == 4 * 6 and page.tags.count("tbody") == 2
    assert page.tags.count("small") == 4 * 3, "every cell of a column in which one has a second part"


def test_a_table_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="one cell per column"):
        Table("t", keys("a", "b"), [[(Cell.of("x"),)]])
    with pytest.raises(ValueError, match="one heading per group"):
        Table("t", keys("a"), [[(Cell.of("x"),)]], headings=("x", "y"))


def test_numbers_are_written_the_same_way_everywhere() -> None:
    shown = {
        0.189: "+18.9",
        -0.0231: "\u22122.3",
        0.0004: "+0.04",
        -0.0004: "\u22120.04",
        0.00004: "0.0",
        -0.00004: "0.0",
        None: "\u2013",
    }
    assert {x: words.points(x) for x in shown} == shown
    assert [words.percent(x) for x in (0.6124, 0, 1, None)] == ["61.2", "0.0", "100.0", "\u2013"]
    assert [words.p_value(x) for x in (0.0004, 0.0412, 1.0, None)] == ["<.001", ".041", "1.000", "\u2013"]
    assert [words.significant(x) for x in (0.012345, 12.345, 1234.5)] == ["0.0123", "12.3", "1,234"]
    assert [words.amount(x) for x in (12, 45_600, 3.09e6, 7.62e9)] == ["12", "45.6 k", "3.09 M", "7.62 B"]
    assert [words.size(x) for x in (12e6, 1.54e9, 80e9)] == ["12 MB", "1.5 GB", "80 GB"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (48.2, "48 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (75, "1 min 15 s"),
        (185, "3 min 05 s"),
        (3599, "59 min 59 s"),
        (5000, "1 h 23 min"),
        (7620, "2 h 07 min"),
        (None, "\u2013"),
    ],
)
def test_a_duration_is_written_in_one_way(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text
    assert Cell.seconds(seconds).text == text


def test_hostile_text_becomes_visible_and_bounded() -> None:
    assert visible("a\x1b[31m\u202eb\ud800\x00\n") == "a\\x1b[31m\\u202eb\\ud800\\x00\n"
    assert visible("x" * 1000, 10) == "xxxxxxxxxx \u2026 (+990 characters)"
    assert one_line(" a \n b\t") == "a b\\t"
