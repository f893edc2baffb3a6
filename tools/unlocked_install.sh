#!/bin/sh
# Do the ranges in pyproject.toml work without the lock? Installs the package as a user's `pip install` would resolve it today, into
# an environment of its own, runs smoke and check there from an empty folder, and uninstalls. `make unlocked` calls it.
#
# Two things differ from a plain `pip install .`: torch comes first, in the build that .venv has (a free resolve would take a CUDA
# build of 3 GB), and uv resolves, which is quicker than pip.
set -eu
root="$(cd "$(dirname "$0")/.." && pwd)"
python="$root/.venv/bin/python"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT

torch="$("$python" -c 'import importlib.metadata as m; print(m.version("torch"))')"
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check "torch==$torch"
cd "$root" # uv's settings here leave torch out
"$python" -m uv pip install --quiet --python "$place/venv/bin/python" . fsspec networkx setuptools sympy typing-extensions

cd "$place" # an empty folder: nothing of the checkout is in reach
venv/bin/vzero-harness doctor --imports
venv/bin/vzero-harness reproduce --preset smoke --out run
venv/bin/vzero-harness check run
"$python" -m uv pip uninstall --quiet --python venv/bin/python vzero-harness
left="$(venv/bin/python -c 'print("started")' 2>&1)"
[ "$left" = started ] || { echo "error: uninstalled, Python still says at its start: $left" >&2; exit 1; }
echo "unlocked: installed, smoke run and checked, uninstalled"
