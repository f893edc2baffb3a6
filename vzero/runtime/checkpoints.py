"""Checkpoints are ordinary Hugging Face folders with safetensors weights; nothing else is read or written.

Pickled weights can run code when loaded, and so can code shipped inside a checkpoint: both are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vzero.errors import InputError, machine_failure
from vzero.runtime import chat_templates, compat, hub, weights
from vzero.runtime.artefacts import atomic_folder

if TYPE_CHECKING:
    import torch

POCKET = Path(__file__).resolve().parents[1] / "pocket" / "checkpoint"
_TOWERS = ("visual", "vision_tower", "vision_model")  # where Qwen, Llava, Idefics and their kin keep it
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.jinja")


def resolve(model: str) -> Path:
    """The folder of a model.

    Args:
        model: "pocket" (the shipped base checkpoint), a folder, or a hub id such as
            Qwen/Qwen2.5-VL-3B-Instruct, of which safetensors and text files are fetched.

    Raises:
        InputError: there is no such model, or it has no safetensors weights.
    """
    folder = folder_of(model)
    if folder is not None:
        return _checked(folder.resolve(), model)
    if model == "pocket":
        raise InputError(
            "The shipped pocket checkpoint is missing; rebuild it with `vzero-harness pocket build`."
        )
    if not hub.is_id(model):
        raise InputError(
            f"There is no model folder {model!r}; give a folder, a hub id like Qwen/Qwen2.5-VL-3B-Instruct,"
            " or pocket."
        )
    return _checked(hub.snapshot(model, "model", _WANTED), model)


def at_hand(model: str) -> Path | None:
    """As `resolve`, of a model that a stranger's run names: nothing is fetched. None where it is not here."""
    folder = folder_of(model)
    if folder is None and hub.is_id(model):
        folder = hub.cached(model, _WANTED)
    return None if folder is None else _checked(folder.resolve(), model)


def folder_of(model: str) -> Path | None:
    """The folder that a model's name means here; None where it means none."""
    try:
        folder = POCKET if model == "pocket" else Path(model).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # no name of a file, or a home of nobody
        return None


def plain_name(model: str) -> str:
    """A model's name without the place it lies in: as the hub has it, or that of a folder, there or not."""
    place = None if model == "pocket" else folder_of(model)
    if place is not None:
        return place.resolve().name
    return model if hub.is_id(model) else Path(model).name


def _checked(folder: Path, model: str) -> Path:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise InputError(
            f"{model} is an adapter and no whole model; merge it with its base, `vzero-harness export {model}"
            " --merge --to DIR`, and name DIR."
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{model} is not a checkpoint: it has no config.json; give a folder written by save_pretrained."
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{model} has no *.safetensors weights, and pickled ones are not loaded; convert them with"
            " save_pretrained."
        )
    try:
        for path in folder.rglob("*"):
            if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
                raise InputError(f"{path} is no regular file; get the checkpoint again.")
    except OSError as error:
        reason = f"A file of {model} cannot be looked at: {first_line(error)}."
        raise machine_failure(error, folder) or InputError(reason) from error
    for index in folder.glob("*.safetensors.index.json"):
        _check_index(index)
    return folder


def _check_index(index: Path) -> None:
    """Refuse an index that sends a loader to files that are not the checkpoint's own."""
    try:
        named = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        damaged = InputError(f"{index} is no index of weights; get the checkpoint again.")
        raise machine_failure(error, index) or damaged from None
    for name in named:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index} names {name!r}, which is no file of the checkpoint; do not use it.")
        if not (index.parent / name).is_file():
            raise InputError(f"{index.parent} lacks its file {name}; get the checkpoint again.")


