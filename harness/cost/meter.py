"""What a model reads and computes for given prompts, counted from their words: no weight is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from harness.cost.flops import Lengths, Shape, flops, generation_work, training_work
from harness.cost.shapes import ModelSize, image_tokens, size_of
from vzero.config import GrpoSettings, Preset
from vzero.errors import InputError
from vzero.prompts import questioner_messages, solver_messages
from vzero.rollout import template

MARK = "QUESTION"


@dataclass(frozen=True)
class Meter:
    """Of the model and the prompts of one preset.

    Attributes:
        size, processor: the model's.
        prompt_format: of both roles.
    """

    size: ModelSize
    processor: Any
    prompt_format: str

    def asking(self) -> int:
        """Text tokens of the Questioner's prompt."""
        return self._tokens([self._rendered(questioner_messages(self.prompt_format), True)])[0]

    def answering(self, questions: Sequence[str], with_image: bool = True) -> list[int]:
        """Text tokens of the Solver's prompts about these questions."""
        around = self._rendered(solver_messages(self.prompt_format, MARK), with_image)
        clean = [one.encode("utf-8", "replace").decode() for one in questions]
        known = list(dict.fromkeys(clean))
        counted = dict(zip(known, self._tokens([around.replace(MARK, one) for one in known]), strict=True))
        return [counted[one] + (not with_image) for one in clean]

    def picture(self, width: int, height: int) -> int:
        """Tokens of a picture of so many pixels."""
        return image_tokens(self.size, width, height)

    def drawn(self, prompts: Sequence[float], sequences: Sequence[Lengths], pictures: Sequence[int]) -> float:
        """Operations of drawing: `prompts` in tokens, `pictures` the encoded ones in tokens."""
        return flops(self.size.flops, generation_work(prompts, sequences, *self._seen(pictures)))

    def trained(
        self,
        groups: Sequence[tuple[float, Sequence[float]]],
        pictures: Sequence[int],
        shape: Shape,
        scored: float,
    ) -> float:
        """Operations of the update by `groups` (tokens of a prompt and of its completions), and of `scored`
        passes that only score them."""
        seen = self._seen(pictures)
        update = flops(shape, training_work(groups, *seen), backward=True)
        return update + flops(self.size.flops, training_work(groups, *seen, scored))

    def _seen(self, pictures: Sequence[int]) -> tuple[float, float]:
        """Patches and patch pairs."""
        patches = [one * self.size.merge**2 for one in pictures]
        return sum(patches), sum(map(self.size.flops.vision_pairs, patches))

    def _rendered(self, messages: Any, with_image: bool) -> str:
        return template.render(self.processor, messages, with_image)

    def _tokens(self, texts: Sequence[str]) -> list[int]:
        """Without the one token that stands for a picture."""
        if not texts:
            return []
        special = template.special_tokens(self.processor, texts[0])
        return [len(ids) - 1 for ids in self.processor.tokenizer(list(texts), **special)["input_ids"]]


@lru_cache(maxsize=4)
def meter(model: str, prompt_format: str) -> Meter:
    """The meter of a preset's model.

    Raises:
        InputError: its files or its sizes are not known here.
    """
    from vzero.runtime.checkpoints import at_hand, load_processor

    if (folder := at_hand(model)) is None:
        raise InputError(f"{model} is not on this machine.")
    return Meter(size_of(model), load_processor(folder), prompt_format)


def trained_shape(preset: Preset, grpo: GrpoSettings, size: ModelSize) -> Shape:
    """The shape of a model in training: which of its weights have gradients."""
    whole = preset.lora is None
    return replace(size.flops, text_trained=whole, vision_trained=whole and not grpo.freeze_vision)


def scoring_passes(grpo: GrpoSettings, steps: float) -> float:
    """How often training scores each completion without a gradient: by the reference, where there is a KL
    term, and by the policy before the first of so many optimizer `steps` of a generation batch, except in
    that first step where nothing is weighed (`vzero.grpo.step`)."""
    old = 1.0 if grpo.importance_correction != "none" else 1 - 1 / steps
    return (grpo.kl_coefficient > 0) + old
