"""Serve a checkpoint for runs elsewhere: `python -m vzero.rollout.serve CHECKPOINT [--port 8000] [--gpu 0]`.

vLLM's own server, in the foreground, with the settings that our client counts on and under the name it asks
for. It listens on loopback; any other address is refused without a bearer token in the environment variable
VZERO_SOLVER_TOKEN. Traffic is not encrypted: across machines use a network you trust, a tunnel, or a proxy
with TLS in front. `--settings` are a cluster's (harness/cluster/replicas.py), of either engine.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vzero.config import EngineConfig
from vzero.errors import InputError, VZeroError
from vzero.rollout.endpoints import TOKEN_VARIABLE
from vzero.rollout.server import LOOPBACK, model_name, vllm_launch
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime.checkpoints import resolve


@dataclass(frozen=True)
class Place:
    """Where a server listens, and the name of its model: by default the one by the hash of its files."""

    host: str
    port: int
    name: str | None = None


def command(checkpoint: Path, place: Place, config: EngineConfig) -> tuple[list[str], dict[str, str]]:
    """vLLM's program that serves `checkpoint`, and its environment.

    Raises:
        InputError: vLLM is not installed, or a public address without a token.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if place.host != LOOPBACK and not token:
        raise InputError(
            f"Whoever reaches {place.host} could use this server; put a bearer token into {TOKEN_VARIABLE}, "
            "or leave --host out."
        )
    if find_spec("vllm") is None:
        raise InputError("vLLM is not installed; run `make vllm` (CPU) or install the extra `cuda`.")
    launch = vllm_launch(config, checkpoint, read_vocabulary(checkpoint, config.thinking), 0)
    words = launch.command(place.name or model_name(checkpoint), place.port)
    words = [place.host if word == LOOPBACK else word for word in words]
    return words, {**os.environ, **launch.environment, **({"VLLM_API_KEY": token} if token else {})}


def serve_transformers(checkpoint: Path, place: Place, config: EngineConfig) -> None:
    """Serve `checkpoint` by the transformers engine, in this process, until it ends.

    Raises:
        InputError: there is no token, or `checkpoint` is none.
    """
    from vzero.rollout.engines import open_engine
    from vzero.rollout.replica import serve
    from vzero.rollout.thinking import load_processor

    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise InputError(f"Put a bearer token into {TOKEN_VARIABLE}: nobody else is to use this server.")
    engine, name = open_engine(config, checkpoint), place.name or model_name(checkpoint)
    serve(engine, load_processor(checkpoint, config.thinking), place.host, place.port, name, token)


def main() -> int:
    parser = argparse.ArgumentParser("python -m vzero.rollout.serve", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a folder, a hub id, or pocket")
    parser.add_argument("--host", default=LOOPBACK, help=f"any but loopback needs {TOKEN_VARIABLE}")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--gpu", type=int, help="which GPU; default: the first visible one")
    parser.add_argument(
        "--max-model-len", type=int, help="prompt and completion; default: the model's maximum"
    )
    parser.add_argument("--name", help="of the model; default: by the hash of its files")
    parser.add_argument("--settings", help="all of [engine], as JSON, in place of the two above")
    options = parser.parse_args()
    try:
        gpus = () if options.gpu is None else (options.gpu,)
        config = EngineConfig(name="vllm", gpus=gpus, max_model_len=options.max_model_len)
        if options.settings:
            config = EngineConfig.model_validate_json(options.settings)
        checkpoint, place = resolve(options.checkpoint), Place(options.host, options.port, options.name)
        if config.name == "transformers":
            serve_transformers(checkpoint, place, config)
            return 0
        words, environment = command(checkpoint, place, config)
    except VZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    os.execve(words[0], words, environment)


if __name__ == "__main__":
    sys.exit(main())
