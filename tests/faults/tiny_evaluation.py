"""What the campaign attacks of `evaluate --out`: two drawn suites, two items of each, lmms-eval, and answers
that come out of each request's seed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.evals import run, runner
from harness.evals.answer_count import AnswerCount
from harness.evals.pictures import DEFAULT
from harness.evals.results import Settings
from vzero.config import EngineConfig, SamplingConfig
from vzero.rollout import vocabulary
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET

_READ_VOCABULARY = vocabulary.read_vocabulary  # before an attempt replaces it


@cache
def settings(seed: int) -> Settings:
    """What its attempts need is imported once here, and not in each."""
    runner.prepare()
    from lmms_eval import evaluator  # noqa: F401

    from harness.evals import model  # noqa: F401

    return Settings(
        model="pocket",
        checkpoint_sha256=run.checkpoint_sha256(POCKET),
        suites=("pocket_math", "pocket_logic"),
        profile="boxed",
        prompt_format="pocket",
        engine="transformers",
        greedy=SamplingConfig(n=1, temperature=0, max_new_tokens=40),
        sampled=SamplingConfig(n=2, max_new_tokens=40),
        pixels=DEFAULT,
        limit=2,
        seed=seed,
    )


def evaluate(out: Path, seed: int = 0) -> None:
    """As the command does it."""
    vocabulary.read_vocabulary = _READ_VOCABULARY
    evaluation = run.Evaluation(settings(seed), POCKET, Path("nowhere"), EngineConfig())
    run.run(evaluation, out, False, lambda text: None, AnswerCount(lambda count, rate: None))


def left(out: Path) -> dict[str, object]:
    """What it leaves, but for when, its log, and the order in which items were answered."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if name.parts[0] in ("run.json", "work", ".lock") or path.is_dir() or path.name.endswith(".damaged"):
            continue
        if name.parts[0] == "responses":
            found[str(name)] = sorted(path.read_bytes().splitlines())
        elif path.suffix == ".json":
            value = artefacts.read_json(path)
            found[str(name)] = {
                key: value[key] for key in value if key not in ("created", "responses_sha256")
            }
        else:
            found[str(name)] = path.read_bytes()
    return found
