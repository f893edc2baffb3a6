"""Floating-point operations by formula, vision included: 2 a weight and position forward, plus attention;
three times that with a backward.

    text    F = 2 W x + 4 L d p + 2 V h y      x positions, p query-key pairs, y positions whose vocabulary scores are made
    vision  F = 2 Wv q + 4 dv pv               q patches, pv patch pairs over all layers
    update  3 F of what is trained, F of what is frozen

W: weights of the language model's linear layers, L layers, d = heads x head size, V x h: output embedding,
Wv: linear and convolution weights of the tower a patch (the merger's a merged patch). Norms, softmax,
rotations and the optimizer are left out, as in "6 N".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes of a model that its operations follow from.

    Attributes:
        text_weights: W; head_weights: V h; layers: L; width: d, all as above.
        kv_bytes: of keys and values a token, all layers.
        weight_bytes: read by one decode step: linear layers and output embedding.
        vision_weights: Wv, a patch; vision_width: dv.
        full_layers, window_layers: of the tower, attending everywhere or within windows of `window` patches.
        vision_trained: whether an update goes backward through the tower.
    """

    text_weights: int
    head_weights: int
    layers: int
    width: int
    kv_bytes: int
    weight_bytes: int
    vision_weights: float = 0.0
    vision_width: int = 0
    full_layers: int = 0
    window_layers: int = 0
    window: int = 0
    vision_trained: bool = False

    def vision_pairs(self, patches: int) -> int:
        """Query x key patches of one picture, summed over layers."""
        return self.full_layers * patches**2 + self.window_layers * patches * min(
            patches, self.window or patches
        )


@dataclass(frozen=True)
class Work:
    """What is computed: positions x, pairs p, scored positions y, patches q and patch pairs pv of the
    formulas."""

    positions: float
    pairs: float
    scored: float
    patches: float = 0.0
    vision_pairs: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Both."""
        return Work(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def flops(shape: Shape, work: Work, backward: bool = False, recomputed: bool = False) -> float:
    """Operations of `work`; `backward` for an update, `recomputed` where gradient checkpointing runs the
    forward twice."""
    text = (
        2.0 * shape.text_weights * work.positions
        + 4.0 * shape.layers * shape.width * work.pairs
        + 2.0 * shape.head_weights * work.scored
    )
    vision = 2.0 * shape.vision_weights * work.patches + 4.0 * shape.vision_width * work.vision_pairs
    passes = (3 + recomputed) if backward else 1
    return passes * text + (passes if shape.vision_trained else 1) * vision


Lengths = tuple[int, int]  # prompt tokens, completion tokens


def generation_work(
    prompts: Iterable[int], sequences: Sequence[Lengths], patches: float, vision_pairs: float
) -> Work:
    """The least work of drawing: each distinct prompt read once, each token but a completion's last fed once,
    each picture encoded once.

    Args:
        prompts: tokens of the distinct prompts.
        sequences: of every completion.
        patches, vision_pairs: of the distinct pictures.
    """
    sizes = list(prompts)
    fed = sum(completion - 1 for _, completion in sequences)
    pairs = sum(size * (size + 1) // 2 for size in sizes)
    pairs += sum(
        (completion - 1) * prompt + (completion - 1) * completion // 2 for prompt, completion in sequences
    )
    return Work(sum(sizes) + fed, pairs, len(sizes) + fed, patches, vision_pairs)


def training_work(
    groups: Iterable[tuple[int, Sequence[int]]], patches: float, vision_pairs: float, passes: float = 1
) -> Work:
    """The least work of `passes` that score every completion: each prompt once but for its last token, which
    begins every completion, each completion token but the last fed once, each picture encoded once.

    Args:
        groups: tokens of each prompt and of its completions.
        patches, vision_pairs: of the distinct pictures.
        passes: how often; a pass over half of the groups is half a pass.
    """
    positions = pairs = scored = 0
    for prompt, completions in groups:
        before = prompt - 1
        positions += before + sum(completions)
        pairs += before * (before + 1) // 2 + sum(
            length * before + length * (length + 1) // 2 for length in completions
        )
        scored += sum(completions)
    return Work(passes * positions, passes * pairs, passes * scored, passes * patches, passes * vision_pairs)


def shape_of(model: Any) -> Shape:
    """The shape of a Hugging Face vision-language model."""
    import torch

    from vzero.runtime.checkpoints import vision_tower

    tower = vision_tower(model)
    inside = {id(module) for module in tower.modules()} if tower is not None else set()
    head = model.get_output_embeddings()
    linear = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and id(module) not in inside and module is not head
    ]
    text_weights, head_weights = sum(module.weight.numel() for module in linear), head.weight.numel()
    text = model.config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    item = head.weight.element_size()
    return Shape(
        text_weights=text_weights,
        head_weights=head_weights,
        layers=text.num_hidden_layers,
        width=text.num_attention_heads * size,
        kv_bytes=2
        * text.num_hidden_layers
        * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
        * size
        * item,
        weight_bytes=(text_weights + head_weights) * item,
        **_vision_shape(tower, getattr(model.config, "vision_config", None)),
    )


def _vision_shape(tower: Any, config: Any) -> dict[str, Any]:
    import torch

    if tower is None or config is None:
        return {}
    merged = (getattr(config, "spatial_merge_size", None) or 1) ** 2
    weights = 0.0
    for name, module in tower.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d):
            weights += module.weight.numel() / (merged if "merger" in name.split(".") else 1)
    layers = next(
        value for key in ("depth", "num_hidden_layers") if (value := getattr(config, key, None)) is not None
    )
    full = getattr(config, "fullatt_block_indexes", None)
    full_layers = layers if full is None else len(full)
    side = (getattr(config, "window_size", None) or 0) // (getattr(config, "patch_size", None) or 1)
    return {
        "vision_weights": weights,
        "vision_width": config.hidden_size,
        "full_layers": full_layers,
        "window_layers": layers - full_layers,
        "window": side**2,
        "vision_trained": any(parameter.requires_grad for parameter in tower.parameters()),
    }
