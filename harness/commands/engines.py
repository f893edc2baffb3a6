"""Options that name the engine of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

from vzero.errors import InputError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from vzero.config import EngineConfig

Engine = Annotated[str, Option("--engine", help="transformers, vllm or server.")]
Batch = Annotated[int, Option("--batch", min=1, help="Sequences decoded together.")]
ServerUrl = Annotated[
    list[str] | None,
    Option(
        "--server-url", metavar="URL", help="--engine server: one elsewhere, see docs/engines.md; repeatable."
    ),
]
Gpus = Annotated[
    str | None, Option("--gpus", metavar="N,N", help="--engine server: the GPUs to start one server each on.")
]
ModelLen = Annotated[
    int | None,
    Option(
        "--max-model-len", min=1, help="vLLM: tokens of prompt and answer together; default: the model's."
    ),
]
Thinking = Annotated[
    bool | None,
    Option(
        "--thinking/--no-thinking", help="Of a model that can: only what follows its thought is an answer."
    ),
]

ThoughtTokens = Annotated[
    int, Option("--thought-tokens", min=0, help="With --thinking: for thoughts, on top of every budget.")
]


def cluster_of(cluster: str | None, engine: EngineConfig) -> str | None:
    """Where servers of a model are started; none with an empty name.

    Raises:
        InputError: `engine` has servers of its own.
    """
    if cluster and (engine.urls or engine.gpus):
        raise InputError("--cluster starts servers on all of it; leave out --server-url and --gpus.")
    return cluster or None


def config(
    name: str,
    batch: int,
    urls: list[str] | None,
    gpus: str | None,
    max_model_len: int | None,
    thinking: bool | None = None,
    thought_tokens: int = 0,
) -> EngineConfig:
    """The engine that these options name.

    Raises:
        InputError: they contradict each other, or there is none like that.
    """
    from pydantic import ValidationError

    from vzero.config import EngineConfig

    if name != "server" and (urls or gpus is not None):
        raise InputError(f"{'--server-url' if urls else '--gpus'} is for --engine server.")
    if urls and gpus is not None:
        raise InputError(
            "--server-url names servers elsewhere, --gpus where to start some; give one of them."
        )
    if thought_tokens and not thinking:
        raise InputError("--thought-tokens is for --thinking.")
    if name == "transformers" and max_model_len is not None:
        raise InputError("--max-model-len is for --engine vllm and --engine server.")
    numbers = [number.strip() for number in gpus.split(",")] if gpus is not None else []
    if not all(number.isdecimal() for number in numbers):
        raise InputError(f"--gpus takes numbers with commas between them, e.g. 0,1; got {gpus!r}.")
    try:
        return EngineConfig.model_validate(
            {
                "name": name,
                "batch_sequences": batch,
                "urls": tuple(urls or ()),
                "gpus": tuple(map(int, numbers)),
                "servers": max(1, len(numbers)),
                "max_model_len": max_model_len,
                "thinking": thinking,
                "thought_tokens": thought_tokens,
            }
        )
    except ValidationError as error:
        raise InputError(f"--engine {name!r} cannot be used: {refused(error)}.") from None


def refused(error: ValidationError) -> str:
    """Which setting pydantic refuses first, and why."""
    first = error.errors()[0]
    where = "".join(f"{part}: " for part in first["loc"] if isinstance(part, str))
    return where + first["msg"].removeprefix("Value error, ")
