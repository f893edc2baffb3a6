"""What every rollout engine takes and gives. Free of any engine's own types.

A request is one image with one conversation; all of its `n` completions come from that single request, so an
engine can encode the image and the prompt once. Every completion's draw depends on the request's seed and the
completion's index alone: the same request gives the same completions whatever else is in the batch (up to
floating point).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from vzero.config import SamplingConfig
from vzero.errors import RolloutError

PICTURE_BYTES = 2 << 30  # of the pictures, in RGB, of the requests that are open at one engine or server


@dataclass(frozen=True)
class Message:
    """One turn. The request's image stands before the text of the first user turn."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Request:
    """One prompt about one image (or about none).

    Attributes:
        seed: of its draws.
        prefill: how the answer begins. Completions go on from it and do not repeat it; whole words without a
            blank at the end, since a tokenizer may join what stands on both sides of a cut.
        sampling: of this request, where it is not the call's. An item's greedy and sampled answers are two
            requests, one after the other, whose picture and prompt are then computed once.
    """

    messages: tuple[Message, ...]
    image: Image.Image | None
    seed: int
    prefill: str = ""
    sampling: SamplingConfig | None = None

    def sampled_by(self, call: SamplingConfig) -> SamplingConfig:
        """How it is drawn in a call with the sampling `call`."""
        return self.sampling or call

    @property
    def picture_bytes(self) -> int:
        """Of its picture in RGB."""
        return 0 if self.image is None else 3 * self.image.width * self.image.height


@dataclass(frozen=True)
class Completion:
    """What was drawn.

    Attributes:
        text: decoded without special tokens; hostile as all model output is. Of a model that thinks, what
            follows its thought.
        token_ids: as drawn, with the end-of-turn token when there was one.
        logprobs: natural log-probability of each token under the distribution it was drawn from (after
            temperature and the filters), same length as `token_ids`.
        finish_reason: "stop" when the model ended its turn, "length" when the token limit truncated it.
        thought: what `text` leaves out.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]
    thought: str = ""


@dataclass(frozen=True)
class Rollout:
    """One request's answer: the prompt's token count (image tokens included) and its `n` completions in index
    order."""

    prompt_tokens: int
    completions: tuple[Completion, ...]

    @property
    def tokens(self) -> int:
        """Drawn, ends of turns included."""
        return sum(len(one.token_ids) for one in self.completions)


class ContextOverflow(RolloutError):
    """One request whose prompt and completion exceed the context. Asking again cannot help, and the others
    are answered: in bulk the item is set aside by name, in training the question is dropped and counted."""


def overflow(prompt_tokens: int, max_new_tokens: int, context: int) -> ContextOverflow:
    """The error of a request that is known to be too long."""
    return ContextOverflow(
        f"A prompt of {prompt_tokens} tokens and {max_new_tokens} new ones exceed the context of {context}; "
        "use smaller images, a shorter question, a lower max_new_tokens or a larger engine.max_model_len."
    )


Answer = Rollout | ContextOverflow
Finished = Callable[[int, Answer], None]  # number of the request, its answer


class Engine(Protocol):
    """A model that can be asked."""

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """Answer every request, in order, each with the `n` completions of its sampling.

        Raises:
            RolloutError: if any request cannot be answered. There are no partial results.
        """
        ...

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """Answer every request, `finished` being told of each, by its number, as it ends.

        An iterator is read as the engine gets free, perhaps from another thread, so that work without end
        keeps it full; once pictures of `PICTURE_BYTES` are open, no other is read. A sequence is at hand as a
        whole: equal pictures and prompts in it are computed once.

        Raises:
            RolloutError: the engine failed; what it was told before stays answered.
        """
        ...
