"""What reaches a terminal, a log or a CSV: no control sequence of somebody else's making. A stream that takes
nothing more is no failure of the command."""

from __future__ import annotations

import csv as reader
import errno
import io
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
import unicodedata
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table as RichTable
from rich.text import Text

from harness import cli
from harness.commands import options
from harness.tables import csv
from harness.tables.table import Cell, Table, texts
from vzero.errors import InputError, InterruptedRun, VZeroError, escaped
from vzero.presets import read_toml
from vzero.presets.written import as_toml
from vzero.runtime import stage

HOSTILE = "\x1b]0;title\x07\x1b[31m\u202eevil\u2066\x9b2J\u2028\r\ud800"
PIECES = "a=+-@\x1b\x9b\x07\r\t\n\u202e\u2066\u2028\ud800\uff1d "
TEXTS = st.text() | st.text(st.sampled_from(PIECES)) | st.just(HOSTILE)


def dangerous(text: str) -> set[str]:
    """Characters that move a cursor, turn the direction of reading, or have no form."""
    return {c for c in text if c != "\n" and (unicodedata.category(c)[0] == "C" or c in "\u2028\u2029")}


@given(TEXTS)
def test_whatever_is_escaped_is_harmless_and_the_rest_is_as_it_was(text: str) -> None:
    assert not dangerous(escaped(text)) and escaped(escaped(text)) == escaped(text)
    assert dangerous(text) or escaped(text) == text


@settings(deadline=None, max_examples=50)
@given(TEXTS)
def test_nothing_reaches_the_console(text: str) -> None:
    console = options.console(json=False)
    console.file = io.StringIO()
    table = RichTable("a")
    table.add_column(Text(text))
    table.add_row(Text(text), Text(text))
    for one in (text, Text(text), table):
        console.print(one, markup=False, highlight=False, soft_wrap=isinstance(one, str))
    assert not dangerous(console.file.getvalue())


@given(TEXTS)
def test_nothing_reaches_a_csv_and_no_cell_is_a_formula(text: str) -> None:
    rendered = csv.render(Table("t", texts(text, "b"), [[(Cell(text, value=text), Cell("1", value=1))]], []))
    assert not dangerous(rendered.replace("\r\n", ""))
    for row in reader.reader(io.StringIO(rendered, newline="")):
        for value in row:
            assert not value.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


@given(TEXTS)
def test_nothing_reaches_stdout_and_json_stays_json(text: str) -> None:
    with redirect_stdout(io.StringIO()) as stream:
        options.out(text)
        options.out_json({"a": text})
    said = stream.getvalue()
    assert not dangerous(said) and json.loads(said[said.rindex("{\n") :]) == {"a": text}


def test_commands_print_in_no_other_way() -> None:
    places = sorted(Path(options.__file__).parent.glob("*.py"))
    assert len(places) > 15
    printing = [one.name for one in places if re.search(r"(?<![\w.])print\(", one.read_text())]
    assert printing == ["options.py"]


@given(TEXTS.filter(lambda text: not re.search("[\ud800-\udfff]", text)))
def test_a_preset_is_shown_whole_and_read_back(text: str) -> None:
    shown = as_toml({"a": text, "b": {"c": [text]}})
    assert not dangerous(shown) and tomllib.loads(shown) == {"a": text, "b": {"c": [text]}}


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "1" * 5000, "a = 1e", "\ud800"])
def test_a_preset_that_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match="is not valid TOML"):
        read_toml(text, "It")


@given(TEXTS)
def test_nothing_reaches_stderr_or_a_log(text: str) -> None:
    for say in (lambda: cli.explain(VZeroError(text)), lambda: stage._failed(VZeroError(text))):
        before, sys.stderr = sys.stderr, io.StringIO()
        try:
            assert say() == 1
            assert not dangerous(sys.stderr.getvalue()) and sys.stderr.getvalue().count("\n") == 1
        finally:
            sys.stderr = before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_an_interruption_in_a_sentence(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.explain(OSError(number, os.strerror(number), "/data/run")) == 75
    said = capsys.readouterr().err
    assert "/data/run" in said and "run the same command again" in said and said.count("\n") == 1


def test_a_terminal_that_is_gone_is_no_failure() -> None:
    master, slave = pty.openpty()
    console = options.console(json=False)
    console.file = open(slave, "w")  # noqa: SIM115
    console.print("seen")
    os.close(master)
    for _ in range(3):
        console.print("not seen")
    console.file.close()


def test_a_file_that_takes_no_more_is_one() -> None:
    console = options.console(json=False)
    with open("/dev/full", "w") as console.file:
        with pytest.raises(OSError, match="No space"):
            console.print("lost")
        os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())


def test_an_interruption_with_debug_resumes_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise InterruptedRun("Stopped by Ctrl-C; run the same command again to resume.")

    monkeypatch.setattr(cli.TyperGroup, "main", stop)
    monkeypatch.setenv("VZERO_DEBUG", "1")
    with pytest.raises(SystemExit) as stopped:
        cli.app(["doctor"])
    said = capsys.readouterr().err
    assert stopped.value.code == 75 and "Traceback" in said and said.endswith("again to resume.\n")
    monkeypatch.setattr(stage, "run_stage", stop)
    assert stage.main({}, ["run", "00-images"]) == 75


PROGRAM = """
from harness import cli
from harness.commands import options
@cli.app.command()
def show():
    options.console(False).print('caf\u00e9 \u2192 \u4e2d')
    print('\u2713')
cli.app(['show'])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "encoding"), [(">&-", "latin-1"), (">&- 2>&-", "ascii"), ("| cat", "ascii")])
def test_a_stream_that_is_closed_or_knows_few_characters_is_no_failure(
    tmp_path: Path, how: str, encoding: str
) -> None:
    (tmp_path / "program").write_text(PROGRAM)
    command = f"set -o pipefail; {sys.executable} {tmp_path / 'program'} {how}"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout == (b"caf\\xe9 \\u2192 \\u4e2d\n\\u2713\n" if "cat" in how else b"")
