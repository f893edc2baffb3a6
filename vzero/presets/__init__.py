"""Presets as files and as changes: the shipped ones, those of users, settings given on the command line, and
what differs between two."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vzero.config import OPERATIONAL, Preset
from vzero.errors import InputError


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("vzero.presets").iterdir()
        if entry.name.endswith(".toml")
    )


def load_preset(name: str, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Preset:
    """A validated preset.

    Args:
        name: a shipped preset, or the path of a TOML file.
        overrides: ``section.key=value`` strings, values in TOML syntax (bare words are strings).
        changes: dotted keys with values already parsed, applied after `overrides`.

    Raises:
        InputError: unknown preset, unknown key or a value that does not fit, in one sentence.
    """
    tree = _read_toml(name)
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise InputError(f"--set needs key=value, e.g. solver.grpo.learning_rate=2e-6; got {text!r}.")
        _assign(tree, key.strip(), _toml_value(value.strip()))
    for key, value in (changes or {}).items():
        _assign(tree, key, value)
    try:
        return Preset.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error, name)) from None


def changed(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    """`preset` with other values for some dotted keys.

    Raises:
        InputError: an unknown key or a value that does not fit.
    """
    tree = preset.model_dump(mode="json")
    for key, value in changes.items():
        _assign(tree, key, value)
    try:
        return Preset.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error, preset.name)) from None


def _read_toml(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"Cannot read the preset file {name}: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise InputError(f"The preset file {name} is not text in UTF-8.") from None
    elif name in preset_names():
        text = (resources.files("vzero.presets") / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise InputError(
            f"There is no preset {name!r}; choose one of {', '.join(preset_names())}, or give a .toml file."
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The preset {name} is not valid TOML: {error}.") from None


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


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
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return (
            f"{key!r} is not a setting; see `vzero-harness reproduce --preset {name} --show` for all of them."
        )
    if first["type"] == "value_error":  # of a whole section, by one of the validators above
        return f"{key or 'the preset'}: {first['ctx']['error']}."
    return f"{key or 'the preset'}: {first['msg']} (got {first.get('input')!r})."


def content_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """As `differences`, without the settings that determine nothing: see `EngineConfig.content`; the place of
    data."""
    operational = {
        "rollouts.gpu_memory",
        "launch.join_seconds",
        "launch.node_seconds",
        "evaluation.data",
        *(["evaluation.data_sha256"] if not _pinned(one) else []),
        *(f"engine.{name}" for name in OPERATIONAL),
    }
    return [key for key in differences(one, other) if key not in operational]


def _pinned(tree: Mapping[str, Any]) -> bool:
    """Whether a dumped preset states its benchmark data's content; one of a run that only trained so far does
    not."""
    return bool(tree.get("evaluation", {}).get("data_sha256"))


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
