"""The other side: Hugging Face's own `generate` with n separate prompts, and the forward paths of an
unchanged `GRPOTrainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from vzero.config import SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group
from vzero.images.records import ImageRecord
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.rollout.template import conversation
from vzero.rollout.transformers_engine import TransformersEngine

# Methods that `GroupTrainer` replaces for other reasons than speed.
_KEPT = frozenset({"__init__", "_load_from_checkpoint", "create_model_card"})


def generate_separately(
    engine: TransformersEngine, requests: Sequence[Request], sampling: SamplingConfig, batch: int, seed: int
) -> list[Rollout]:
    """Every completion as a prompt of its own, `batch` of them together: no picture or prompt is shared.

    Args:
        engine: whose model, processor and forbidden tokens are used, and nothing else of it.
        seed: of torch's generator; draws are not those of our engine.

    Returns:
        Rollouts with token ids; texts and log-probabilities are left empty.
    """
    import torch

    torch.manual_seed(seed % 2**63)
    rows = [request for request in requests for _ in range(sampling.n)]
    drawn: list[tuple[int, list[int], bool]] = []
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            drawn += _generate(engine, rows[start : start + batch], sampling)
    return [
        Rollout(
            drawn[i][0],
            tuple(
                Completion("", tuple(ids), (), "stop" if done else "length")
                for _, ids, done in drawn[i : i + sampling.n]
            ),
        )
        for i in range(0, len(drawn), sampling.n)
    ]


def _generate(
    engine: TransformersEngine, rows: Sequence[Request], sampling: SamplingConfig
) -> list[tuple[int, list[int], bool]]:
    model, processor = engine.model, engine.processor
    texts = processor.apply_chat_template(
        [conversation(row.messages, row.image is not None) for row in rows],
        tokenize=False,
        add_generation_prompt=True,
    )
    images = [[row.image] for row in rows if row.image is not None]
    inputs = processor(
        text=texts, images=images or None, padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    output = model.generate(
        **inputs,
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        repetition_penalty=sampling.repetition_penalty,
        max_new_tokens=sampling.max_new_tokens,
        suppress_tokens=sorted(engine.forbidden),
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    width = inputs["input_ids"].shape[1]
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    return [
        (length, *_cut(ids, engine.eos))
        for length, ids in zip(lengths, output[:, width:].tolist(), strict=True)
    ]


def _cut(ids: list[int], ends: frozenset[int]) -> tuple[list[int], bool]:
    """Tokens up to the first that ends the turn, that one included, and whether there is one."""
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1], True
    return ids, False


@contextmanager
def stock_paths(trainer: Any) -> Iterator[None]:
    """Give one trainer TRL's own methods in place of all that ours overrides: groups torn, whole batches
    padded, nothing skipped.

    The model, the optimizer, the rollouts and the settings stay, so the two sides differ in these methods
    alone. TRL's methods find our rollouts and reward in its own forms.
    """
    from trl import GRPOTrainer

    names = overridden(type(trainer), GRPOTrainer)
    methods = {name: partial(getattr(GRPOTrainer, name), trainer) for name in names}
    forms = {
        "train_dataset": trl_dataset(trainer.rollout.prompts, trainer.rollout.opener),
        "rollout_func": _drawn_for_trl,
        "reward_funcs": [_reward_for_trl(trainer)],
    }
    with replaced(trainer, {**methods, **forms}):
        yield


def trl_dataset(prompts: Sequence[Prompt], opener: Callable[[ImageRecord], Any]) -> Any:
    """The rows TRL iterates over, with images decoded when fetched; column `row` is the index into
    `prompts`."""
    from datasets import Dataset

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [prompts[row] for row in batch["row"]]
        return {
            "row": batch["row"],
            "prompt": [conversation(prompt.messages, with_image=True) for prompt in chosen],
            "image": [opener(prompt.image) for prompt in chosen],
        }

    return Dataset.from_dict({"row": list(range(len(prompts)))}).with_transform(fetch)


def _drawn_for_trl(prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
    """TRL's `rollout_func`: the one generation batch, by our engine."""
    n = trainer.num_generations
    prompt_ids = trainer._tokenize_prompts(prompts[::n])[0]
    # Our pictures are processed for our micro-batches, which are not made here.
    _, rollouts = replace(trainer.rollout, pictures=None)(0, trainer.model)
    return {
        "prompt_ids": [ids for ids in prompt_ids for _ in range(n)],
        "completion_ids": [list(one.token_ids) for rollout in rollouts for one in rollout.completions],
        "logprobs": None,
        "drawn": [one for rollout in rollouts for one in rollout.completions],
    }


def _reward_for_trl(trainer: Any) -> Callable[..., list[float]]:
    """TRL's reward function, made of ours that sees whole groups."""

    def reward(drawn: list[Completion], row: list[int], **_: Any) -> list[float]:
        n = trainer.num_generations
        groups = [
            Group(trainer.rollout.prompts[row[start]], tuple(drawn[start : start + n]))
            for start in range(0, len(row), n)
        ]
        with trainer.phases.measure("votes"):
            return [value for group in trainer.reward(groups, 0).rewards for value in group]

    return reward


def overridden(ours: type, stock: type) -> list[str]:
    """Methods of `stock` that classes between it and `ours` define anew."""
    between = ours.__mro__[: ours.__mro__.index(stock)]
    names = {
        name
        for one in between
        for name, value in vars(one).items()
        if callable(value) and callable(getattr(stock, name, None))
    }
    return sorted(name for name in names - _KEPT if not name.startswith("__"))


@contextmanager
def replaced(thing: Any, methods: dict[str, Any]) -> Iterator[None]:
    """Replace methods of one object; afterwards they are its class's again after."""
    before = {name: vars(thing)[name] for name in methods if name in vars(thing)}
    vars(thing).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(thing)[name]
        vars(thing).update(before)
