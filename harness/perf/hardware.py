"""What `vzero-harness plan` assumes of machines and of questions, before anything has run.

The shares of a GPU's peak are guesses: nothing of this project has been measured on one. They are low rather
than high, since a plan that promises too few hours costs more than one that promises too many.
`vzero-harness profile` measures yours (MFU, bandw.).
"""

from __future__ import annotations

from dataclasses import dataclass

VALID = 0.9  # of the Questioner's completions are questions
KEPT = 0.5  # of these the filter keeps


@dataclass(frozen=True)
class Machine:
    """One device.

    Attributes:
        tflops: peak operations, in bfloat16 on GPUs; `computing`: the share of them that training and reading
            prompts reach.
        bandwidth: bytes a second; `decoding`: the share of it that a step of decoding reaches.
        unfused: what is left of `decoding` where transformers generates, kernel by kernel.
        memory: bytes of a GPU; None for the CPU.
    """

    name: str
    tflops: float
    bandwidth: float
    memory: float | None
    computing: float = 0.35
    decoding: float = 0.5
    unfused: float = 0.2


# Peaks as their makers state them (dense bfloat16).
GPUS = {
    "a100-40": Machine("A100 40 GB", 312.0, 1.555e12, 40e9),
    "a100-80": Machine("A100/A800 80 GB", 312.0, 2.039e12, 80e9),
    "h100": Machine("H100 80 GB", 989.0, 3.35e12, 80e9),
    "h200": Machine("H200 141 GB", 989.0, 4.8e12, 141e9),
}
# Peaks measured on two cores (results/profile); shares fitted to the pocket preset's time in results/pocket,
# where transformers draws.
CPU = Machine("one process on two CPU cores", 0.194, 5.15e10, None, computing=0.2, decoding=0.25, unfused=1.0)
