"""Presets: shipped ones and users' files, with settings of the command line; and how two presets differ."""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vzero.config import OPERATIONAL, Preset
from vzero.errors import InputError, machine_failure

MAX_BYTES = 1 << 20  # of a preset's or an arm's file; it is written into every run
RENAMED = {
    "dialect": "prompt_format",
    "matched": "step_matched",
    "evaluation.opening_words": "evaluation.prefill_words",
}
# Settings that may change between a run's attempts: they say how and where, not what (EngineConfig.content).
_NO_CONTENT = frozenset(
    {"rollouts.gpu_memory", "rollouts.max_logprob_gap", "evaluation.data", "evidence"}
    | {"launch.cluster", "launch.join_seconds", "launch.checkpoint_minutes", "launch.max_concurrent_stages"}
    | {f"engine.{name}" for name in OPERATIONAL}
)


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    files = (entry.name for entry in resources.files("vzero.presets").iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def load_preset(name: str, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Preset:
    """A validated preset.

    Args:
        name: a shipped preset, or the path of a TOML file.
        overrides: ``section.key=value`` strings, values in TOML syntax (bare words are strings).
        changes: dotted keys with values already parsed, applied after `overrides`.

    Raises:
        InputError: unknown preset, unknown key or a value that does not fit, in one sentence.
    """
    tree = read_toml(_preset_text(name), f"The preset {name}")
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set needs key=value, e.g. solver.grpo.learning_rate=2e-6; got {text!r}.")
        _assign(tree, key.strip(), _toml_value(value.strip()))
    return _validated(tree, changes or {}, name)


def changed(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    """`preset` with other values for some dotted keys.

    Raises:
        InputError: an unknown key or a value that does not fit.
    """
    return _validated(preset.model_dump(mode="json"), changes, preset.name)


def read_toml(text: str, what: str) -> dict[str, Any]:
    """A TOML text as a tree; `what` begins the error's sentence.

    Raises:
        InputError: it is not valid TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid TOML: {error}.") from None


def read_small(path: Path, what: str) -> str:
    """The text of a file of at most a mebibyte; `what` it is, for the sentence.

    Raises:
        InputError: it cannot be read, or is none.
        InterruptedRun: the disk fails.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"The {what} {path} is no regular file.")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        refused = InputError(f"Cannot read the {what} {path}: {error.strerror}.")
        raise machine_failure(error, path) or refused from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than 1 MiB, so it is no {what}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"The {what} {path} is not text in UTF-8.") from None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys; anything but a mapping is a leaf."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two dumped presets, sorted."""
    found: list[str] = []
    for key in sorted({*one, *other}):
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(prefix + key)
    return found


def content_differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """As `differences`, without the settings that do not determine what a run computes; see `current`."""
    ignored = set(_NO_CONTENT)
    if not stored.get("evaluation", {}).get("data_sha256"):  # a run that only trained so far: not yet pinned
        ignored.add("evaluation.data_sha256")
    before, now = stored.get("step_matched"), wanted.get("step_matched")
    if before is not None and now is not None and list(before) == list(now)[: len(before)]:
        ignored.add("step_matched")  # a later iteration's count became known
    return [key for key in differences(current(stored), wanted) if key not in ignored]


def content(preset: Preset) -> dict[str, Any]:
    """What determines a run but its luck: dotted settings without the seed and the counts that a grid takes
    from another run of that seed."""
    luck = {"seed", "step_matched"}
    flat = flatten(preset.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key not in _NO_CONTENT | luck}


def current(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored preset with the settings that came into the program since, at their defaults; as it is where
    this version does not know it."""
    with suppress(ValidationError):
        return Preset.model_validate(stored).model_dump(mode="json")
    return stored


def _preset_text(name: str) -> str:
    if Path(name).suffix == ".toml":
        return read_small(Path(name), "preset file")
    if name not in preset_names():
        raise InputError(
            f"There is no preset {name!r}; choose one of {', '.join(preset_names())}, or give a .toml file."
        )
    return (resources.files("vzero.presets") / f"{name}.toml").read_text(encoding="utf-8")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _validated(tree: dict[str, Any], changes: Mapping[str, Any], name: str) -> Preset:
    for key, value in changes.items():
        _assign(tree, key, value)
    try:
        return Preset.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error, name)) from None


def _assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        if tree.get(parent) is None:  # an optional part, as lora
            tree[parent] = {}
        tree = tree[parent]
        if not isinstance(tree, dict):
            raise InputError(f"{dotted!r} is not a setting: {parent!r} has no parts.")
    tree[last] = value


def _explain(error: ValidationError, name: str) -> str:
    """The first error as a sentence; a setting or value under its old name is answered with the new one."""
    first = error.errors()[0]
    key, given = ".".join(str(part) for part in first["loc"]), first.get("input")
    if first["type"] == "extra_forbidden":
        if key in RENAMED:
            return f"{key!r} is now called {RENAMED[key]!r}."
        return f"{key!r} is not a setting; `vzero-harness reproduce --preset {name} --show` lists them all."
    if first["type"] == "value_error":  # of a whole section, by one of its own validators
        return f"{key or 'the preset'}: {first['ctx']['error']}."
    if first["type"] == "literal_error" and isinstance(given, str):
        snake = given.replace("-", "_")  # how enumerated values were once written
        if snake != given and repr(snake) in first["ctx"]["expected"]:
            return f"{key}: {given!r} is now written {snake!r}."
    return f"{key or 'the preset'}: {first['msg']} (got {reprlib.repr(given)})."
