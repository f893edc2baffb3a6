"""The forms in which a checkpoint is exported: another dtype, files for transformers 4, an adapter alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vzero.errors import InputError, machine_failure
from vzero.runtime import artefacts, checkpoints

if TYPE_CHECKING:
    from torch import Tensor

Dtype = Literal["bf16", "fp32"]
NAMES: Mapping[Dtype, str] = {"bf16": "bfloat16", "fp32": "float32"}
# Largest change of the logits against the run's checkpoint, as a share of their spread. Rounding weights to
# bfloat16 moves them by about 1 %; weights or rope in the wrong place by about all.
TOLERANCE = {None: 1e-4, "fp32": 1e-4, "bf16": 0.1}


@dataclass(frozen=True)
class Form:
    """What is written.

    Attributes:
        dtype: of the weights; None leaves them as the run has them.
        transformers4: whether the files are those that transformers 4 reads.
        adapter_only: whether the adapter over the base is written instead of a whole model.
    """

    dtype: Dtype | None = None
    transformers4: bool = False
    adapter_only: bool = False


AS_IT_IS = Form()


def rewrite(folder: Path, form: Form) -> None:
    """Bring a whole checkpoint in `folder` into its form."""
    if form.dtype is not None:
        _cast(folder, NAMES[form.dtype])
    if form.transformers4:
        _for_transformers4(folder)


def _cast(folder: Path, dtype: str) -> None:
    """All floating weights to `dtype`, file by file."""
    import torch
    from safetensors.torch import load_file, save_file

    size = 0
    for path in sorted(folder.glob("*.safetensors")):
        weights = load_file(path)
        cast = {
            name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
            for name, value in weights.items()
        }
        save_file(cast, path, metadata={"format": "pt"})
        size += sum(value.nbytes for value in cast.values())
    for index in folder.glob("*.safetensors.index.json"):
        tree = artefacts.read_json(index)
        artefacts.write_json(index, {**tree, "metadata": {**tree.get("metadata", {}), "total_size": size}})
    config = artefacts.read_json(folder / "config.json")
    for part in _parts(config):
        if "dtype" in part:
            part["dtype"] = dtype
    artefacts.write_json(folder / "config.json", config)


def _parts(config: Any) -> list[Any]:
    """A config and those nested in it."""
    return [config, *(part for value in config.values() if isinstance(value, dict) for part in _parts(value))]


def _for_transformers4(folder: Path) -> None:
    """Files as transformers 4.57 reads them; 5 reads them too. Without them 4 takes a default for the base of
    the rotary positions, silently.

    Raises:
        InputError: the rotary positions differ by kind of layer, for which transformers 4 has no one form.
    """
    config = artefacts.read_json(folder / "config.json")
    for part in _parts(config):
        rope = part.get("rope_parameters")
        if not rope or rope.get("rope_type") == "axial":
            continue
        if "rope_theta" not in rope:
            raise InputError(
                "This model's rotary positions differ by kind of layer, or do not name their base, which"
                " --for transformers4 cannot write; export it without."
            )
        theta = part.pop("rope_parameters").pop("rope_theta")
        part["rope_theta"] = theta
        if rope != {"rope_type": "default"}:
            part["rope_scaling"] = rope
    artefacts.write_json(folder / "config.json", config)
    tokenizer = artefacts.read_json(folder / "tokenizer_config.json")
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer.pop("backend", None)
    artefacts.write_json(folder / "tokenizer_config.json", tokenizer)
    if (folder / "processor_config.json").exists():
        whole = artefacts.read_json(folder / "processor_config.json")
        for part, name in (("image_processor", "preprocessor"), ("video_processor", "video_preprocessor")):
            if part in whole:
                settings = {**whole.pop(part), "processor_class": whole.get("processor_class")}
                artefacts.write_json(folder / f"{name}_config.json", settings)
        artefacts.write_json(folder / "processor_config.json", whole)


def write_adapter(parts: Sequence[Path], base: str, folder: Path) -> None:
    """One adapter of `base` that does what the adapters of all `parts` do one after another: B1 A1 + B2 A2 is
    [B1 B2] [A1; A2].

    Raises:
        InputError: they are not adapters of one form.
    """
    import torch
    from safetensors.torch import load_file, save_file

    from vzero.grpo.adapters import read_config

    try:
        factors = [load_file(part / "adapter_model.safetensors") for part in parts]
        *others, config = (read_config(part) for part in parts)
        if any((one.r, one.lora_alpha) != (config.r, config.lora_alpha) for one in others):
            raise ValueError("their ranks differ")
        joined = {
            name: torch.cat([one[name] for one in factors], 0 if ".lora_A." in name else 1)
            for name in factors[0]
        }
    except Exception as error:  # of a stranger's run; torch and safetensors have no common error
        unfit = InputError(f"The adapters of this run do not fit together: {checkpoints.first_line(error)}.")
        raise machine_failure(error, folder) or unfit from error
    config.r, config.lora_alpha = config.r * len(parts), config.lora_alpha * len(parts)
    config.base_model_name_or_path = base
    save_file(joined, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def check_loads(folder: Path, reference: Path, form: Form, base: Path | None = None) -> float:
    """Load what was written, let it draw a token about a picture, and compare its logits with those of the
    checkpoint `reference`; `base` is the model under an adapter.

    Returns: the root mean square of the difference over the standard deviation of the reference's logits.

    Raises:
        InputError: it does not load, draws nothing or says something else.
    """
    from vzero.grpo.adapters import load_adapted

    wanted = _logits(checkpoints.load_model(reference), reference)
    processor = folder if base is None else base
    model = checkpoints.load_model(folder) if base is None else load_adapted(base, folder)
    found = _logits(model, processor)
    change = float((found - wanted).pow(2).mean().sqrt() / wanted.std())
    if not change <= TOLERANCE[form.dtype]:
        raise InputError(
            f"What was written says something else than the checkpoint: its logits differ by {change:.2g} of"
            " their spread. It is not kept; export it as it is, and report this."
        )
    return change


def _logits(model: Any, processor_folder: Path) -> Tensor:
    """(vocabulary,) float32: of the first token of an answer about a picture, which is drawn too."""
    import torch
    from PIL import Image

    from vzero.rollout.protocol import Message
    from vzero.rollout.template import render

    processor = checkpoints.load_processor(processor_folder)
    picture = Image.linear_gradient("L").convert("RGB").resize((84, 56))
    text = render(processor, [Message("user", "What does the image show?")], with_image=True)
    inputs = processor(text=[text], images=[[picture]], return_tensors="pt")
    with torch.inference_mode():
        logits: Tensor = model(**inputs).logits[0, -1].float()
        drawn = model.generate(**inputs, max_new_tokens=1, do_sample=False)
    if drawn.shape[1] != inputs["input_ids"].shape[1] + 1:
        raise InputError("What was written draws no token. It is not kept; report this.")
    return logits
