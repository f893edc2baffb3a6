"""A model behind an OpenAI-compatible server that reads the answers instead of the rules; optional.

Each extraction is kept as a line, synced as it comes: the same command again asks only for the rest. A
failure is an error, never a verdict. The token, if the server wants one, is written nowhere.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.scoring.items import LETTERS, Item, Reading
from harness.scoring.reading import read
from harness.scoring.score import Reader
from vzero.errors import InputError, VZeroError
from vzero.runtime import artefacts

if TYPE_CHECKING:
    from vzero.runtime.http_client import Endpoint

TOKEN = "VZERO_EXTRACTOR_TOKEN"
LONGEST = 24_000  # characters of a response that are shown: its end, where the answer is
SECONDS = 120.0  # until a reply is whole, failed attempts and the pauses between them included
_LARGEST = 1 << 20  # bytes of a reply that are read
_NONE = "NONE"
_PROBE = Item("probe", "Which fruit is yellow?", ("cherry", "banana"), LETTERS[:2], ("B",), "choice")
_TASK = """\
Below are a question and a response to it. Report which answer the response gives. Do not answer the \
question yourself and do not correct the response. Reply with nothing but {form}, \
or {none} if the response gives no answer.

Question: {question}
{options}
Response:
<response>
{response}
</response>

Answer given by the response:"""
_FORMS = {
    "choice": "the letter of the chosen option",
    "multi": "the chosen label, or labels separated by commas,",
    "list": "the list, as in [1, 2]",
    "text": "the answer's words",
}


class ExtractorFailed(VZeroError):
    """The extractor model could not be reached, or what it wrote is no extraction; nothing was scored."""


def reader(url: str | None, model: str | None, kept: Path, remote: bool = False) -> Reader:
    """The rules, or, where an address and a model are given, that model.

    Raises:
        InputError: one of the two alone; see `connect`.
    """
    if (url is None) != (model is None):
        raise InputError("--extractor-url and --extractor-model go together; give both or neither.")
    return read if url is None or model is None else connect(url, model, kept, remote)


def connect(url: str, model: str, kept: Path, remote: bool = False) -> Reader:
    """A reader that asks `model` at `url` (.../v1), after it has read a known answer rightly.

    Raises:
        InputError: an unusable address, or a remote one without `remote`; an unusable file of extractions.
        ExtractorFailed: the server does not answer, or fails the known case.
    """
    from vzero.runtime.http_client import Endpoint  # httpx takes its time to load

    server = Endpoint(_checked(url, remote), model, os.environ.get(TOKEN))
    if read(_PROBE, _ask(server, _PROBE, "The answer is (B) banana.")).found != ("B",):
        raise ExtractorFailed(
            f"The extractor {model!r} did not read the answer B out of 'The answer is (B) banana.'; "
            "use another model."
        )
    known = _kept(kept, model)

    def ask(item: Item, response: str, finish_reason: str | None = None) -> Reading:
        if not response.strip():
            return Reading(how="empty")
        key = artefacts.digest([item.id, item.question, list(item.options), response])
        reply = known[key] if key in known else _ask(server, item, response)
        reading = _read(item, reply)  # one that is no extraction is not kept
        if key not in known:
            known[key] = reply
            artefacts.append_jsonl(kept, {"id": item.id, "key": key, "model": model, "reply": reply})
        return reading

    return ask


def _read(item: Item, reply: str) -> Reading:
    """The answer that a reply states.

    Raises:
        ExtractorFailed: it states none.
    """
    if reply.strip(" .\n\"'").upper() == _NONE:
        return Reading(how="model: none")
    found = read(item, reply)
    if not found.found:
        raise ExtractorFailed(
            f"The extractor's reply for {item.id} is neither an answer nor {_NONE}: {reply[:80]!r}; "
            "nothing was scored. Use another model, or leave out --extractor-url."
        )
    return Reading(found.found, "model")


def _ask(server: Endpoint, item: Item, response: str) -> str:
    message = {"role": "user", "content": _prompt(item, response)}
    return chat(server, {"messages": [message], "temperature": 0, "max_tokens": 64})


def chat(server: Endpoint, body: Mapping[str, object]) -> str:
    """What the model at `server` says to `body`, a chat request without its model; the token, should it be
    repeated there, is taken out.

    Raises:
        ExtractorFailed: no chat completion came, after several attempts where another may help.
    """
    from vzero.runtime import http_client

    who, asked = f"The extractor at {server.url}", {**body, "model": server.model}
    try:
        reply = http_client.ask_again(server, "/chat/completions", _LARGEST, SECONDS, asked)
    except http_client.NoReply as error:
        again = "start it and run the same command again: finished extractions are kept."
        raise ExtractorFailed(f"{who} does not answer ({error}); {again}") from None
    except http_client.BadReply as error:
        raise ExtractorFailed(f"{who} sent {error}; is it a chat server?") from None
    if reply.status != 200:
        raise ExtractorFailed(
            f"{who} answered with status {reply.status}; check the name {server.model!r} and {TOKEN}."
        )
    try:
        content = http_client.loads(reply.data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        content = None
    if not isinstance(content, str) or not content.strip():
        raise ExtractorFailed(f"{who} sent no chat completion; is it an OpenAI-compatible server?")
    return server.redacted(content)


def _prompt(item: Item, response: str) -> str:
    options = "\n".join(f"({label}) {text}" for label, text in zip(item.labels, item.options, strict=False))
    shown = response[-LONGEST:].encode("utf-8", "replace").decode()
    form = _FORMS.get(item.kind, "the number, without its unit")
    return _TASK.format(form=form, none=_NONE, question=item.question, options=options, response=shown)


def _checked(url: str, remote: bool) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"--extractor-url {url!r} is no http address; give e.g. http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query:
        raise InputError(f"--extractor-url may hold no password or query; put a token into {TOKEN}.")
    if not remote and not _loopback(host):
        raise InputError(f"The extractor's host {host!r} is not this machine; add --extractor-remote.")
    return url.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _kept(path: Path, model: str) -> dict[str, str]:
    try:
        rows = artefacts.read_jsonl(path) if path.exists() else []
        return {row["key"]: row["reply"] for row in rows if row["model"] == model}
    except (ValueError, KeyError, TypeError, OSError):
        raise InputError(f"{path} does not hold extractions; name another --extractor-out.") from None
