"""The optional extractor model, against a small server on loopback: well, away, dying midway, talking
rubbish."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.scoring import endpoint
from harness.scoring.endpoint import TOKEN, ExtractorFailed, connect
from harness.scoring.items import LETTERS, Item
from tests import fake_server
from vzero.errors import InputError
from vzero.runtime import http_client

ITEM = Item("v1_0", "Which one?", ("left", "right"), LETTERS[:2], ("B",), "choice")
COUNT = Item("7", "How many?", (), (), ("4",), "integer")
Reply = Callable[
    [int, dict[str, Any]], tuple[int, bytes]
]  # (number of the request, its body) -> status, body


def completion(text: str) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "PAUSES", (0.0, 0.0))


@contextmanager
def server(reply: Reply) -> Iterator[tuple[str, list[dict[str, Any]], list[str]]]:
    """(address, bodies received, authorisation headers received) of a server that answers by `reply`."""
    bodies: list[dict[str, Any]] = []
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append(body)
            tokens.append(self.headers.get("Authorization", ""))
            status, data = reply(len(bodies), body)
            if status == 0:
                self.connection.close()
                return
            self.send_response(status)
            if status == 302:
                self.send_header("Location", data.decode())
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", bodies, tokens
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def well(number: int, body: dict[str, Any]) -> tuple[int, bytes]:
    """Reads the known case, then answers A to choices and 4 to counts."""
    asked = body["messages"][0]["content"]
    return completion("B" if "banana" in asked else "4" if "How many" in asked else "A")


def test_the_model_is_asked_and_its_extractions_are_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    with server(well) as (url, bodies, _):
        read = connect(url, "judge", kept)
        first = read(ITEM, "I believe it is on the left.")
        assert (first.found, first.how) == (("A",), "model")
        assert read(COUNT, "Four of them.").found == ("4",)
        assert not read(ITEM, " \n").found  # nothing to ask about
        assert len(bodies) == 3 and all(
            body["temperature"] == 0 and body["model"] == "judge" for body in bodies
        )
        assert (
            "I believe it is on the left." in bodies[1]["messages"][0]["content"]
            and "(B) right" in bodies[1]["messages"][0]["content"]
        )
        again = connect(url, "judge", kept)
        assert again(ITEM, "I believe it is on the left.") == first
        assert len(bodies) == 4  # the known case alone
        again(ITEM, "Another response.")
        connect(url, "other", kept)(ITEM, "Another response.")
        assert len(bodies) == 7  # another response, another model's probe, another model
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(row["id"], row["model"], row["reply"]) for row in rows] == [
        ("v1_0", "judge", "A"),
        ("7", "judge", "4"),
        ("v1_0", "judge", "A"),
        ("v1_0", "other", "A"),
    ]


def test_none_is_an_answer(tmp_path: Path) -> None:
    with server(lambda number, body: completion("B" if number == 1 else "NONE.")) as (url, _, _):
        found = connect(url, "judge", tmp_path / "kept")(ITEM, "I cannot see it.")
        assert not found.found and found.how == "model: none"


def test_a_server_that_is_away_is_an_error(tmp_path: Path) -> None:
    with server(well) as (url, _, _):
        pass
    with pytest.raises(ExtractorFailed, match="does not answer"):
        connect(url, "judge", tmp_path / "kept")


def test_a_server_that_dies_midway_loses_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with server(lambda number, body: well(number, body) if number < 4 else (0, b"")) as (url, _, _):
        read = connect(url, "judge", kept)
        read(ITEM, "one")
        read(ITEM, "two")
        with pytest.raises(ExtractorFailed, match="run the same command again"):
            read(ITEM, "three")
    with server(well) as (url, bodies, _):
        read = connect(url, "judge", kept)
        assert [read(ITEM, text).found for text in ("one", "two", "three")] == [("A",)] * 3
        assert len(bodies) == 2  # the known case and the third


WHOLE = completion("B")[1]


def test_what_passes_is_asked_again() -> None:
    """A connection that drops, a server that is busy, a reply that is cut though its framing is whole."""
    dropped, cut = (0, b""), [(200, WHOLE[:size]) for size in (0, 1, 25, len(WHOLE) - 1)]
    tries = [(dropped, cut[0]), (cut[1], cut[2]), (cut[3], (503, b"later")), ((429, b""), dropped)]
    replies = [one for two in tries for one in (*two, (200, WHOLE))]
    with server(lambda number, body: replies[number - 1]) as (url, bodies, _):
        for _ in tries:
            assert endpoint.chat(http_client.Endpoint(url, "judge"), {}) == "B"
        assert len(bodies) == len(replies)


def test_what_does_not_pass_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda number, body: (200, WHOLE[:-1])) as (url, bodies, _):
        with pytest.raises(ExtractorFailed, match=r"middle of its JSON.*run the same command again"):
            endpoint.chat(http_client.Endpoint(url, "judge"), {})
        assert len(bodies) == 3
        monkeypatch.setattr(http_client, "PAUSES", (1e6,))  # beyond the deadline: nobody waits for that
        with pytest.raises(ExtractorFailed, match="middle of its JSON"):
            endpoint.chat(http_client.Endpoint(url, "judge"), {})
        assert len(bodies) == 4


def test_a_torn_last_line_is_asked_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with server(well) as (url, bodies, _):
        read = connect(url, "judge", kept)
        read(ITEM, "one")
        read(ITEM, "two")
        kept.write_bytes(kept.read_bytes()[:-9])
        again = connect(url, "judge", kept)
        assert [again(ITEM, text).found for text in ("one", "two")] == [("A",)] * 2
        assert len(bodies) == 5 and len(kept.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (lambda number, body: (500, b"boom"), "HTTP 500: boom"),
        (lambda number, body: (401, b""), "status 401"),
        (lambda number, body: (302, b"http://127.0.0.1:9/"), "status 302"),
        (lambda number, body: (200, b"<html>"), "no chat completion"),
        (lambda number, body: (200, b"[" * 50_000), "no chat completion"),
        (lambda number, body: (200, b'{"choices": []}'), "no chat completion"),
        (lambda number, body: (200, b'{"choices": [{"message": {"content": null}}]}'), "no chat completion"),
        (lambda number, body: completion(""), "no chat completion"),
        (lambda number, body: (200, b" " * (2 << 20)), "more than"),
        (lambda number, body: (200, b'{"choices": ' + b"9" * 5000 + b"}"), "no chat completion"),
        (lambda number, body: completion("A"), "did not read the answer B"),
        (lambda number, body: completion("As an AI I like fruit."), "did not read the answer B"),
    ],
)
def test_an_unhealthy_server_is_refused_before_anything_is_scored(
    tmp_path: Path, reply: Reply, sentence: str
) -> None:
    with server(reply) as (url, _, _), pytest.raises(ExtractorFailed, match=sentence):
        connect(url, "judge", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_reply_that_is_no_extraction_is_an_error_and_is_not_kept(tmp_path: Path) -> None:
    with server(
        lambda number, body: completion("B" if number == 1 else "what a lovely \x1b[31m picture")
    ) as (url, _, _):
        read = connect(url, "judge", tmp_path / "kept")
        with pytest.raises(ExtractorFailed, match="neither an answer nor NONE"):
            read(ITEM, "It is left.")
    assert not (tmp_path / "kept").exists()


def test_the_token_is_sent_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "very-secret")
    with server(lambda number, body: well(number, body) if number < 3 else (403, b"no")) as (url, _, tokens):
        read = connect(url, "judge", tmp_path / "kept")
        read(ITEM, "one")
        with pytest.raises(ExtractorFailed) as failed:
            read(ITEM, "two")
    assert set(tokens) == {"Bearer very-secret"}
    assert "very-secret" not in str(failed.value) + (tmp_path / "kept").read_text()


def test_a_token_that_the_server_repeats_is_written_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "very-secret")
    escaped = "".join(f"\\u{ord(c):04x}" for c in "very-secret").encode()
    echo = b'{"choices": [{"message": {"content": "A %s"}}]}' % escaped
    echoing = lambda n, body: well(n, body) if n == 1 else (200, echo)  # noqa: E731
    with server(echoing) as (url, _, _), suppress(ExtractorFailed):
        connect(url, "judge", tmp_path / "kept")(ITEM, "one")
    with (
        server(lambda n, body: (500, b"who is very-secret?")) as (url, _, _),
        pytest.raises(ExtractorFailed, match="who is") as failed,
    ):
        connect(url, "judge", tmp_path / "other")
    kept = (tmp_path / "kept").read_text() if (tmp_path / "kept").exists() else ""
    assert "secret" not in str(failed.value) + kept


@pytest.mark.parametrize("part", ["headers", "body"])
def test_one_deadline_holds_for_a_reply_that_trickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A byte now and then, and no single read waits for long; it would end with the fifth of a second's
    deadline 50 times over."""
    monkeypatch.setattr(endpoint, "SECONDS", 0.2)

    class Trickles(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if part == "body" else b""))
                for _ in range(200):
                    self.wfile.write(b"X: 1\r\n")
                    self.wfile.flush()
                    time.sleep(0.05)

        def log_message(self, *_: object) -> None: ...

    late = r"no whole reply within 0\.2 s"
    with fake_server.listening(Trickles) as url, pytest.raises(ExtractorFailed, match=late):
        connect(f"{url}/v1", "judge", tmp_path / "kept")


