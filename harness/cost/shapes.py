"""The sizes of a model that a plan follows from, read off its config: the model is built without storage
("meta"), so no weight is needed.

Configs of the models that presets name are shipped in `model_configs/`; any other model's is read from its
folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from harness.cost.flops import Shape, language_linears, merge_of, shape_of, side_of
from vzero.errors import InputError

Tree = dict[str, Any]  # a Hugging Face config


@dataclass(frozen=True)
class ModelSize:
    """Counts are parameters, `kv` numbers (not bytes) of keys and values a token, all layers.

    Attributes:
        total: tied embeddings once; `vision`: the tower's share; `adapters`: weights of adapters of rank
            1, the sum over the language model's linear layers of (inputs + outputs).
        block: of one decoder layer; `embedding`: of the input embedding; `embeddings`: with the head's, where
            it has its own.
        hidden, intermediate, layers, heads_width, kv_width, vocabulary: of the language model.
        vision_hidden, vision_layers: of the tower.
        flops: what `harness.cost.flops` counts operations by.
        patch, merge: pixels a side of a patch, patches a side of an image token; `patch_values`: numbers that
            the processor makes of a patch.
        images: the image processor, as transformers builds it.
    """

    total: int
    vision: int
    adapters: int
    block: int
    embedding: int
    embeddings: int
    hidden: int
    intermediate: int
    layers: int
    heads_width: int
    kv_width: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    kv: int
    flops: Shape
    patch: int
    merge: int
    patch_values: int
    images: Any


@lru_cache(maxsize=8)
def size_of(model: str) -> ModelSize:
    """The size of a preset's model.

    Raises:
        InputError: its config is neither shipped nor on disk, or is not one of a vision-language model.
    """
    shipped = {name.lower(): tree for name, tree in _shipped().items()}.get(model.lower())
    if shipped is not None:
        return _build(shipped["config"], _image_processor(shipped["image_processor"]), model)
    from vzero.runtime.checkpoints import folder_of, load_image_processor

    folder = folder_of(model) or Path(model)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return _build(config, load_image_processor(folder), model)
    except (OSError, ValueError, AttributeError):  # the last: a tower of another family
        known = ", ".join(sorted(_shipped()))
        raise InputError(
            f"The config of {model!r} is not known; give the model's folder, or one of: pocket, {known}."
        ) from None


def published(model: str) -> Tree:
    """The shipped config of a model."""
    return _shipped()[model]["config"]


def _shipped() -> dict[str, Tree]:
    folder = resources.files("harness.cost") / "model_configs"
    trees = [json.loads(entry.read_text(encoding="utf-8")) for entry in folder.iterdir()]
    return {tree["model"]: tree for tree in trees}


def _image_processor(tree: Tree) -> Any:
    """Of a shipped config."""
    from vzero.runtime import compat

    compat.install()
    import transformers

    settings = {key: value for key, value in tree.items() if key != "image_processor_type"}
    return getattr(transformers, tree["image_processor_type"])(**settings)


def _build(tree: Tree, images: Any, name: str) -> ModelSize:
    from vzero.runtime.checkpoints import vision_tower

    if not hasattr(images, "get_number_of_image_patches"):
        raise ValueError("a processor that does not say how many patches a picture is")
    config, model = _without_storage(tree, name)
    text, vision, tower = config.get_text_config(), config.vision_config, vision_tower(model)
    flops = shape_of(model)
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    patch, frames = side_of(vision.patch_size), getattr(vision, "temporal_patch_size", 1)
    kv_width = text.num_key_value_heads * width
    return ModelSize(
        total=_numbers(model),
        vision=_numbers(tower) if tower is not None else 0,
        adapters=sum(one.in_features + one.out_features for one in language_linears(model)),
        block=max(map(_numbers, model.get_decoder().layers)),
        embedding=table.numel(),
        embeddings=table.numel() + (0 if head is table else head.numel()),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads_width=text.num_attention_heads * width,
        kv_width=kv_width,
        vocabulary=text.vocab_size,
        vision_hidden=vision.hidden_size,
        vision_layers=flops.full_layers + flops.window_layers,
        kv=2 * text.num_hidden_layers * kv_width,
        flops=flops,
        patch=patch,
        merge=merge_of(config),
        patch_values=3 * frames * patch**2,
        images=images,
    )


def _without_storage(tree: Tree, name: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        settings = {key: value for key, value in tree.items() if key != "model_type"}
        config = AutoConfig.for_model(tree["model_type"], **settings)
        with torch.device("meta"):
            return config, AutoModelForImageTextToText.from_config(config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name} has no config of a vision-language model that is known here: {error}."
        ) from None


def _numbers(module: Any) -> int:
    return sum(one.numel() for one in module.parameters())


def image_tokens(size: ModelSize, width: int, height: int) -> int:
    """Tokens of one picture by the processor's own rule, those that mark its tiles among them.

    Raises:
        InputError: the processor refuses such a picture.
    """
    try:
        count = size.images.get_number_of_image_patches(height, width, {})
    except ValueError as error:
        raise InputError(
            f"A picture of {width} x {height} pixels is refused by the model's processor: {error}."
        ) from None
    tile = size.flops.window // size.merge**2  # tokens
    if isinstance(count, tuple):  # Idefics3, SmolVLM: rows of tiles, each with two marks, then the whole
        _, rows, columns = count
        return int(tile + 3 + rows * (columns * (tile + 2) + 1))
    if hasattr(size.images, "merge_size"):  # Qwen
        return int(count // size.merge**2)
    return int(count * tile + 2)  # InternVL
