"""A labelling stage whose Solver is served elsewhere: whatever the server does, votes are its whole answers
or there are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests import fake_server
from tests.fixtures import synthetic_run
from vzero.errors import InterruptedRun, RolloutError
from vzero.rollout.server import model_name
from vzero.rollout.vocabulary import Vocabulary, read_vocabulary
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET
from vzero.runtime.stage import run_stage
from vzero.stages import PROGRAMS

STAGE = "04-label-1"
pytestmark = pytest.mark.skipif(
    not (POCKET / "config.json").exists(), reason="there is no pocket checkpoint yet"
)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return read_vocabulary(POCKET)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run that has its questions."""
    monkeypatch.setenv("VZERO_SOLVER_TOKEN", "t")
    synthetic_run.make(tmp_path / "run", stop_after="03-write-questions-1", count=24, hostile=False)
    yield tmp_path / "run"


def ask(run: Path, url: str) -> Path:
    """Run the stage against `url`, as a resume with another address would."""
    stored = artefacts.read_json(run / "run.json")
    stored["preset"]["engine"] |= {
        "urls": [url],
        "retries": 0,
        "batch_sequences": 40,
    }  # chunks of four questions
    artefacts.write_json(run / "run.json", stored)
    run_stage(run, STAGE, PROGRAMS)
    return run / "stages" / STAGE


def solver(
    vocabulary: Vocabulary, fails_after: int | None = None, kept: Callable[[], int] = lambda: 0
) -> fake_server.Fault:
    """Answers `\\boxed{ B }` seven times and `\\boxed{ C }` three times, from the pocket vocabulary; then, if
    asked to, breaks down as soon as what it answered is `kept`."""
    tokenizer, (eos,) = vocabulary.processor.tokenizer, sorted(vocabulary.eos)
    boxes = [
        [*tokenizer(f"\\boxed{{ {letter} }}", add_special_tokens=False)["input_ids"], eos]
        for letter in "BBBBBBBCCC"
    ]
    probe = tokenizer(
        vocabulary.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "text", "text": "A"}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
    )["input_ids"]
    asked: list[int] = []

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        if body["n"] == 1:  # the check
            choices = [{"index": 0, "finish_reason": "stop", "token_ids": [eos]}]
            fake_server.send(
                handler,
                {
                    "model": body["model"],
                    "choices": choices,
                    "prompt_token_ids": probe,
                    "usage": {"prompt_tokens": len(probe)},
                },
            )
            return True
        asked.append(1)
        if fails_after is not None and len(asked) > fails_after:
            deadline = time.monotonic() + 60
            while kept() < fails_after and time.monotonic() < deadline:
                time.sleep(0.01)
            fake_server.send(handler, {"error": "out of memory"}, 500)
            return True
        value = fake_server.reply(body)
        value["choices"] = [
            {"index": i, "finish_reason": "stop", "token_ids": ids} for i, ids in enumerate(boxes)
        ]
        fake_server.send(handler, value)
        return True

    return fault


def test_votes_are_what_the_server_answered(run: Path, vocabulary: Vocabulary) -> None:
    with fake_server.serving(model=model_name(POCKET), fault=solver(vocabulary)) as (url, seen):
        labels = artefacts.read_jsonl(ask(run, url) / "labels.jsonl")
    assert labels and all(
        row["votes"] == list("BBBBBBBCCC") and row["answer"] == "B" and row["confidence"] == 0.7
        for row in labels
    )
    assert len(seen) == 1 + len(labels)
    assert {body["model"] for body in seen} == {model_name(POCKET)}


def test_a_dead_server_leaves_nothing_and_a_live_one_goes_on(run: Path, vocabulary: Vocabulary) -> None:
    with fake_server.serving() as (dead, _):
        pass
    with pytest.raises(InterruptedRun, match=r"ConnectError.*python -m vzero\.rollout\.serve") as caught:
        ask(run, dead)
    assert caught.value.exit_code == 75
    folder = run / "stages" / STAGE
    assert not (folder / "labels.jsonl").exists() and artefacts.sealed(folder) is None
    with fake_server.serving(model=model_name(POCKET), fault=solver(vocabulary)) as (url, _):
        assert artefacts.read_jsonl(ask(run, url) / "labels.jsonl")


def test_a_server_that_breaks_down_midway_is_resumed_from_and_not_counted(
    run: Path, vocabulary: Vocabulary
) -> None:
    def kept() -> int:
        return (run / "stages" / STAGE / "work" / "votes.jsonl").read_bytes().count(b"\n")

    fault = solver(vocabulary, fails_after=9, kept=kept)
    with (
        fake_server.serving(model=model_name(POCKET), fault=fault) as (url, _),
        pytest.raises(InterruptedRun, match=r"HTTP 500.*out of memory"),
    ):
        ask(run, url)
    assert artefacts.sealed(run / "stages" / STAGE) is None
    with fake_server.serving(model=model_name(POCKET), fault=solver(vocabulary)) as (url, seen):
        labels = artefacts.read_jsonl(ask(run, url) / "labels.jsonl")
    assert all(row["votes"] == list("BBBBBBBCCC") for row in labels)
    assert len(seen) - 1 == len(labels) - 9  # none of the first attempt's answers was asked for again


def test_a_server_of_another_checkpoint_is_not_asked_to_vote(run: Path, vocabulary: Vocabulary) -> None:
    def other(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        fake_server.send(handler, {**fake_server.reply(body), "model": "vzero-last-iteration"})
        return True

    with (
        fake_server.serving(fault=other) as (url, seen),
        pytest.raises(RolloutError, match=r"vzero-last-iteration.*when it is started by") as caught,
    ):
        ask(run, url)
    assert len(seen) == 1 and caught.value.exit_code == 1
