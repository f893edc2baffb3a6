"""A stand-in for the hub: a real HTTP server with as much of its interface as an upload uses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.fake_server import listening, send

KINDS = {"models": "", "datasets": "datasets/"}  # in paths of the interface, and before a name in addresses


@dataclass
class Hub:
    """Its state. `repositories` by address ("datasets/org/name"): private, and files by name. `refuse` is the
    status of every commit, where there is one."""

    token: str
    url: str = ""
    refuse: int | None = None
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by hash
    asked: list[str] = field(default_factory=list)

    def add(self, address: str, private: bool, **files: bytes) -> None:
        self.private[address] = private
        self.files[address] = {".gitattributes": b"", **files}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        path = path.split("?")[0]
        self.asked.append(f"{method} {path}")
        if found := re.fullmatch(r"/store/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.stored[found[1]] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return 200, {
                "transfer": "basic",
                "objects": [self._place(one) for one in json.loads(body)["objects"]],
            }
        found = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(preupload|commit)/main)?", path)
        assert found, path
        address = KINDS[found[1]] + found[2]
        if address not in self.files:
            return 404, {"error": "Repository not found"}
        if found[3] == "preupload":
            large = (".safetensors", ".parquet")
            modes = {
                one["path"]: "lfs" if one["path"].endswith(large) else "regular"
                for one in json.loads(body)["files"]
            }
            return 200, {
                "files": [{"path": k, "uploadMode": v, "shouldIgnore": False} for k, v in modes.items()]
            }
        if found[3] == "commit":
            return self._commit(address, [json.loads(line) for line in body.splitlines()])
        siblings = [self._described(name, data) for name, data in self.files[address].items()]
        return 200, {"id": found[2], "private": self.private[address], "siblings": siblings, "sha": "0" * 40}

    def _described(self, name: str, data: bytes) -> dict[str, Any]:
        """Git's own hash, of a large file that of its pointer, which nobody needs."""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in self.stored:
            lfs = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            return {"rfilename": name, "blobId": "0" * 40, "size": len(data), "lfs": lfs}
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"rfilename": name, "blobId": blob, "size": len(data)}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        prefix = KINDS[f"{wanted.get('type') or 'model'}s"]
        address = f"{prefix}{wanted['organization']}/{wanted['name']}"
        there = address in self.files
        if not there:
            self.add(address, wanted["visibility"] == "private")
        return 409 if there else 200, {"url": f"{self.url}/{address}"}

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        upload = {"upload": {"href": f"{self.url}/store/{one['oid']}"}}
        return {"oid": one["oid"], "size": one["size"], "actions": upload}

    def _commit(self, address: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        if self.refuse is not None:
            return self.refuse, {"error": "no"}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[address][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[address][value["path"]] = self.stored[value["oid"]]
        return 200, {"commitUrl": f"{self.url}/{address}/commit/1", "commitOid": "1" * 40}


@contextmanager
def hub(monkeypatch: pytest.MonkeyPatch, token: str) -> Iterator[Hub]:
    """One that listens, to which huggingface_hub talks, with `token` in the environment."""
    from huggingface_hub import constants

    state = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known = self.headers.get("Authorization") == f"Bearer {token}" or self.path.startswith("/store/")
            status, value = state.answer(self.command, self.path, body) if known else (401, {"error": "who?"})
            send(self, value, status)

        do_GET = do_POST = do_PUT = reply

    with listening(Handler) as state.url:
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        monkeypatch.setattr(
            constants, "HF_HUB_DISABLE_XET", True
        )  # files by HTTP, as where hf_xet is missing
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield state
