"""`vzero-harness evaluate`: any checkpoint on benchmarks and on the suites of the pocket world."""

from __future__ import annotations

import re
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from harness.commands import engines, options
from harness.commands.score import ExtractorModel, ExtractorRemote, ExtractorUrl
from harness.runs.signals import interruptible
from vzero.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.status import Status

    from harness.analysis.against import Against
    from harness.evals.answer_count import AnswerCount
    from harness.evals.results import EvaluationResults, Settings
    from harness.evals.run import Evaluation
    from vzero.config import EngineConfig

BUDGET, POCKET_BUDGET = 2048, 40  # new tokens
SILENCE = 30.0  # seconds between two lines about the same step


Checkpoint = Annotated[
    str | None,
    Argument(metavar="CHECKPOINT", help='A vision-language model: a folder, a hub id, or "pocket".'),
]
Data = Annotated[
    Path, Option("--data", metavar="PATH", help="Where `fetch` put the suites, or a local copy of one.")
]
Profile = Annotated[
    Literal["boxed", "stock"],
    Option("--profile", help="boxed: one reasoning prompt and budget for all; stock: lmms-eval's own task."),
]
Limit = Annotated[
    int | None,
    Option("--limit", min=1, help="At most so many rows of each suite: an even sample."),
]
Out = Annotated[
    Path | None, Option("--out", help="Default: runs/evaluate-<model>. The same command resumes it.")
]
Samples = Annotated[int, Option("--samples", min=0, help="Sampled answers per item, beside the greedy one.")]
Temperature = Annotated[float, Option("--temperature", min=0.0, help="Of the sampled answers.")]
TopP = Annotated[float, Option("--top-p", min=0.0, max=1.0, help="Of the sampled answers.")]
Seed = Annotated[int, Option("--seed", help="Of the sampled answers.")]
Tokens = Annotated[
    int | None,
    Option("--max-new-tokens", min=1, help="Default: 2048 (pocket: 40). Given, it also bounds stock tasks."),
]
MinPixels = Annotated[int, Option("--min-pixels", min=1, help="Smaller pictures are enlarged.")]
MaxPixels = Annotated[int, Option("--max-pixels", min=1, help="Larger pictures are shrunk.")]
PromptFormat = Annotated[
    Literal["auto", "natural", "pocket"],
    Option("--prompt-format", help="auto: pocket for checkpoints of the pocket world, else natural."),
]
TrainedOn = Annotated[
    Path | None,
    Option(
        "--images", metavar="PATH", help="Training pictures (a folder, or a run) to look for in the suites."
    ),
]
Rescore = Annotated[
    Path | None, Option("--rescore", metavar="RUN", help="Score a run's stored answers again; no model.")
]
Base = Annotated[
    Path | None,
    Option("--against", metavar="RUN", help="An evaluation of the base, asked alike: paired gains."),
]


def evaluate(
    checkpoint: Checkpoint = None,
    suites: options.Suites = "logicvista",
    data: Data = Path("runs/data"),
    engine: engines.Engine = "transformers",
    profile: Profile = "boxed",
    limit: Limit = None,
    out: Out = None,
    samples: Samples = 0,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    max_new_tokens: Tokens = None,
    min_pixels: MinPixels = 3136,
    max_pixels: MaxPixels = 12_845_056,
    batch: engines.Batch = 32,
    server_url: engines.ServerUrl = None,
    gpus: engines.Gpus = None,
    max_model_len: engines.ModelLen = None,
    thinking: engines.Thinking = None,
    thought_tokens: engines.ThoughtTokens = 0,
    cluster: options.Cluster = None,
    prompt_format: PromptFormat = "auto",
    images: TrainedOn = None,
    rescore: Rescore = None,
    against: Base = None,
    extractor_url: ExtractorUrl = None,
    extractor_model: ExtractorModel = None,
    extractor_remote: ExtractorRemote = False,
    fresh: options.Fresh = False,
    json: options.Json = False,
) -> None:
    """Measure a checkpoint through lmms-eval; the same command resumes at the item.

    Example: vzero-harness evaluate Qwen/Qwen2.5-VL-3B-Instruct --suites logicvista --data ~/LogicVista --out
    runs/logicvista
    """
    with interruptible():
        folder = rescore or out or Path("runs") / f"evaluate-{_slug(checkpoint or '')}"
        if rescore is not None:
            found = _rescored(folder, extractor_url, extractor_model, extractor_remote)
        elif extractor_url is not None:
            raise InputError("--extractor-url goes with --rescore RUN: evaluate first, then read anew.")
        elif checkpoint is None:
            raise InputError("Name a checkpoint: a folder, a hub id, or pocket (or give --rescore RUN).")
        elif min_pixels > max_pixels:
            raise InputError("--min-pixels must not be above --max-pixels.")
        else:
            with options.working("starting"):
                from harness.evals.run import Evaluation
                from vzero.runtime.checkpoints import resolve

            opened = engines.config(engine, batch, server_url, gpus, max_model_len, thinking, thought_tokens)
            place, there = resolve(checkpoint), engines.cluster_of(cluster, opened)
            sampling = (samples, temperature, top_p, max_new_tokens)
            how = (profile, prompt_format, opened, limit, seed, (min_pixels, max_pixels))
            settings = _settings(checkpoint, place, suites, sampling, *how)
            _check(against, settings, opened, place, there is not None)
            found = _run(Evaluation(settings, place, data, opened, images, there), folder, fresh)
        _report(found, folder, against, json)


