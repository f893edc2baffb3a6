"""What an engine makes of an evaluation's settings: what the checkpoint's own files and this machine add to
them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.evals.results import Protocol
from vzero.config import EngineConfig
from vzero.errors import InputError
from vzero.presets import differences
from vzero.rollout.protocol import Message
from vzero.runtime import artefacts

FILE = "protocol.json"
NOTED = frozenset({"device", "repaired"})  # say where and why, not what was asked
# Rendered and made into tokens; a template may add a system prompt of its own where there is none.
_USER = Message("user", "How far is it? 3.14 \u00d7 2 = 6.28 \\boxed{B}")
_CONVERSATIONS = ((Message("system", "Look closely."), _USER), (_USER,))


def measured(engine: EngineConfig, checkpoint: Path) -> Protocol:
    """What `engine` will make of `checkpoint`, without its weights.

    Raises:
        InputError: a checkpoint without processor, chat template or end of turn.
    """
    from vzero.rollout import template
    from vzero.rollout.endpoints import replicas_of
    from vzero.rollout.vocabulary import read_vocabulary
    from vzero.runtime.checkpoints import image_settings, inference_dtype

    vocabulary = read_vocabulary(checkpoint, engine.thinking)
    processor = vocabulary.processor
    texts = [_rendered(processor, one) for one in _CONVERSATIONS]
    names = zip(sorted(vocabulary.eos), _tokens(processor, sorted(vocabulary.eos)), strict=True)
    here = inference_dtype()
    dtype = here if (served := replicas_of(checkpoint)) is None else inference_dtype(served.on_gpu)
    return Protocol(
        device="servers" if engine.urls or dtype != here else artefacts.device(),
        dtype=None if engine.urls else dtype,
        context=engine.max_model_len or vocabulary.positions,
        stop_tokens=tuple(f"{token} ({i})" for i, token in names),
        never_drawn=artefacts.digest(sorted(vocabulary.forbidden)),
        chat_template=artefacts.digest(texts),
        tokens=artefacts.digest([template.token_ids(processor, text) for text in texts]),
        image_processor=image_settings(processor.image_processor),
        repaired=vocabulary.repaired,
    )


def _tokens(processor: Any, ids: Sequence[int]) -> list[str]:
    return list(map(str, processor.tokenizer.convert_ids_to_tokens(list(ids))))


def _rendered(processor: Any, messages: Sequence[Message]) -> str:
    from jinja2 import TemplateError

    from vzero.rollout import template

    try:
        return template.render(processor, messages, with_image=True)
    except TemplateError as error:  # some know no system prompt
        return f"refused: {error}"


def record(out: Path, found: Protocol) -> None:
    """Keep what the answers in `out` are drawn by.

    Raises:
        InputError: others there were drawn otherwise, on another machine or by other libraries.
    """
    if (before := read(out)) is None:
        artefacts.write_digested(out / FILE, found.model_dump(mode="json"))
        return
    changed = set(differences(before.model_dump(mode="json"), found.model_dump(mode="json"))) - NOTED
    if changed:
        raise InputError(
            f"{out} holds answers that were drawn otherwise ({', '.join(sorted(changed))}); resume it where "
            "it was begun, start anew with --fresh, or choose another --out."
        )


def read(out: Path) -> Protocol | None:
    """What the answers in `out` were drawn by; None where it was not recorded.

    Raises:
        InputError: its file is damaged.
    """
    path = out / FILE
    if not path.exists():
        return None
    try:
        return Protocol.model_validate(artefacts.read_digested(path))
    except ValueError:
        raise InputError(f"{path} is damaged; evaluate anew with --fresh.") from None
