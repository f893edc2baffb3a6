"""Low-rank adapters (LoRA, arXiv 2106.09685) on the language model: W x + (alpha / rank) B A x with W frozen,
B zero at first.

The reference of the KL term is the same model with its adapters switched off, so nothing is held twice. PEFT
computes the adapters; what a stage leaves behind is a whole checkpoint with the adapters added in,
which any engine loads and later stages start from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from pydantic import BaseModel, Field
from torch import Tensor

from vzero.config import LoraConfig
from vzero.errors import InputError, machine_failure
from vzero.rollout.transformers_engine import unwrap
from vzero.runtime import artefacts, checkpoints, weights

NAME = "default"  # PEFT's for the only adapter
# What is read before this, or said another way by an adapter's weights, or of training it alone.
_WITHOUT_EFFECT = (
    *("peft_type", "r", "lora_alpha", "use_rslora", "base_model_name_or_path", "revision", "peft_version"),
    *("task_type", "auto_mapping", "inference_mode", "lora_dropout", "init_lora_weights", "megatron_core"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
)


def peft_config(model: Any, lora: LoraConfig) -> PeftConfig:
    """For PEFT: every linear layer of the language model's blocks by its name, nothing of the vision
    tower, not the output head.

    Raises:
        InputError: no such layer is found.
    """
    decoder = model.get_decoder()
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(f"{prefix}.")
    ]
    if not prefix or not linear:
        raise InputError(
            f"lora does not know where {type(model).__name__} keeps its language model; train without lora."
        )
    return PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=linear,
        lora_dropout=0.0,  # the ratio must start at 1: old and new log-probabilities come from one function
        bias="none",
        init_lora_weights=True,
        use_rslora=False,
    )


def load_frozen(checkpoint: Path, device: str) -> Any:
    """The model to put adapters on: without gradients it needs no more than the bfloat16 that it computes in
    on a GPU."""
    return checkpoints.load_model(checkpoint, torch.bfloat16 if device == "cuda" else torch.float32, device)


def wrap(model: torch.nn.Module, lora: LoraConfig, seed: int) -> PeftModel:
    """`model` under new adapters that change nothing yet; they alone get gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**32)
        return get_peft_model(model, peft_config(model, lora))


def _adapted(model: torch.nn.Module) -> dict[str, LoraLayer]:
    """Adapted layers by their names in the model without adapters."""
    found = unwrap(model).named_modules()
    return {name: module for name, module in found if isinstance(module, LoraLayer)}


def _update(layer: LoraLayer) -> Tensor:
    """What the adapter adds to its layer's weight: (outputs, inputs) float32."""
    up, down = (factors[NAME].weight.detach().float() for factors in (layer.lora_B, layer.lora_A))
    update: Tensor = up @ down * layer.scaling[NAME]
    return update


def whole_weights(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of `model` by its name without adapters, these added in; one at a time, no copy of what is
    not adapted."""
    adapted = {f"{name}.base_layer.weight": layer for name, layer in _adapted(model).items()}
    for name, parameter in unwrap(model).named_parameters():
        own = name.replace(".base_layer.", ".")
        if name in adapted:
            yield own, parameter.detach().float() + _update(adapted[name])
        elif ".lora_" not in name:
            yield own, parameter.detach()


def merged(model: torch.nn.Module, base: Path) -> Any:
    """The model of the checkpoint `base` in float32 on the CPU with the adapters of `model` added in; other
    weights are the file's own.

    Read from the file and not from `model`, which may hold the frozen weights at half precision.
    """
    whole = checkpoints.load_model(base, torch.float32)
    with torch.no_grad():
        for name, layer in _adapted(model).items():
            whole.get_parameter(f"{name}.weight").add_(_update(layer).cpu())
    return whole


def save(model: torch.nn.Module, lora: LoraConfig, folder: Path) -> None:
    """The adapters alone, as PEFT writes them: what `merged` adds to the weights that the stage began
    with."""
    from safetensors.torch import save_file

    layers = _adapted(model)
    factors = {
        f"base_model.model.{name}.lora_{side}.weight": factor[NAME].weight.detach().float().cpu().contiguous()
        for name, layer in layers.items()
        for side, factor in (("A", layer.lora_A), ("B", layer.lora_B))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = PeftConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=sorted(layers), inference_mode=True
    )
    config.save_pretrained(folder)


def read_config(folder: Path) -> PeftConfig:
    """Rank, scale and layers of an adapter. PEFT is given nothing else of its settings: they name modules to
    import and files to load, hold patterns without end, and ask for any size.

    Raises:
        OSError, ValueError: it cannot be read, or is more than W x + (alpha / rank) B A x.
    """
    from safetensors import safe_open

    class Settings(BaseModel, strict=True):
        peft_type: Literal["LORA"]
        r: int = Field(ge=1)
        lora_alpha: float
        use_rslora: bool = False
        target_modules: str | list[str]

    found = artefacts.read_json(folder / "adapter_config.json")
    read, usual = Settings.model_validate(found), PeftConfig()
    for name, value in found.items():
        if value and name not in _WITHOUT_EFFECT and value != getattr(usual, name, None):
            raise ValueError(f"{name} is a setting that is not read here")
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = [name for name in file.keys() if ".lora_A." in name]  # noqa: SIM118 # it is no dictionary
        ranks = {name: file.get_slice(name).get_shape()[0] for name in names}
    if set(ranks.values()) != {read.r}:
        raise ValueError(f"its weights are of another rank than {read.r}")
    own = sorted(name.removeprefix("base_model.model.").partition(".lora_A.")[0] for name in ranks)
    return PeftConfig(
        r=read.r,
        lora_alpha=read.lora_alpha,
        use_rslora=read.use_rslora,
        # A text is a pattern to PEFT, or a word for many layers; a list has a name or its end for each.
        target_modules=own if isinstance(read.target_modules, str) else read.target_modules,
        inference_mode=True,
    )


def load_adapted(base: Path, folder: Path) -> Any:
    """The model of the checkpoint `base` in float32 with the adapter in `folder` added in.

    Raises:
        InputError: no adapter of low rank in safetensors, not one of this base, or one that is NaN.
    """
    model = checkpoints.load_model(base, torch.float32)
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(f"{folder} has no adapter_model.safetensors, and pickled adapters are not loaded.")
    try:
        adapted = PeftModel(model, read_config(folder), NAME)
        keys = adapted.load_adapter(folder, NAME, torch_device="cpu", local_files_only=True)
        if odd := [*keys.missing_keys, *keys.unexpected_keys]:
            raise ValueError(f"weights are missing or have no place in the model, {odd[0]} for one")
        whole = adapted.merge_and_unload().eval()
    except Exception as error:  # of damaged files PEFT raises nearly anything
        unfit = InputError(f"{folder} is no adapter that fits {base}: {checkpoints.first_line(error)}.")
        raise machine_failure(error, folder) or unfit from error
    weights.check_finite(whole, folder)
    return whole