def _settings(
    checkpoint: str,
    place: Path,
    suites: str,
    sampling: tuple[int, float, float, int | None],
    profile: Profile,
    prompt_format: PromptFormat,
    engine: EngineConfig,
    limit: int | None,
    seed: int,
    pixels: tuple[int, int],
) -> Settings:
    """`sampling` is how many samples, their temperature and top-p, and the new tokens of every answer, those
    of a thought left out."""
    from pydantic import ValidationError

    from harness.evals.catalogue import choose
    from harness.evals.prompts import prompt_format_of
    from harness.evals.results import Limits, Settings
    from harness.evals.run import checkpoint_sha256
    from vzero.config import SamplingConfig
    from vzero.runtime.checkpoints import plain_name

    k, temperature, top_p, tokens = sampling
    spoken = prompt_format_of(place) if prompt_format == "auto" else prompt_format
    budget = (tokens or (POCKET_BUDGET if spoken == "pocket" else BUDGET)) + engine.thought_tokens
    try:
        greedy = SamplingConfig(n=1, temperature=0, max_new_tokens=budget)
        drawn = {"n": k, "temperature": temperature, "top_p": top_p, "max_new_tokens": budget}
        sampled = SamplingConfig.model_validate(drawn) if k else None
    except ValidationError as error:
        raise InputError(f"Answers cannot be drawn like that: {engines.refused(error)}.") from None
    return Settings(
        model=plain_name(checkpoint),
        suites=tuple(suite.name for suite in choose(suites)),
        checkpoint_sha256=checkpoint_sha256(place),
        profile=profile,
        prompt_format=spoken,
        engine=engine.name,
        greedy=greedy,
        sampled=sampled,
        pixels=Limits(least=pixels[0], most=pixels[1]),
        limit=limit,
        seed=seed,
        cap=tokens is not None,
        max_model_len=engine.max_model_len,
        thought_tokens=engine.thought_tokens,
    )


def _rescored(run: Path, url: str | None, model: str | None, remote: bool) -> EvaluationResults:
    from harness.evals import build, folder
    from harness.evals.official_job import Judge
    from harness.runs.folder import locked
    from harness.scoring.endpoint import reader

    folder.read(run)
    with locked(run):
        folder.EVALUATION.tidy(run)
        extractor = reader(url, model, run / "extractions.jsonl", remote)
        return build.write(run, extractor, model or build.RULES, Judge.named(url, model, remote))


def _run(evaluation: Evaluation, out: Path, fresh: bool) -> EvaluationResults:
    from harness.evals.answer_count import AnswerCount
    from harness.evals.run import run
    from harness.tables.terminal import say

    terminal = options.console(json=True)  # progress goes to stderr: stdout is for the result
    terminal.file = sys.stderr  # this very one: while lmms-eval runs, what is printed goes to its log
    with redirect_stdout(sys.stderr), terminal.status("starting") as status:
        tell = _teller(terminal, status)
        found = run(evaluation, out, fresh, tell, AnswerCount(_counting(tell)))
    say(f"results: {out / 'results.md'}, {out / 'results.json'}", terminal)
    return found


def _counting(tell: Callable[[str], None]) -> Callable[[AnswerCount, float | None], None]:
    """Says how many answers there are, how fast they come, and for how long they still will."""
    from harness.tables.words import roughly, speed

    first: tuple[float, int] | None = None  # when drawing began, and how many there were

    def count(seen: AnswerCount, rate: float | None) -> None:
        nonlocal first
        if first is None or not seen.drawn:
            first = time.monotonic(), seen.answers
        said = f"{seen.suite or 'asking'}: {seen.answers:,} of {seen.total:,} answers"
        if rate:
            said += f", {speed(rate)}"
        if (drawn := seen.answers - first[1]) and seen.answers < seen.total:
            left = (seen.total - seen.answers) * (time.monotonic() - first[0]) / drawn
            said += f", {roughly(left)} left"
        tell(said)

    return count


def _teller(terminal: Console, status: Status) -> Callable[[str], None]:
    """Says how far an evaluation is: in place on a terminal, else a line for each step and at most one every
    half minute within one."""
    from rich.markup import escape

    from harness.tables.terminal import say

    spoke, last = 0.0, ""

    def tell(text: str) -> None:
        nonlocal spoke, last
        step = text.partition(": ")[0]
        if terminal.is_terminal:
            status.update(escape(text[: terminal.width - 3]))
        elif step != last or time.monotonic() - spoke > SILENCE:
            spoke, last = time.monotonic(), step
            say(text, terminal)

    return tell


def _report(found: EvaluationResults, folder: Path, against: Path | None, json: bool) -> None:
    from harness.evals.table import show
    from harness.tables.terminal import say, short, show_next

    gains = None if against is None else _against(against, folder)
    if json:
        shown = found.model_dump(mode="json")
        if gains is not None:
            shown["against"] = gains.model_dump(mode="json")
        options.out_json(shown)
        return
    terminal = options.console(json=False)
    show(found, terminal)
    for line in gains.sentences() if gains else ():
        say(line, terminal)
    show_next([["table", str(short(folder))]], terminal)


def _check(
    base: Path | None, settings: Settings, engine: EngineConfig, checkpoint: Path, elsewhere: bool
) -> None:
    """Refuse a base that was asked otherwise. `elsewhere`: it is not known yet what machines compute in."""
    from harness.analysis.against import check
    from harness.evals.protocol import measured

    if base is not None:
        found = measured(engine, checkpoint)
        check(base, settings, found.model_copy(update={"dtype": None}) if elsewhere else found)


def _against(base: Path, folder: Path) -> Against:
    from harness.analysis.against import compare
    from vzero.runtime import artefacts

    gains = compare(base, folder)
    artefacts.write_json(folder / "against.json", gains.model_dump(mode="json"))
    return gains


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip(".-") or "model"
