"""Let a CUDA build of torchvision be imported next to a CPU build of torch.

The wheel of torchvision that a plain `pip install` finds is built for CUDA. Next to a CPU torch its compiled
operators do not load, and the import dies on "operator torchvision::nms does not exist" although nothing here
calls that operator. Declaring the two schemas before the import is enough. Every Python of the environment
runs this at start (a `.pth` line put there at set-up), so it imports only what the interpreter has loaded
already.
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


class _TorchvisionFinder:
    """Finds nothing: it declares the operators just before the first import of torchvision."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            with contextlib.suppress(ImportError):  # no torch: torchvision will say so itself
                _declare_operators()
        return None


def install() -> None:
    """Put the hook in place; calling it again changes nothing."""
    there = any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path)
    if not there and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, _TorchvisionFinder())
