"""What of a picture is shown: explicit limits on its pixels, and several pictures as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from harness.evals.results import Limits
from vzero.errors import VZeroError
from vzero.images.decoding import MAX_ASPECT
from vzero.images.modes import to_rgb
from vzero.rollout.protocol import Message

GAP = 16  # white pixels between pictures put side by side


DEFAULT = Limits(least=3136, most=12_845_056)
_SIDE = 28  # pixels of a token, of Qwen2.5-VL; families after it have larger ones
_LONGEST_SHAPE = 200  # side by side: its processor takes no longer picture
_TEXT_TOKENS = 2048  # of a question with its options and instructions


def fit(image: Image.Image, limits: Limits) -> Image.Image:
    """The picture, scaled (sides in proportion, bicubic) only as far as the limits demand. Where rounding
    would make it too narrow for a model's processor, its long side is shortened to what that takes."""
    area = image.width * image.height
    if limits.least <= area <= limits.most:
        return image
    shrink = area > limits.most
    scale = math.sqrt((limits.most if shrink else limits.least) / area)
    rounded = math.floor if shrink else math.ceil
    width, height = (max(1, rounded(side * scale)) for side in image.size)
    size = (min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width))
    return image.resize(size, Image.Resampling.BICUBIC)


def context(limits: Limits, new_tokens: int) -> int:
    """Tokens that an evaluation's longest prompt and answer have together: the largest picture, each side
    rounded up to whole tokens, the question and the answer."""
    short, long = math.sqrt(limits.most / _LONGEST_SHAPE), math.sqrt(limits.most * _LONGEST_SHAPE)
    picture = (short / _SIDE + 0.5) * (long / _SIDE + 0.5)
    return math.ceil(picture) + _TEXT_TOKENS + new_tokens


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """One picture of several, left to right, tops aligned, on white."""
    if len(pictures) == 1:
        return pictures[0]
    width = sum(one.width for one in pictures) + GAP * (len(pictures) - 1)
    whole, left = Image.new("RGB", (width, max(one.height for one in pictures)), "white"), 0
    for one in pictures:
        whole.paste(one, (left, 0))
        left += one.width + GAP
    return whole


def one_picture(chat: Sequence[Mapping[str, Any]]) -> tuple[tuple[Message, ...], Image.Image]:
    """lmms-eval's chat messages as our engines take them: one picture before the text of the first user turn.

    Several pictures become one, side by side, and the text says so; where they stood among words, "(image k)"
    stands.

    Raises:
        VZeroError: no picture, or one outside the first user turn.
    """
    messages: list[Message] = []
    pictures: list[Image.Image] = []
    total = sum(part["type"] == "image" for turn in chat for part in turn["content"])
    for turn in chat:
        words: list[str] = []
        for part in turn["content"]:
            if part["type"] == "text":
                words.append(part["text"])
                continue
            if (
                part["type"] != "image"
                or turn["role"] != "user"
                or any(message.role == "user" for message in messages)
            ):
                raise VZeroError("An evaluation prompt may hold pictures in its first user turn only.")
            pictures.append(to_rgb(part["url"]))
            if words:  # in the midst of a text
                words.append(f"(image {len(pictures)})")
        if turn["role"] == "user" and total > 1:
            words.insert(
                0,
                f"The picture shows {total} images side by side, image 1 to image {total} from left to "
                "right.\n",
            )
            total = 0
        messages.append(Message(turn["role"], "".join(words)))
    if not pictures:
        raise VZeroError("An evaluation prompt has no picture.")
    return tuple(messages), side_by_side(pictures)
