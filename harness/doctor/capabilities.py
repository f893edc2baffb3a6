"""What a preset may ask for and this version cannot do yet. Such a preset is refused before anything starts,
never run as something less.

Each entry goes away with the code that makes it untrue; `plan`, `doctor` and `--show` take any preset.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vzero.config import Preset
from vzero.errors import InputError

DRIVER = Path("/proc/driver/nvidia/version")  # shown by the kernel module; asking torch would take seconds


def missing(preset: Preset, evaluates: bool = True) -> list[str]:
    """What `preset` needs and is not there, in words; empty if it can run.

    Args:
        evaluates: whether the held-out suites are to be run as well.
    """
    found = []
    if preset.lora is not None and preset.launch.strategy == "fsdp2":
        found.append(
            "low-rank adapters on weights that are split over GPUs "
            '(lora with launch.strategy "fsdp2"; "ddp" keeps them whole)'
        )
    if preset.launch.nodes > 1 and preset.launch.cluster is None:
        found.append("machines beside this one (launch.nodes) without a cluster: --cluster, docs/launch.md")
    if preset.launch.cluster is not None and find_spec("ray") is None:
        found.append("Ray (--cluster): install the extra `cluster`")
    if evaluates:
        from harness.evals.catalogue import suites

        unknown = [name for name in preset.evaluation.suites if name not in suites()]
        if unknown:
            found.append(f"the suites {', '.join(unknown)} (evaluation.suites)")
    return found


def require(preset: Preset, evaluates: bool = True) -> None:
    """Refuse what cannot be run as it is written.

    Raises:
        InputError: naming everything that is missing, or the GPU.
    """
    if found := missing(preset, evaluates):
        raise InputError(
            f"The preset {preset.name} cannot be run by this version, which lacks {'; '.join(found)}. "
            "`vzero-harness plan` computes what it would take; change those settings with --set, or choose "
            "another preset."
        )
    if preset.launch.gpus and preset.launch.cluster is None and not DRIVER.exists():
        raise InputError(
            f"The preset {preset.name} trains on a GPU and no NVIDIA driver is to be seen; "
            f"`vzero-harness doctor --preset {preset.name}` says what to do, "
            "--set launch.gpus=0 trains on the CPU."
        )
