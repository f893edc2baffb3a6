"""What has to happen just before some module is first imported, whoever imports it.

The wheel of torchvision that a plain `pip install` finds is built for CUDA. Next to a CPU torch its compiled
operators do not load, and the import dies on "operator torchvision::nms does not exist" although nothing here
calls that operator. Declaring the two schemas before the import is enough.

transformers imports scikit-learn, and with it pandas, for assisted decoding alone: a third of what loading a
model's classes takes. It is told that there is none.

transformers writes out each configuration that it reads, beside its defaults, for a log that is off: half of
what loading a processor takes. Configurations are written in one word.

TRL imports wandb where it is installed, as it is with lmms-eval: a quarter of what importing the trainer
takes. It is told that there is none; transformers, which writes a tracked run's curves, is not.

Every Python of the environment runs this at start (a `.pth` line put there at set-up), so it imports only
what the interpreter has loaded already.
"""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_operators() -> None:
    import torch

    # Where the operators do load, declaring them again would fail.
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", _SIGNATURE)


def _leave_scikit_learn() -> None:
    sys.modules["transformers.utils"].is_sklearn_available = lambda: False  # type: ignore[attr-defined]


def _leave_wandb() -> None:
    import accelerate.utils
    import transformers.integrations

    for module in (transformers, transformers.integrations, accelerate.utils):
        module.is_wandb_available = lambda: False


def _name_configurations() -> None:
    from transformers.configuration_utils import PreTrainedConfig

    PreTrainedConfig.__repr__ = lambda self: type(self).__name__


def read_pictures_alone() -> None:
    """SmolVLM2's processor is not made without num2words, by which it writes in words how many frames a video
    has. No video is read here."""
    from transformers.models.smolvlm import processing_smolvlm

    def no_video(number: int) -> str:
        raise ImportError("Videos need the package num2words: pip install num2words.")

    processing_smolvlm.num2words = processing_smolvlm.num2words or no_video


_BEFORE = {
    "torchvision": _declare_operators,
    "transformers.generation.candidate_generator": _leave_scikit_learn,
    "transformers.models.auto.configuration_auto": _name_configurations,
    "trl.trainer": _leave_wandb,
}


class _Finder:
    """Finds nothing: it does what comes just before the first import of a module."""

    def __init__(self) -> None:
        self.waiting = {name: act for name, act in _BEFORE.items() if name not in sys.modules}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if act := self.waiting.pop(fullname, None):
            with contextlib.suppress(ImportError):  # no torch: torchvision will say so itself
                act()
        return None


def install() -> None:
    """Put the hook in place; calling it again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
