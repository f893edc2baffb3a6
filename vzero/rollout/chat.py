"""A request and its reply in the OpenAI chat format of vLLM's server.

Every sampling parameter is said, so that no default of the server's enters. A reply is believed only when it
is whole and from the model that was asked: right model id, n choices with token ids, each ended, no forbidden
token.
"""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from vzero.config import SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout import template, thinking
from vzero.rollout.protocol import Completion, Request, Rollout, overflow
from vzero.rollout.vocabulary import Vocabulary
from vzero.runtime.http_client import BadReply, NoReply, TornReply, torn


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Choice(_Strict):
    index: int
    token_ids: list[NonNegativeInt]
    finish_reason: str | None


class _Usage(_Strict):
    prompt_tokens: int


class Reply(_Strict):
    """What is read of a chat completion."""

    model: str
    choices: list[_Choice]
    usage: _Usage
    prompt_token_ids: list[int]


def request_body(
    request: Request, url: str | None, sampling: SamplingConfig, vocabulary: Vocabulary
) -> dict[str, Any]:
    """A chat request without its model, its picture at `url`. A prefill is a last turn that the server leaves
    open."""
    picture = {"type": "image_url", "image_url": {"url": url}}
    thinks = thinking.switched(vocabulary.processor)
    turns = template.conversation(
        (*request.messages, *template.answer_begun(request.prefill)), url is not None
    )
    for turn in turns:
        turn["content"] = [picture if part["type"] == "image" else part for part in turn["content"]]
    return {
        **vocabulary.vllm_sampling(sampling, request.seed),
        "messages": turns,
        "max_completion_tokens": sampling.max_new_tokens,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "add_generation_prompt": not request.prefill,
        "continue_final_message": bool(request.prefill),
        "return_token_ids": True,
        **({} if thinks is None else {"chat_template_kwargs": {"enable_thinking": thinks}}),
        "stream": False,
    }


def data_url(image: Image.Image) -> str:
    """An image as a lossless data URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def read_reply(data: bytes) -> Reply:
    """The body of a chat completion.

    Raises:
        BadReply: it is none, or has no token ids; `TornReply` where its JSON ends too early.
    """
    try:
        return Reply.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise (TornReply if torn(data) else BadReply)(
            f"a reply that is not a whole chat completion with token ids ({place}: {first['msg']})"
        ) from None


def rollout_of(reply: Reply, model: str, sampling: SamplingConfig, vocabulary: Vocabulary) -> Rollout:
    """The completions in a reply of `model`. `Completion.logprobs` are empty: nobody reads those of votes.

    Raises:
        BadReply: it is not of `model`, not of n completions, or a completion is not whole.
        NoReply: the server gave a completion up.
        ContextOverflow: with its completion the prompt exceeds the context; a server may then truncate it.
    """
    if reply.model != model:
        raise BadReply(f"a reply from the model {reply.model} where {model} was asked")
    n = sampling.drawn
    choices = sorted(reply.choices, key=lambda choice: choice.index)
    if [choice.index for choice in choices] != list(range(n)):
        raise BadReply(f"a reply of {len(choices)} completions where {n} were asked")
    if reply.usage.prompt_tokens != len(reply.prompt_token_ids):
        raise BadReply("a reply whose prompt ids and token count disagree")
    prompt_tokens, context = reply.usage.prompt_tokens, vocabulary.positions
    if context is not None and prompt_tokens + sampling.max_new_tokens > context:
        raise overflow(prompt_tokens, sampling.max_new_tokens, context)
    completions = [_completion(choice, sampling, vocabulary) for choice in choices]
    return Rollout(prompt_tokens, tuple(completions * (sampling.n // n)))


def _completion(choice: _Choice, sampling: SamplingConfig, vocabulary: Vocabulary) -> Completion:
    drawn = len(choice.token_ids)
    if drawn > sampling.max_new_tokens:
        raise BadReply(f"a completion of {drawn} tokens where {sampling.max_new_tokens} were the limit")
    if choice.finish_reason == "length" and drawn < sampling.max_new_tokens:
        raise BadReply("a completion truncated early: it exceeds the server's context (engine.max_model_len)")
    if choice.finish_reason in (None, "abort"):  # it is going down, or ran out of room
        raise NoReply("a completion that the server gave up")
    try:
        return vocabulary.completion(choice.token_ids, (), choice.finish_reason)
    except RolloutError as error:
        raise BadReply(str(error)) from None
