"""`vzero-harness evaluate`: any checkpoint on real benchmarks."""

from __future__ import annotations

import json as json_format
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import options
from harness.commands.score import Model, Url
from harness.runs.signals import interruptible
from vzero.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.evals.run import Plan
    from vzero.config import EngineConfig


class Profile(StrEnum):
    """How questions are put."""

    boxed = "boxed"
    stock = "stock"


class Dialect(StrEnum):
    """What the checkpoint can read."""

    auto = "auto"
    natural = "natural"
    pocket = "pocket"


def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT", help='A vision-language model: a folder, a hub id, or "pocket".'
        ),
    ] = None,
    suites: Annotated[
        str,
        typer.Option(
            "--suites", help="Suites or groups (math, logic, vision, all), with commas between them."
        ),
    ] = "logicvista",
    data: Annotated[
        Path,
        typer.Option("--data", metavar="PATH", help="Where `fetch` put the suites, or a local copy of one."),
    ] = Path("runs/data"),
    engine: Annotated[str, typer.Option("--engine", help="transformers, vllm or server.")] = "transformers",
    profile: Annotated[
        Profile,
        typer.Option(
            "--profile",
            help="boxed: one reasoning prompt and budget for all models; stock: lmms-eval's own task.",
        ),
    ] = Profile.boxed,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Only the first so many rows of each part of a suite."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder; default runs/evaluate-<model>. The same command resumes it."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Sampled answers an item, beside the greedy one.")
    ] = 0,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="Of the sampled answers.")
    ] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Of the sampled answers.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the sampled answers.")] = 0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens", min=1, help="Default: 2048 (pocket: 40). Given, it also bounds stock tasks."
        ),
    ] = None,
    min_pixels: Annotated[
        int, typer.Option("--min-pixels", min=1, help="Smaller pictures are enlarged.")
    ] = 3136,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", min=1, help="Larger pictures are shrunk.")
    ] = 12_845_056,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Sequences decoded together.")] = 32,
    server_url: Annotated[
        list[str] | None,
        typer.Option(
            "--server-url",
            metavar="URL",
            help="--engine server: one that runs elsewhere, see docs/engines.md; may be repeated.",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus", metavar="N,N", help="--engine server: the GPUs on which one server each is started."
        ),
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            "--max-model-len",
            min=1,
            help="vLLM: tokens of prompt and answer together; default: the model's maximum.",
        ),
    ] = None,
    prompt_format: Annotated[
        Dialect,
        typer.Option(
            "--prompt_format",
            help="auto: pocket for checkpoints of the pocket world, natural for all others.",
        ),
    ] = Dialect.auto,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="PATH",
            help="What the model was trained on (a folder, or a run): look for it in the suites.",
        ),
    ] = None,
    rescore: Annotated[
        Path | None,
        typer.Option(
            "--rescore", metavar="RUN", help="Score a finished run's stored answers again; no model."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="RUN", help="An evaluation of the base, asked alike: paired gains over it."
        ),
    ] = None,
    extractor_url: Url = None,
    extractor_model: Model = None,
    extractor_remote: Annotated[
        bool, typer.Option("--extractor-remote", help="Allow a server that is not on this machine.")
    ] = False,
    fresh: options.Fresh = False,
    json: options.Json = False,
) -> None:
    """Measure a checkpoint on real benchmarks through lmms-eval; the same command resumes at the item.

    Example: vzero-harness evaluate Qwen/Qwen2.5-VL-3B-Instruct --suites logicvista --data ~/LogicVista --out
    runs/logicvista
    """
    with interruptible():
        if rescore is not None:
            found = _rescore(rescore, extractor_url, extractor_model, extractor_remote)
        elif extractor_url is not None:
            raise InputError(
                "--extractor-url goes with --rescore RUN: evaluate first, then let a model read the stored answers."
            )
        elif checkpoint is None:
            raise InputError(
                "Name a checkpoint: a folder, a hub id, or pocket (or score an earlier run again with --rescore RUN)."
            )
        else:
            budget = (samples, temperature, top_p, max_new_tokens)
            opened = _engine(engine, batch, server_url, gpus, max_model_len)
            plan = _plan(
                checkpoint,
                suites,
                data,
                opened,
                profile,
                prompt_format,
                limit,
                seed,
                (min_pixels, max_pixels),
                budget,
                images,
            )
            found = _run(plan, out or _default(checkpoint), fresh)
        gains = _against(against, rescore or out or _default(checkpoint)) if against is not None else None
        _report({**found, "against": gains} if gains else found, json)


def _default(checkpoint: str | None) -> Path:
    return Path("runs") / f"evaluate-{_slug(checkpoint or '')}"


def _against(base: Path, run: Path) -> dict[str, Any]:
    from harness.evals.compare import compare
    from vzero.runtime import artefacts

    gains = compare(base, run)
    artefacts.write_json(run / "against.json", gains)
    return gains


