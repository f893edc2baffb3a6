"""The real processor of Qwen2.5-VL for tests, as `tools/qwen_tokenizer.py` builds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.made_once import made_once
from tools.qwen_tokenizer import build, cache
from vzero.errors import InputError


def qwen_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder in the cache, else one built for these tests; where neither can be had the test is
    skipped."""
    if (cache() / "tokenizer.json").exists():
        return cache()
    try:
        return made_once(factory, "qwen2.5-vl", build)
    except InputError as error:
        pytest.skip(f"no processor of Qwen2.5-VL: {error}")
