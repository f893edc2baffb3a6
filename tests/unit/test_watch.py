"""A run watched while it goes on: what its folder says, over HTTP on this machine alone, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.runs import ledger
from harness.runs.folder import held, locked
from harness.watch.questions import tail
from harness.watch.server import Page, serving
from harness.watch.view import Watch
from tests.browser import browser
from tests.fixtures import synthetic_run
from vzero.errors import InputError
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.selfplay import plan

STAGES = [stage.name for stage in plan(load_preset("pocket"))]


def begun(run: Path, stage: str, attempt: int = 1) -> None:
    ledger.append(run, {"event": "stage-started", "stage": stage, "attempt": attempt})


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_link_is_not_read(tmp_path: Path, make: Callable[[Path], object]) -> None:
    for name, read in (
        (".lock", lambda: held(tmp_path)),
        ("rows", lambda: list(tail(tmp_path / "rows", "label"))),
    ):
        make(tmp_path / name)
        with pytest.raises(InputError, match=f"{name} is "):
            read()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in the second training of its Questioner, its models hostile; nobody works in it."""
    run = tmp_path_factory.mktemp("run")
    synthetic_run.make(run, stop_after="06-evaluate-1")
    ledger.append(run, {"event": "run-started", "command": "reproduce"})
    begun(run, "07-train-questioner-2")
    folder = run / "stages" / "07-train-questioner-2"
    Progress(folder / "work" / "progress.jsonl").update(3, 32, "steps", {"reward": 0.25})
    metrics = ({"step": n, "generation": 1, "loss": 0.0, "reward": n / 4} for n in (1, 2, 3))
    artefacts.append_jsonl(folder / "metrics.jsonl", *metrics)
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 4, "rew')  # a row on its way
    asked = "<description> d </description><question>{}</question><answer> B </answer>"
    text = synthetic_run.HOSTILE.replace("\ud800", "")
    rows = [
        {
            "prompt": "pocket-0-00003",
            "text": asked.format(text),
            "votes": [*"AAAAAAB", None],
            "intuitive": "B",
        },
        {"prompt": "nowhere", "text": "no question at all", "votes": None, "intuitive": None},
        {"prompt": ["pocket-0-00003"], "text": asked.format("odd"), "votes": [{}], "intuitive": 7},
    ]
    drawn = {
        "generation": 1,
        "index": 0,
        "tokens": 9,
        "finish_reason": "stop",
        "reward": 0.5,
        "advantage": 0.0,
    }
    artefacts.append_jsonl(folder / "rollouts.jsonl", *({**drawn, **row} for row in rows))
    return run


def fetch(
    address: str, path: str = "", method: str = "GET", host: str | None = None
) -> tuple[int, dict, str]:
    """`path` as it is where it begins with a slash, else beside the page."""
    place, slash, key = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(place, timeout=60)
    whole = path if path.startswith("/") else f"{slash}{key}{path}"
    connection.putrequest(method, whole, skip_host=host is not None)
    if host:
        connection.putheader("Host", host)
    connection.endheaders()
    reply = connection.getresponse()
    return reply.status, dict(reply.headers), reply.read().decode()


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with serving(run) as (_, address):
        yield address


@pytest.mark.slow
def test_the_view_says_where_the_run_is(run: Path) -> None:
    with locked(run):
        assert held(run)
        view = Watch(run).look()
    assert not held(run)
    assert view.state == "running" and view.status.startswith("stage 8 of 13, about ")
    assert [one.name for one in view.stages] == STAGES
    assert [one.state for one in view.stages] == ["done"] * 7 + ["running"] + ["waiting"] * 5
    assert view.stages[0].note == "96 images" and view.stages[7].note == "3/32 steps, reward 0.25"
    assert 0.3 < view.share < 0.7
    curves = {curve.label: curve.lines for curve in view.curves}
    assert curves["Questioner: reward"][2] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert len(curves["Questioner: reward"][1]) == 32 and set(curves["Solver: reward"]) == {1}


def test_the_newest_questions_are_those_of_the_training_that_goes_on(run: Path) -> None:
    [one] = Watch(run).look().questions
    assert one.votes == [("A", 6), ("B", 1), ("C", 0), ("D", 0), ("?", 1)]
    assert (one.iteration, one.answer, one.intuitive, one.confidence, one.kept) == (2, "A", "B", 0.75, True)
    assert one.picture is not None and one.picture.startswith("data:image/png;base64,")
    assert "<script>alert(1)</script>" in one.text  # as text: the page escapes, JSON does not
    assert "\x1b" not in one.text and "\\x1b[31m" in one.text and "\u202e" not in one.text


def test_only_the_page_and_its_json_are_served(address: str, run: Path) -> None:
    status, headers, page = fetch(address)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "frame-ancestors" in policy
    assert page.count("<script>") == 1 and "alert" not in page and str(run) not in page
    status, headers, text = fetch(address, "state.json")
    assert status == 200 and headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff" and json.loads(text)["title"].startswith("pocket")
    assert "Access-Control-Allow-Origin" not in headers
    for path in (
        "/",
        "/state.json",
        "/x/state.json",
        f"/{'x' * 22}/",
        "run.json",
        "../run.json",
        "/run.json",
        "/../run.json",
        "//run.json",
        "/stages/00-images/images.jsonl",
        "/%2e%2e/run.json",
    ):
        status, _, text = fetch(address, path)
        assert status == 404 and "preset" not in text, path
    assert fetch(address, "", "HEAD")[2] == ""
    assert fetch(address, "", "POST")[0] == fetch(address, "", "DELETE")[0] == 501


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:1", "", "[::1]"],
)
def test_a_name_that_was_made_to_point_here_is_refused(address: str, host: str) -> None:
    status, _, text = fetch(address, "state.json", host=host or "0")
    assert status == 421 and "pocket" not in text


