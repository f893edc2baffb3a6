"""What a process and its forks say to each other: some JSON, and some bytes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from vzero.config import SamplingConfig
from vzero.rollout.protocol import Answer, Completion, ContextOverflow, Message, Request, Rollout

Said = dict[str, Any]


def send(pipe: Connection, said: Mapping[str, Any], data: bytes = b"") -> None:
    """Say something; returns when the other has room for it."""
    pipe.send_bytes(json.dumps(said).encode())
    pipe.send_bytes(data)


def receive(pipe: Connection) -> tuple[Said, bytes] | None:
    """What the other says next; None where it has ended."""
    try:
        return json.loads(pipe.recv_bytes()), pipe.recv_bytes()
    except (EOFError, ConnectionResetError):
        return None


def of_requests(requests: Sequence[Request]) -> tuple[Said, bytes]:
    """Requests, and the pixels of their distinct pictures in RGB, one after the other."""
    images = {id(one.image): one.image for one in requests if one.image is not None}
    place = {key: i for i, key in enumerate(images)}
    pixels = [one if one.mode == "RGB" else one.convert("RGB") for one in images.values()]
    each = [
        {
            "messages": [[turn.role, turn.text] for turn in one.messages],
            "image": place.get(id(one.image)),
            "seed": one.seed,
            "prefill": one.prefill,
            "sampling": one.sampling and one.sampling.model_dump(),
        }
        for one in requests
    ]
    return {"requests": each, "sizes": [one.size for one in pixels]}, b"".join(
        one.tobytes() for one in pixels
    )


def requests(said: Said, data: bytes) -> list[Request]:
    """Undoes `of_requests`."""
    images, start = [], 0
    for width, height in said["sizes"]:
        end = start + 3 * width * height
        images.append(Image.frombytes("RGB", (width, height), data[start:end]))
        start = end
    return [
        Request(
            messages=tuple(Message(role, text) for role, text in one["messages"]),
            image=None if one["image"] is None else images[one["image"]],
            seed=one["seed"],
            prefill=one["prefill"],
            sampling=one["sampling"] and SamplingConfig.model_validate(one["sampling"]),
        )
        for one in said["requests"]
    ]


def of_answer(number: int, given: Answer) -> tuple[Said, bytes]:
    """An answer; of all its completions the ids of tokens, then their log-probabilities."""
    said: Said = {"said": "answer", "number": number}
    if isinstance(given, ContextOverflow):
        return {**said, "overflow": str(given)}, b""
    ids, logprobs = array("q"), array("d")
    for one in given.completions:
        ids.extend(one.token_ids)
        logprobs.extend(one.logprobs)
    each = [(one.text, len(one.token_ids), one.finish_reason, one.thought) for one in given.completions]
    said |= {"prompt_tokens": given.prompt_tokens, "completions": each}
    return said, ids.tobytes() + logprobs.tobytes()


def answer(said: Said, data: bytes) -> Answer:
    """Undoes `of_answer`."""
    if "overflow" in said:
        return ContextOverflow(said["overflow"])
    ids, logprobs = array("q", data[: len(data) // 2]), array("d", data[len(data) // 2 :])
    completions, start = list[Completion](), 0
    for text, tokens, finish_reason, thought in said["completions"]:
        own = slice(start, start + tokens)
        completions.append(Completion(text, tuple(ids[own]), tuple(logprobs[own]), finish_reason, thought))
        start += tokens
    return Rollout(said["prompt_tokens"], tuple(completions))
