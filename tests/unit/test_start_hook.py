"""The line that set-up puts into every Python of an environment, with and without the package it names."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def hook() -> str:
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "tools" / "setup_env.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for themselves
    spec.loader.exec_module(module)
    return module.HOOK


@pytest.mark.parametrize(("package", "said"), [(None, ""), ("print('hooked')", "hooked\n")])
def test_a_python_starts_in_silence_where_the_package_is_gone(
    tmp_path: Path, package: str | None, said: str
) -> None:
    """Run as `site` runs the .pth files of an environment's folder of packages."""
    (tmp_path / "vzero_compat.pth").write_text(hook(), encoding="utf-8")
    if package is not None:
        (tmp_path / "vzero.py").write_text(package, encoding="utf-8")
    start = f"import site; site.addsitedir({str(tmp_path)!r})"
    command = [sys.executable, "-I", "-S", "-c", start]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (said, "")


def test_the_classes_of_models_come_without_scikit_learn_and_pandas_wherever_python_starts(
    tmp_path: Path,
) -> None:
    """transformers wants them for assisted decoding, which nothing here uses. Nor is a configuration written
    out whole, beside its defaults, where it is only named. The environment's own line does this, and lets
    torchvision be imported beside a CPU torch: nothing of this project is named."""
    program = (
        "import sys\nfrom transformers import AutoConfig, AutoModelForImageTextToText, GenerationMixin\n"
        "assert str(AutoConfig.for_model('qwen2_5_vl')) == 'Qwen2_5_VLConfig'\n"
        "import torchvision\n"
        "print([one for one in ('sklearn', 'pandas', 'scipy.stats') if one in sys.modules])\n"
        "from transformers.generation.candidate_generator import AssistedCandidateGenerator\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_trainer_comes_without_wandb_and_a_tracked_run_finds_it() -> None:
    """TRL imports it wherever it is installed: a quarter of what importing the trainer takes."""
    program = (
        "import sys\nfrom trl import GRPOTrainer\n"
        "print('wandb' in sys.modules)\n"
        "from transformers.integrations.integration_utils import WandbCallback\n"
        "WandbCallback()\n"
        "from accelerate.tracking import _available_trackers\n"
        "print('wandb' in sys.modules and 'wandb' in map(str, _available_trackers))\n"
    )
    pytest.importorskip("wandb")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\nTrue\n"), done.stderr
