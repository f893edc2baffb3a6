"""What `vzero-harness plan` assumes of machines, before anything has run on them.

Cards stand in cards.toml. Rates say what share of a card's peak is put to use and how long the rest takes;
each is assumed until `tools/gpu_check.py` has measured it on such a card, which writes
`results/gpu/CARD/rates.json`. Assumed ones are low rather than high, since a plan that promises too few hours
costs more than one that promises too many.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from vzero.errors import InputError

MEASURED = Path(__file__).resolve().parents[2] / "results" / "gpu"  # of a checkout
RATES = "rates.json"


@dataclass(frozen=True)
class Rates:
    """What a machine reaches.

    Attributes:
        computing: share of the peak operations while training and reading prompts.
        decoding: share of the peak bandwidth in a step of decoding by vLLM; `unfused`: where transformers
            generates, kernel by kernel.
        picture_seconds: of one core, to decode a picture of one megapixel and make patches of it.
        read, write: bytes a second of a checkpoint that is loaded onto the device, or saved.
        start_seconds: of a stage, until it has imported everything; `engine_seconds`: until vLLM serves.
    """

    computing: float = 0.35
    decoding: float = 0.5
    unfused: float = 0.1
    picture_seconds: float = 0.03
    read: float = 1.0e9
    write: float = 0.7e9
    start_seconds: float = 20.0
    engine_seconds: float = 90.0


@dataclass(frozen=True)
class Machine:
    """One device.

    Attributes:
        tflops: peak operations, in bfloat16 on GPUs; `bandwidth`: bytes a second.
        memory: bytes of a GPU; None for the CPU.
        measured: names of the `rates` that were; the others are assumed.
    """

    name: str
    tflops: float
    bandwidth: float
    memory: float | None
    rates: Rates = Rates()
    measured: frozenset[str] = frozenset()


# Peaks measured on two cores (results/profile); shares fitted to the pocket preset's time in results/pocket,
# where transformers draws. A stage there imports for about seven seconds (docs/performance.md).
CPU = Machine(
    "one process on two CPU cores",
    0.194,
    5.15e10,
    None,
    Rates(
        computing=0.2, decoding=0.25, unfused=0.25, picture_seconds=1e-3, start_seconds=7, engine_seconds=0
    ),
)


@lru_cache(maxsize=1)
def cards() -> dict[str, dict[str, str | float]]:
    """The rows of cards.toml by kind."""
    return tomllib.loads((resources.files("harness.perf") / "cards.toml").read_text("utf-8"))


def card(kind: str, measured: Path = MEASURED) -> Machine:
    """A known card, with what was measured on one where that is at hand. A kind may be shortened ("h100")
    as long as one card begins so.

    Raises:
        InputError: an unknown or ambiguous kind, or a file of rates that cannot be read.
    """
    named = [name for name in cards() if name == kind] or [
        name for name in cards() if name.startswith(f"{kind}-")
    ]
    if len(named) != 1:
        raise InputError(
            f"--gpu {kind!r} names {len(named) or 'no'} known cards; choose one of {', '.join(cards())}, and "
            "--gpu-memory for another size."
        )
    row = {key: value for key, value in cards()[named[0]].items() if key != "driver"}
    return with_rates(Machine(**row), measured / named[0] / RATES)  # type: ignore[arg-type]


def with_rates(machine: Machine, path: Path) -> Machine:
    """`machine` with the rates in `path`, which gpu_check writes; as it is where there is no such file.

    Raises:
        InputError: the file holds something else.
    """
    if not path.is_file():
        return machine
    known = {field.name for field in fields(Rates)}
    try:
        found: Mapping[str, float] = json.loads(path.read_text("utf-8"))["rates"]
        if not found.keys() <= known or not all(float(value) > 0 for value in found.values()):
            raise ValueError("unknown or impossible rates")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} holds no rates of gpu_check ({error}); measure again, or remove it."
        ) from None
    return replace(machine, rates=replace(machine.rates, **found), measured=frozenset(found))


def kind_of(driver: str, memory: float) -> str:
    """The kind of the card that the driver calls `driver`, by its memory in bytes where several have the
    name; of one that is not known, words of its name and its GB."""
    alike = [name for name, row in cards().items() if str(row["driver"]).lower() in driver.lower()]
    near = min(alike, key=lambda name: abs(float(cards()[name]["memory"]) - memory), default=None)
    if near is not None and abs(float(cards()[near]["memory"]) - memory) < 0.15 * memory:
        return near
    words = "".join(c if c.isalnum() else " " for c in driver.lower()).split()
    return "-".join([*(word for word in words if word != "nvidia"), f"{memory / 1e9:.0f}"])
