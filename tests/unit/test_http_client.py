"""What the one HTTP client refuses of a hub; of model servers see test_served_engine.py and
faults/test_extractor_endpoint.py."""

from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evals import catalogue
from harness.evals.fetch import fetch
from tests import fake_server
from vzero.errors import InputError
from vzero.runtime import http_client


@pytest.mark.parametrize("kind", ["compressed", "endless", "slow"])
def test_what_a_hub_says_is_bounded_in_bytes_and_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from huggingface_hub import HfApi

    sent: list[int] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Accept-Encoding"] == "identity"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if kind == "compressed":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            with suppress(OSError):
                for _ in range(400):
                    self.wfile.write(gzip.compress(b" " * 1000) if kind == "compressed" else b" " * 500_000)
                    sent.append(1)
                    time.sleep(0.05 if kind == "slow" else 0)

        def log_message(self, *words: object) -> None: ...

    monkeypatch.setattr(http_client, "_HUB_SECONDS", 0.3 if kind == "slow" else 60)
    with fake_server.listening(Hub) as url:
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=url))
        with pytest.raises(InputError, match="hub cannot be reached"):
            fetch(catalogue.find("logicvista"), tmp_path, None, None, print)
    assert len(sent) < 390


VALUES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)


@settings(max_examples=40)
@given(
    st.dictionaries(st.text(max_size=3), VALUES | st.lists(VALUES, max_size=2), max_size=3),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
)
def test_a_reply_is_torn_at_any_of_its_bytes(value: dict[str, object], escape: bool, where: float) -> None:
    whole = json.dumps(value, ensure_ascii=escape).encode("utf-8", "replace")
    assert not http_client.torn(whole + b"\n")
    assert http_client.torn(whole[: int(where * len(whole))])


@pytest.mark.parametrize("data", [b"<html>", b"{]", b"[" * 50_000, b"\xff", b'{"a": 1}}', b"9" * 5000])
def test_what_no_json_begins_with_is_not_torn(data: bytes) -> None:
    assert not http_client.torn(data)
