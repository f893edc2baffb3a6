"""A resolved preset as text that `--preset FILE.toml` reads back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def as_toml(tree: Mapping[str, Any], prefix: str = "") -> str:
    """Nested settings as TOML, plain values before tables; settings that are None (TOML has none) are left
    out."""
    plain = [
        f"{key} = {_value(value)}"
        for key, value in tree.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    parts = ["\n".join(plain)] if plain else []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            inner = as_toml(value, f"{prefix}{key}.")
            header = "" if all(isinstance(one, Mapping) for one in value.values()) else f"[{prefix}{key}]\n"
            parts.append(header + inner)
    return "\n\n".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return "".join(map(_printable, json.dumps(value, ensure_ascii=False)))


def _printable(c: str) -> str:
    """Whoever reads a stranger's preset on a terminal sees all of it."""
    if "\ud800" <= c <= "\udfff":  # TOML has no such character
        return "\ufffd"
    return c if c.isprintable() else f"\\U{ord(c):08x}"