def test_a_compressed_reply_is_refused_and_never_unpacked(tmp_path: Path) -> None:
    class Bomb(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Accept-Encoding"] == "identity"
            data = gzip.compress(b" " * 50_000_000)
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with fake_server.listening(Bomb) as url, pytest.raises(ExtractorFailed, match="a compressed reply"):
        connect(f"{url}/v1", "judge", tmp_path / "kept")


def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\begin{document}\nText.\n")
    with server(well) as (url, _, _), pytest.raises(InputError, match="does not hold extractions"):
        connect(url, "judge", tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text().startswith("\\begin")


def test_the_command_uses_it_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "question": "Select from A-D",
        "answer": "A",
        "skill": ["spatial"],
        "imagename": "v1_0.png",
        "broad_capability": ["diagram"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps({"v1_0": row, "v1_1": row}))
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"id": f"v1_{n}", "response": "The left one."}) + "\n" for n in range(2))
    )
    words = [
        "score",
        str(answers),
        "--suite",
        "logicvista",
        "--data",
        str(tmp_path),
        "--json",
        "--extractor-model",
        "judge",
    ]
    for reply, code in ((lambda number, body: well(number, body) if number < 3 else (0, b""), 1), (well, 0)):
        with server(reply) as (url, bodies, _), pytest.raises(SystemExit) as stop:
            cli.app([*words, "--extractor-url", url], prog_name="vzero-harness")
        assert stop.value.code == code
        out, err = capsys.readouterr()
        assert (out == "") == (code == 1) and ("does not answer" in err) == (code == 1)
    found = json.loads(out)
    assert (found["n"], found["verified"], [item["how"] for item in found["items"]]) == (
        2,
        1.0,
        ["model", "model"],
    )
    assert len((tmp_path / "answers.jsonl.extractions.jsonl").read_text().splitlines()) == 2
    assert len(bodies) == 2  # the known case and the answer the first server owed
