"""Floating-point operations by formula, vision included: 2 a weight and position forward, plus attention;
three times that with a backward.

    text    F = 2 W x + 4 L d p + 2 V h y      x positions, p query-key pairs, y positions that are scored
    vision  F = 2 Wv q + 4 dv pv               q patches, pv patch pairs over all layers
    update  3 F of what is trained, F of what is frozen

Scored positions are those whose scores over the vocabulary are made. W: weights of the language model's
linear layers, L layers, d = heads x head size, V x h: output embedding, Wv: linear and convolution weights of
the tower a patch (the merger's a merged patch). Norms, softmax, rotations and the optimizer are left out, as
in "6 N".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
        text_trained, vision_trained: whether an update makes gradients of those weights (adapters are not
            counted); of the tower, whether it goes backward through it at all.
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
    text_trained: bool = True
    vision_trained: bool = False

    def vision_pairs(self, patches: int) -> int:
        """Query x key patches of one picture, summed over layers."""
        seen = min(patches, self.window or patches)
        return self.full_layers * patches**2 + self.window_layers * patches * seen


@dataclass(frozen=True)
class Work:
    """What is computed: positions x, pairs p, scored positions y, patches q and patch pairs pv of the
    formulas."""

    positions: float
    pairs: float
    scored: float
    patches: float = 0.0
    vision_pairs: float = 0.0


def flops(shape: Shape, work: Work, backward: bool = False, recomputed: bool = False) -> float:
    """Operations of `work`; `backward` for an update, `recomputed` where gradient checkpointing runs the
    forward twice."""
    weights = 2.0 * shape.text_weights * work.positions + 2.0 * shape.head_weights * work.scored
    attention = 4.0 * shape.layers * shape.width * work.pairs
    vision = 2.0 * shape.vision_weights * work.patches + 4.0 * shape.vision_width * work.vision_pairs
    # Backward, each product of a trained weight takes two more, one of a frozen weight (under adapters) one:
    # the gradient of its input. Both factors of attention's are inputs.
    passes = (3 + recomputed) if backward else 1
    of_weights = passes - (backward and not shape.text_trained)
    return of_weights * weights + passes * attention + (passes if shape.vision_trained else 1) * vision


Lengths = tuple[float, float]  # prompt tokens, completion tokens; of means, not whole


def generation_work(
    prompts: Iterable[float], sequences: Sequence[Lengths], patches: float, vision_pairs: float
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
    pairs += sum((own - 1) * prompt + (own - 1) * own // 2 for prompt, own in sequences)
    return Work(sum(sizes) + fed, pairs, len(sizes) + fed, patches, vision_pairs)


def training_work(
    groups: Iterable[tuple[float, Sequence[float]]], patches: float, vision_pairs: float, passes: float = 1
) -> Work:
    """The least work of `passes` that score every completion: each prompt once but for its last token, which
    begins every completion, each completion token but the last fed once, each picture encoded once.

    Args:
        groups: tokens of each prompt and of its completions.
        patches, vision_pairs: of the distinct pictures.
        passes: how often; a pass over half of the groups is half a pass.
    """
    positions = pairs = scored = 0.0
    for prompt, completions in groups:
        before = prompt - 1
        positions += before + sum(completions)
        pairs += before * (before + 1) // 2
        pairs += sum(length * before + length * (length + 1) // 2 for length in completions)
        scored += sum(completions)
    return Work(passes * positions, passes * pairs, passes * scored, passes * patches, passes * vision_pairs)


def shape_of(model: Any) -> Shape:
    """The shape of a Hugging Face vision-language model."""
    text, head = model.config.get_text_config(), model.get_output_embeddings().weight
    text_weights = sum(module.weight.numel() for module in language_linears(model))
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return Shape(
        text_weights=text_weights,
        head_weights=head.numel(),
        layers=text.num_hidden_layers,
        width=text.num_attention_heads * size,
        kv_bytes=2 * text.num_hidden_layers * kv_heads * size * head.element_size(),
        weight_bytes=(text_weights + head.numel()) * head.element_size(),
        **_vision_sizes(model),
    )


def language_linears(model: Any) -> list[Any]:
    """Linear layers of the language model, without its head."""
    import torch

    return [one for one in model.get_decoder().modules() if isinstance(one, torch.nn.Linear)]


def merge_of(config: Any) -> int:
    """Patches a side of an image token, whatever the family calls it."""
    found = getattr(config.vision_config, "spatial_merge_size", None) or getattr(config, "scale_factor", None)
    return int(found or round(1 / getattr(config, "downsample_ratio", 1)))


def side_of(length: Any) -> int:
    """The side of a square that a config gives as a number or twice."""
    return int(length if isinstance(length, int) else length[0])


def _vision_sizes(model: Any) -> dict[str, Any]:
    """The fields of `Shape` that the vision tower decides, with what stands between it and the language
    model; none without a tower."""
    import torch

    from vzero.runtime.checkpoints import vision_tower

    tower, config = vision_tower(model), getattr(model.config, "vision_config", None)
    if tower is None or config is None:
        return {}
    others, inside = {model.get_output_embeddings(), *model.get_decoder().modules()}, set(tower.modules())
    weights = 0.0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.Conv3d) and module not in others:
            of_patches = module in inside and "merger" not in name
            weights += module.weight.numel() / (1 if of_patches else merge_of(model.config) ** 2)
    depths = (getattr(config, key, None) for key in ("depth", "num_hidden_layers"))
    layers = next(depth for depth in depths if depth is not None)
    # A tower of pictures of one size sees tiles, which do not see each other.
    tile = getattr(config, "image_size", None)
    window = side_of(tile or getattr(config, "window_size", None) or 0)
    full = [] if tile else getattr(config, "fullatt_block_indexes", None)
    full_layers = layers if full is None else len(full)
    return {
        "vision_weights": weights,
        "vision_width": config.hidden_size,
        "full_layers": full_layers,
        "window_layers": layers - full_layers,
        "window": (window // side_of(getattr(config, "patch_size", None) or 1)) ** 2,
        "vision_trained": any(parameter.requires_grad for parameter in tower.parameters()),
    }