def load_model(
    folder: Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    distribute: Callable[[Any], None] | None = None,
) -> Any:
    """The vision-language model of a checkpoint, in evaluation mode, with every weight from the file.

    Args:
        folder: see `resolve`.
        dtype: of the weights in memory; float32 by default, whatever the file holds.
        device: where the weights go, straight from the file.
        distribute: splits the model in place before any weight is read, so that each process reads its part.

    Raises:
        InputError: the folder does not hold a vision-language model in safetensors.
    """
    compat.install()
    import torch
    from transformers import AutoModelForImageTextToText

    from vzero.runtime import windows

    _checked(Path(folder), str(folder))
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        # transformers copies weights in threads, whose current device is always the first one.
        place = torch.device("cuda", torch.cuda.current_device())
    try:
        with _distributed(distribute):
            model, report = AutoModelForImageTextToText.from_pretrained(
                str(folder),
                dtype=dtype or torch.float32,
                device_map={"": place} if place.type != "cpu" else None,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # of damaged files transformers raises nearly anything
        reason = f"{folder} cannot be loaded as a vision-language model: {first_line(error)}."
        raise machine_failure(error, folder) or InputError(reason) from error
    # transformers leaves missing weights random, with no more than a warning.
    if absent := sorted(map(str, report["missing_keys"])):
        raise InputError(
            f"{folder} lacks {len(absent)} of the model's weights, {absent[0]} for one; get the checkpoint"
            " again."
        )
    weights.check_head(model, folder)
    weights.check_finite(model, folder)
    windows.group(model)
    return model.eval()


@contextmanager
def _distributed(distribute: Callable[[Any], None] | None) -> Iterator[None]:
    """Hugging Face's own place for splitting a model, which has no weights yet there, is `distribute` inside.

    By its public argument it would split what it has a plan for, which Qwen2.5-VL is not.
    """
    from transformers.distributed.mixin import DistributedMixin

    stock = DistributedMixin.__dict__["maybe_distribute_model"]

    def split(model: Any, *_: Any) -> Any:
        if distribute is not None:
            distribute(model)
        return model

    DistributedMixin.maybe_distribute_model = staticmethod(split)
    try:
        yield
    finally:
        DistributedMixin.maybe_distribute_model = stock


def rounded_as_autocast(model: Any) -> Any:
    """`model` with the weights that autocast would round to bfloat16 in each forward kept so, in place.

    They are those of linear and convolution layers. Norms, embeddings and the head, whose weights may be the
    embeddings', stay as they are: log-probabilities under autocast are the same to the bit.
    """
    import torch

    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv3d | torch.nn.Conv2d) and module is not head:
            module.to(torch.bfloat16)
    return model


def vision_tower(model: Any) -> torch.nn.Module | None:
    """The module that turns pixels into features; None where this family keeps it under an unknown name."""
    inner = getattr(model, "model", model)
    return next((tower for name in _TOWERS if (tower := getattr(inner, name, None)) is not None), None)


def load_processor(folder: Path) -> Any:
    """The processor (images, tokenizer, chat template) of a checkpoint, padding on the left for decoding.

    Raises:
        InputError: the folder has no processor or no chat template.
    """
    compat.install()
    from transformers import AutoProcessor

    compat.read_pictures_alone()
    try:
        processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        reason = f"{folder} has no processor that can be loaded: {first_line(error)}."
        raise machine_failure(error, folder) or InputError(reason) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise InputError(
            f"{folder} is a model without images: it has no image processor; choose a vision-language model."
        )
    if getattr(processor, "chat_template", None) is None:
        raise InputError(f"{folder} has no chat template; choose an instruction-tuned checkpoint.")
    chat_templates.check(processor, folder)
    processor.tokenizer.padding_side = "left"
    return processor


def image_settings(image_processor: Any) -> dict[str, Any]:
    """What an image processor does to a picture, as transformers has read its files: of Qwen's, `max_pixels`
    wins over `size`; processor_config.json wins over preprocessor_config.json."""
    read = json.loads(json.dumps(image_processor.to_dict(), default=str))
    return {
        key: value
        for key, value in read.items()
        if value is not None and not key.startswith("_") and key != "processor_class"
    }


def load_image_processor(folder: Path) -> Any:
    """The image processor alone; no tokenizer is read.

    Raises:
        InputError: there is none that can be loaded.
    """
    compat.install()
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        reason = f"{folder} has no image processor that can be loaded: {first_line(error)}."
        raise machine_failure(error, folder) or InputError(reason) from error


def inference_dtype(on_gpu: bool | None = None) -> str:
    """What frozen models compute in, by torch's name; None: here."""
    import torch

    return "bfloat16" if (torch.cuda.is_available() if on_gpu is None else on_gpu) else "float32"


def save(model: Any, processor: Any, folder: Path, weights: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint atomically; an older one is replaced.

    Args:
        model: a Hugging Face model; the weights keep their dtype.
        processor: saved with it, so that the folder can be used by itself.
        folder: where to.
        weights: of a model whose own weights are split over processes.
    """
    with atomic_folder(Path(folder)) as staging:
        model.save_pretrained(staging, state_dict=weights, safe_serialization=True)
        processor.save_pretrained(staging)


def first_line(error: BaseException) -> str:
    """The reason that an error gives, for a sentence; its name where it gives none."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")
