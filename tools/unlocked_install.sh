#!/bin/sh
# Do the ranges in pyproject.toml work without the lock? Builds the wheel, installs it as a user's `pip install` would resolve it today,
# into an environment of its own, runs smoke and check there from an empty folder, and uninstalls. `make unlocked` calls it.
#
# Two things differ from a plain `pip install WHEEL`: torch comes first, in the build that .venv has (a free resolve would take a CUDA
# build of 3 GB), and uv resolves, which is quicker than pip.
set -eu
root="$(cd "$(dirname "$0")/.." && pwd)"
python="$root/.venv/bin/python"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT

mkdir "$place/tree" # a copy: a build writes beside what it builds
cp -R "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/vzero" "$root/harness" "$place/tree"
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$place" "$place/tree"

torch="$("$python" -c 'import importlib.metadata as m; print(m.version("torch"))')"
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check "torch==$torch"
cd "$root" # uv's settings here leave torch out
"$python" -m uv pip install --quiet --python "$place/venv/bin/python" "$place"/vzero_harness-*.whl fsspec networkx setuptools sympy typing-extensions

mkdir "$place/empty" # nothing of the checkout is in reach
cd "$place/empty"
"$place/venv/bin/vzero-harness" doctor --imports
"$place/venv/bin/vzero-harness" reproduce --preset smoke --out run
"$place/venv/bin/vzero-harness" check run
"$python" -m uv pip uninstall --quiet --python "$place/venv/bin/python" vzero-harness
left="$(find "$place/venv" -path '*vzero*' -o -path '*/site-packages/harness*' | head -n 3)"
[ -z "$left" ] || { echo "error: uninstalled, and left behind: $left" >&2; exit 1; }
said="$("$place/venv/bin/python" -c 'print("started")' 2>&1)"
[ "$said" = started ] || { echo "error: uninstalled, Python still says at its start: $said" >&2; exit 1; }
echo "unlocked: wheel built, installed, smoke run and checked, uninstalled without a trace"