def test_a_tunnel_to_this_machine_and_no_other_interface(address: str) -> None:
    assert fetch(address, "state.json", host="localhost:9")[0] == 200
    with socket.socket() as other, pytest.raises(OSError):
        other.connect(("127.0.0.2", int(address.split(":")[2].partition("/")[0])))


@pytest.mark.slow
def test_it_outlives_an_interruption_and_ends_with_the_run(tmp_path: Path) -> None:
    synthetic_run.make(tmp_path)
    watch = Watch(tmp_path)
    ledger.append(tmp_path, {"event": "run-started", "command": "reproduce"})
    with locked(tmp_path):
        assert watch.look().state == "running"
        ledger.append(
            tmp_path,
            {"event": "stage-interrupted", "stage": STAGES[9], "seconds": 3.0, "reason": "InterruptedRun"},
        )
    view = watch.look()
    assert view.state == "interrupted" and "the same command resumes it" in view.status
    with locked(tmp_path):
        ledger.append(tmp_path, {"event": "run-resumed", "command": "reproduce"})
        begun(tmp_path, STAGES[9], 2)
        assert watch.look().state == "running"
        (tmp_path / "run.json").rename(tmp_path / "away")  # the run begins anew: the last view stays
        assert watch.look().state == "running"
        (tmp_path / "away").rename(tmp_path / "run.json")
        ledger.append(tmp_path, {"event": "stage-finished", "stage": STAGES[9], "seconds": 3.0})
    ledger.append(
        tmp_path, {"event": "stage-failed", "stage": STAGES[12], "seconds": 1.0, "reason": "no \x1b[31mluck"}
    )
    view = watch.look()
    assert view.state == "failed" and view.status == "failed: no \\x1b[31mluck"
    told = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert told.exit_code == 1 and "failed: no \\x1b[31mluck" in told.output
    (tmp_path / "report.html").write_text("x")
    ledger.append(tmp_path, {"event": "run-finished", "command": "reproduce"})
    view = watch.look()
    assert view.state == "finished" and view.share == 1.0 and view.report == str(tmp_path / "report.html")
    told = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert told.exit_code == 0 and f"vzero-harness open {tmp_path}" in told.output


def test_alarms_are_judged_of_the_questions_there_are(run: Path) -> None:
    view = Watch(run).look()
    assert view.rules == 9 and all("(iteration 1)" in one for one in view.alarms)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        Page(tmp_path).view()
    for command in ("watch", "open"):
        assert CliRunner().invoke(app, [command, str(tmp_path)]).exit_code == 2


def test_a_report_opens_in_the_browser_where_there_is_one_and_its_path_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, opened = tmp_path / "a run", tmp_path / "opened"
    run.mkdir()
    (run / "report.html").write_text("x")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > "{opened}"\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    said = CliRunner().invoke(app, ["open", str(run)])
    assert said.exit_code == 0 and said.output.strip() == str(run / "report.html") and not opened.exists()
    monkeypatch.setenv("BROWSER", str(browser))
    assert CliRunner().invoke(app, ["open", str(run)]).exit_code == 0
    assert opened.read_text() == (run / "report.html").as_uri()


@pytest.mark.slow
def test_the_live_page_in_a_real_browser_from_a_running_stage_to_the_end(run: Path, tmp_path: Path) -> None:
    """The page itself fetches what comes; nothing of what models wrote is markup in it."""
    own = tmp_path / "run"
    shutil.copytree(run, own)
    status = "document.getElementById('status').textContent"
    with browser() as page:
        with serving(own) as (_, address):
            with locked(own):
                page.open(address)
                assert page.wait("document.querySelector('#stages .running')")
                assert STAGES[7] in page.run("document.querySelector('#stages .running').textContent")
                assert page.run("document.querySelectorAll('#stages tr').length") == len(STAGES)
                assert page.run(status).startswith("stage 8 of 13, about ")
                assert page.run("document.querySelectorAll('#curves svg polyline').length") >= 3
                shown = page.run("document.querySelector('#questions .model').textContent")
                assert "<script>alert(1)</script>" in shown
                assert page.run("document.querySelectorAll('#questions :is(script, [onerror])').length") == 0
                assert page.run("document.querySelector('#questions img').naturalWidth") > 0
                for width in (390, 768, 1400):
                    for dark in (False, True):
                        page.show(width, dark=dark)
                        assert (page.overflow(), page.faint()) == (0, []), (width, dark)
                progress = Progress(own / "stages" / STAGES[7] / "work" / "progress.jsonl")
                progress.update(5, 32, "steps", {"reward": 0.5})
                assert page.wait("document.querySelector('#stages .running').textContent.includes('5/32')")
            assert page.wait(f"{status}.includes('interrupted')")
            (own / "report.html").write_text("x")
            ledger.append(own, {"event": "run-finished", "command": "reproduce"})
            assert page.wait(f"{status}.includes('report.html')") and "finished" in page.run("document.title")
        assert page.problems == []
