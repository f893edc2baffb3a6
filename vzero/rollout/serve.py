"""Serve a checkpoint for runs elsewhere: `python -m vzero.rollout.serve CHECKPOINT [--port 8000] [--gpu 0]`.

vLLM's own server, in the foreground, with the settings that our client counts on and under the name it asks
for. It listens on loopback; any other address is refused without a bearer token in the environment variable
VZERO_SOLVER_TOKEN. Traffic is not encrypted: across machines use a network you trust, a tunnel, or a proxy
with TLS in front.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from vzero.config import EngineConfig
from vzero.errors import InputError, VZeroError
from vzero.rollout.server import LOOPBACK, TOKEN_VARIABLE, model_name, vllm_launch
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime.checkpoints import resolve


def command(checkpoint: Path, host: str, port: int, config: EngineConfig) -> tuple[list[str], dict[str, str]]:
    """The program that serves `checkpoint`, and its environment.

    Raises:
        InputError: vLLM is not installed, or a public address without a token.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if host != LOOPBACK and not token:
        raise InputError(
            f"Whoever reaches {host} could use this server; put a bearer token into {TOKEN_VARIABLE}, or "
            "leave --host out."
        )
    if find_spec("vllm") is None:
        raise InputError("vLLM is not installed; run `make vllm` (CPU) or install the extra `cuda`.")
    launch = vllm_launch(config, checkpoint, read_vocabulary(checkpoint), 0)
    words = [host if word == LOOPBACK else word for word in launch.command(model_name(checkpoint), port)]
    return words, {**os.environ, **launch.environment, **({"VLLM_API_KEY": token} if token else {})}


def main() -> int:
    parser = argparse.ArgumentParser("python -m vzero.rollout.serve", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a folder, a hub id, or pocket")
    parser.add_argument("--host", default=LOOPBACK, help=f"any but loopback needs {TOKEN_VARIABLE}")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--gpu", type=int, help="which GPU; default: the first visible one")
    parser.add_argument(
        "--max-model-len", type=int, help="prompt and completion; default: the model's maximum"
    )
    options = parser.parse_args()
    try:
        gpus = () if options.gpu is None else (options.gpu,)
        config = EngineConfig(gpus=gpus, max_model_len=options.max_model_len)
        words, environment = command(resolve(options.checkpoint), options.host, options.port, config)
    except VZeroError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    os.execve(words[0], words, environment)


if __name__ == "__main__":
    sys.exit(main())