def _rescore(run: Path, url: str | None, model: str | None, remote: bool) -> dict[str, Any]:
    from harness.commands.score import _extractor
    from harness.evals import folder, results
    from harness.runs.folder import locked

    folder.read(run)
    with locked(run):
        extractor = _extractor(url, model, remote, run / "extractions.jsonl")
        return results.write(run, extractor, model or results.RULES)


def _plan(
    checkpoint: str,
    suites: str,
    data: Path,
    engine: EngineConfig,
    profile: Profile,
    prompt_format: Dialect,
    limit: int | None,
    seed: int,
    pixels: tuple[int, int],
    budget: tuple[int, float, float, int | None],
    images: Path | None,
) -> Plan:
    from harness.evals.catalogue import choose
    from harness.evals.pictures import Limits
    from harness.evals.prompt_formats import prompt_format_of
    from harness.evals.run import Plan
    from vzero.config import SamplingConfig
    from vzero.runtime.checkpoints import resolve

    chosen = choose([suites])
    if pixels[0] > pixels[1]:
        raise InputError("--min-pixels must not be above --max-pixels.")
    folder = resolve(checkpoint)
    spoken = prompt_format_of(folder) if prompt_format is Dialect.auto else prompt_format.value
    k, temperature, top_p, tokens = budget
    tokens_or_default = tokens or (40 if spoken == "pocket" else 2048)
    return Plan(
        model=checkpoint,
        checkpoint=folder,
        suites=tuple(chosen),
        data=data,
        profile=profile.value,
        prompt_format=spoken,
        engine=engine,
        greedy=SamplingConfig(n=1, temperature=0, max_new_tokens=tokens_or_default),
        sampled=SamplingConfig(n=k, temperature=temperature, top_p=top_p, max_new_tokens=tokens_or_default)
        if k
        else None,
        limits=Limits(*pixels),
        limit=limit,
        seed=seed,
        cap=tokens is not None,
        trained_on=images,
    )


def _engine(
    name: str, batch: int, urls: list[str] | None, gpus: str | None, max_model_len: int | None
) -> EngineConfig:
    from pydantic import ValidationError

    from vzero.config import EngineConfig

    _refuse_unused(name, urls, gpus, max_model_len)
    numbers = [number.strip() for number in gpus.split(",")] if gpus is not None else []
    if not all(number.isdecimal() for number in numbers):
        raise InputError(f"--gpus takes numbers with commas between them, e.g. 0,1; got {gpus!r}.")
    try:
        return EngineConfig(
            name=name,
            batch_sequences=batch,
            urls=tuple(urls or ()),
            gpus=tuple(map(int, numbers)),
            servers=max(1, len(numbers)),
            max_model_len=max_model_len,
        )
    except ValidationError as error:
        raise InputError(f"--engine {name!r} cannot be used: {error.errors()[0]['msg']}.") from None


def _refuse_unused(engine: str, urls: list[str] | None, gpus: str | None, max_model_len: int | None) -> None:
    """Options that the engine would not heed."""
    if engine != "server" and (urls or gpus is not None):
        raise InputError(f"{'--server-url' if urls else '--gpus'} is for --engine server.")
    if urls and gpus is not None:
        raise InputError(
            "--server-url names servers that run elsewhere, --gpus where to start some; give one of them."
        )
    if engine == "transformers" and max_model_len is not None:
        raise InputError("--max-model-len is for --engine vllm and --engine server.")


def _run(plan: Plan, out: Path, fresh: bool) -> dict[str, Any]:
    import sys
    from contextlib import redirect_stdout

    from harness.evals.run import run

    terminal = options.console(json=True)  # progress goes to stderr: stdout is for the result
    terminal.file = sys.stderr  # this very one: while lmms-eval runs, what is printed goes to its log
    with redirect_stdout(sys.stderr), terminal.status("starting") as status:
        found = run(plan, out, fresh, _teller(terminal, status))
    terminal.print(
        f"results: {out / 'results.md'}, {out / 'results.json'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return found


def _teller(terminal: Any, status: Any) -> Callable[[str], None]:
    """Says how far an evaluation is: in place on a terminal, else a line for each step and at most one every
    ten seconds within one."""
    import time

    spoke = [0.0, ""]

    def say(text: str) -> None:
        step = text.partition(":")[0] + re.sub(r"\d+", "", text)
        if terminal.is_terminal:
            from rich.markup import escape

            status.update(escape(text))
        elif step != spoke[1] or time.monotonic() - spoke[0] > 10:
            spoke[:] = [time.monotonic(), step]
            terminal.print(text, markup=False, highlight=False, soft_wrap=True)

    return say


def _report(found: dict[str, Any], json: bool) -> None:
    if json:
        print(json_format.dumps(found, indent=2))
        return
    from harness.evals.table import show

    terminal = options.console(json=False)
    show(found, terminal)
    if found.get("against"):
        from harness.evals.compare import sentences

        for line in sentences(found["against"]):
            terminal.print(line, markup=False, highlight=False, soft_wrap=True)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip(".-") or "model"
