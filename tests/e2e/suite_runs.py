"""Evaluations of fixture suites through the real command line and lmms-eval, all in one process (lmms-eval
takes seconds to import).

`python suite_runs.py FOLDER`: FOLDER/data holds every suite (tests.fixtures.suite_rows). Only the engine is
not a model: it says what a scenario wants said. Writes FOLDER/report.json: scenario -> exit code, stderr, how
often the engine was asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness import cli
from harness.evals import catalogue, folder
from harness.evals import run as evaluating
from harness.evals.answer_count import AnswerCount
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout import engines
from vzero.rollout.protocol import Completion, Finished, Request, Rollout, overflow
from vzero.runtime.checkpoints import POCKET

ROOT = Path(sys.argv[1])
DATA = ROOT / "data"
GOLD: dict[str, list[str]] = json.loads((ROOT / "gold.json").read_text())
Speaker = Callable[
    [int, Request], str | None
]  # (how many requests were answered before, the request) -> what is said
report: dict[str, dict[str, object]] = {}


class Scripted:
    """An engine that says what `speaker` says, a request at a time; `asked` holds every one. What it has no
    words for exceeds its context."""

    def __init__(self, speaker: Speaker, finish: str = "stop") -> None:
        self.speaker, self.finish, self.asked = speaker, finish, []

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        for number, request in enumerate(requests):
            said, own = [], request.sampled_by(sampling)
            for index in range(own.n):
                text = (
                    self.speaker(len(self.asked), request) if own.n == 1 else f"\\boxed{{{'AAB'[index % 3]}}}"
                )
                said.append(Completion(text or "", (1, 2, 3), (0.0,) * 3, self.finish))
            self.asked.append(request)
            finished(number, overflow(16_400, 2048, 6144) if text is None else Rollout(10, tuple(said)))


def scenario(name: str, speaker: Speaker, *words: str, finish: str = "stop") -> Scripted:
    """Run one command line with a scripted engine."""
    engine = Scripted(speaker, finish)
    engines.open_engine = lambda config, checkpoint: engine
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.app(["evaluate", *words], prog_name="vzero-harness")
        except SystemExit as end:
            code = end.code
    sizes = sorted({request.image.size for request in engine.asked})
    texts = ["\n".join(message.text for message in request.messages) for request in engine.asked]
    report[name] = {
        "code": code,
        "out": out.getvalue(),
        "err": err.getvalue(),
        "asked": len(engine.asked),
        "sizes": sizes,
        "texts": texts,
    }
    return engine


def says(suites: Sequence[str], form: str) -> Speaker:
    """The gold answers of `suites`, in the order in which their rows are asked."""
    answers = [gold for suite in suites for gold in GOLD[suite]]
    return lambda number, request: form.format(answers[number])


def at(number: int, act: Callable[[], object], form: str = "\\boxed{{C}}") -> Speaker:
    """Says C, and does something when request `number` is to be answered."""

    def speak(asked: int, request: Request) -> str:
        if asked == number:
            act()
        return form.format("C")

    return speak


def fail() -> None:
    raise RolloutError("The server at 127.0.0.1:8000 hung up.")


ALL = catalogue.members("all")
STOCK_BARE = ["blink", "cv_bench_2d", "cv_bench_3d", "mmstar", "mmvp", "realworldqa", "vstar", "mmmu_val"]
STOCK_BOXED = ["dynamath", "logicvista", "wemath"]
BOTH = ("--prompt-format", "natural", "--data", str(DATA))


def run(name: str) -> str:
    return str(ROOT / name)


scenario(
    "gold",
    says(ALL, "<think>It is plain.</think> \\boxed{{{0}}}"),
    "pocket",
    "--suites",
    "all",
    *BOTH,
    "--out",
    run("gold"),
    "--batch",
    "1",
)
scenario("again", fail, "pocket", "--suites", "all", *BOTH, "--out", run("gold"), "--batch", "1")
before = (ROOT / "gold" / "results.json").read_bytes()
scenario("rescored", fail, "--rescore", run("gold"))
report["rescored"]["same"] = before == (ROOT / "gold" / "results.json").read_bytes()
scenario(
    "bare",
    says(STOCK_BARE, "{0}"),
    "pocket",
    "--suites",
    ",".join(STOCK_BARE),
    "--profile",
    "stock",
    *BOTH,
    "--out",
    run("bare"),
)
scenario(
    "tags",
    says(STOCK_BOXED, "\\boxed{{{0}}}"),
    "pocket",
    "--suites",
    ",".join(STOCK_BOXED),
    "--profile",
    "stock",
    *BOTH,
    "--out",
    run("tags"),
)
for suite in ("mathvista", "hallusionbench", "visulogic"):
    scenario(
        f"stock {suite}",
        fail,
        "pocket",
        "--suites",
        suite,
        "--profile",
        "stock",
        *BOTH,
        "--out",
        run("refused"),
    )
scenario(
    "sampled",
    lambda number, request: "\\boxed{B}",
    "pocket",
    "--suites",
    "mmvp",
    "--samples",
    "3",
    *BOTH,
    "--out",
    run("sampled"),
    "--json",
)

LOGIC = ("pocket", "--suites", "logicvista", *BOTH, "--batch", "1")
scenario("dying", at(2, fail), *LOGIC, "--out", run("dying"))
scenario("dying, looked at", fail, "--rescore", run("dying"))
scenario("dying, resumed", at(9, fail), *LOGIC, "--out", run("dying"))
scenario("ended", at(1, lambda: os.kill(os.getpid(), signal.SIGTERM)), *LOGIC, "--out", run("ended"))
scenario("ended, resumed", at(9, fail), *LOGIC, "--out", run("ended"))
answered = ROOT / "ended" / "responses" / "logicvista.jsonl"
answered.write_bytes(b"".join(answered.read_bytes().splitlines(keepends=True)[:-1]))
scenario("shortened, looked at", fail, "--rescore", run("ended"))
scenario("shortened, again", at(9, fail), *LOGIC, "--out", run("ended"))


def plant(run: Path) -> None:
    """What a stranger could leave in an unfinished evaluation for lmms-eval to run: a request cache that is a
    pickle (its place is settled when lmms-eval is imported: in the first run), task files of every name."""
    name, mark = "vzero_boxed_logicvista_greedy", ROOT / "ran-a-strangers-code"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(mark),)

    key = f"requests-{name}-0shot-rank0-world_size1-tokenizer"
    for cache in (run / "work" / "no-cache", ROOT / "gold" / "work" / "no-cache"):
        cache.mkdir(parents=True, exist_ok=True)
        suffix = hashlib.sha256(b"EleutherAI-lm-evaluation-harness").hexdigest()
        (cache / f"{key}.{suffix}.pickle").write_bytes(pickle.dumps(Evil()))
    for place in (run / "work" / "logicvista", run / "work" / "tasks", run / "work"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "evil.py").write_text(f"import os\nos.makedirs({str(mark)!r}, exist_ok=True)\nf = None\n")
        for file in ("a", "zz", name):
            (place / f"{file}.yaml").write_text(f"task: {name}\ndoc_to_text: !function evil.f\n")
        (place / "more").mkdir(exist_ok=True)
        (place / "more" / "b.yaml").write_text(f"task: {name}\nprocess_docs: !function ../evil.f\n")


scenario("strange", at(2, fail), *LOGIC, "--out", run("strange"))
plant(ROOT / "strange")
scenario("strange, resumed", at(9, fail), *LOGIC, "--out", run("strange"))
scenario("other settings", at(9, fail), *LOGIC, "--out", run("ended"), "--max-new-tokens", "7")

checkpoint = ROOT / "model"
shutil.copytree(POCKET, checkpoint)
MINE = (str(checkpoint), *LOGIC[1:])
scenario("mine", at(9, fail), *MINE, "--out", run("mine"))
(checkpoint / "generation_config.json").write_text("{}")  # the same place, another content
scenario("mine, changed", at(9, fail), *MINE, "--out", run("mine"))
theirs = (ROOT / "mine" / "responses" / "logicvista.jsonl").read_bytes()
scenario("mine, anew", at(9, fail), *MINE, "--out", run("mine"), "--fresh")
shutil.rmtree(ROOT / "mine" / "lmms_eval")
(ROOT / "mine" / "responses" / "logicvista.jsonl").write_bytes(
    theirs
)  # the first checkpoint's answers, put where they do not belong
scenario("mine, with theirs", at(9, fail), *MINE, "--out", run("mine"))
scenario(
    "limits",
    at(9, fail),
    *LOGIC,
    "--out",
    run("limits"),
    "--min-pixels",
    "100",
    "--max-pixels",
    "1000",
    "--limit",
    "2",
)

HOSTILE = "<script>alert(1)</script>\x1b[31m **bold** | \\boxed{ </think> " + "B " * 9000 + "\x00\ud800"
scenario("hostile", lambda number, request: HOSTILE, *LOGIC, "--out", run("hostile"), finish="length")
scenario(
    "silent", lambda number, request: "", "pocket", "--suites", "mathvista", *BOTH, "--out", run("silent")
)
published = ROOT / "Qwen2.5-VL-3B-Instruct"
shutil.copytree(POCKET, published)
scenario(
    "base", lambda number, request: "", str(published), "--suites", "logicvista", *BOTH, "--out", run("base")
)

scenario(
    "mixed",
    lambda number, request: "\\boxed{A}",
    *("pocket", "--suites", "mmvp,pocket_math", *BOTH, "--limit", "7", "--out", run("mixed")),
)
scenario(
    "stock, limited",
    lambda number, request: "A",
    *("pocket", "--suites", "mmvp,blink", "--profile", "stock", *BOTH, "--limit", "3", "--out", run("few")),
)
clone = ROOT / "clone"
DAMAGED = (
    *("pocket", "--suites", "mathvision_testmini", "--prompt-format", "natural", "--batch", "1"),
    *("--data", str(clone), "--out", run("damaged")),
)
scenario("damaged", at(3, fail, "\\boxed{{B}}"), *DAMAGED)
scenario("damaged, resumed", at(99, fail, "\\boxed{{B}}"), *DAMAGED)
(clone / "images" / "15.png").write_bytes((clone / "images" / "14.png").read_bytes())
scenario("damaged, repaired", fail, *DAMAGED)
scenario(
    "too long",
    lambda number, request: None if "Which two?" in request.messages[-1].text else "\\boxed{C}",
    *(*LOGIC, "--samples", "2", "--out", run("too-long")),
)
scenario("too long, again", at(0, fail), *LOGIC, "--samples", "2", "--out", run("too-long"))
FEW = (*LOGIC, "--limit", "2", "--out", run("too-long-of-few"))
scenario("too long of few", lambda number, request: None if number == 0 else "\\boxed{C}", *FEW)
# As a run's stage asks with evaluation.images = "shuffled": pictures are dealt to other questions.
SHUFFLED = folder.settings(ROOT / "too-long").model_copy(update={"images": "shuffled", "sampled": None})
engines.open_engine = lambda config, checkpoint: Scripted(
    lambda number, request: None if "Which two?" in request.messages[-1].text else "\\boxed{C}"
)
evaluating.run(
    evaluating.Evaluation(SHUFFLED, POCKET, DATA, EngineConfig()),
    ROOT / "too-long-shuffled",
    False,
    lambda text: None,
    AnswerCount(lambda count, speed: None),
)
(ROOT / "report.json").write_text(json.dumps(report))
