"""A campaign of faults against small runs; `make faults` (`python tests/faults --help`) is the program.

Each try ends in one of two ways, or has failed: the next attempt makes, byte for byte, what an undisturbed
run makes; or a sentence says what is wrong, with an exit code of the contract. Nothing is lost, stuck or
different without a word.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.cli import app, explain
from harness.report import finish
from harness.watch.view import Watch
from tests import tiny_model
from tests.faults import damage, tiny_evaluation
from tests.faults.attempts import KILLED, Attempt, attempt, calls, no_injection, unprivileged
from tests.faults.tiny_trainings import OBJECTIVES
from tests.faults.trainings import SOLVER
from tests.faults.victims import DIED, DRIVES, PRESET, Seeded, going_on, left, small
from tests.fixtures import synthetic_run
from vzero.errors import VZeroError
from vzero.presets import changed
from vzero.prompts import has_control_tokens
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.stage import main as run_one_stage
from vzero.stages import PROGRAMS

# Of a try: what does not hold, None where it holds.
Try = Callable[[Path, random.Random], str | None]
CONTRACT = (0, 1, 2, 75)
INJECTIONS = {"kill": "signal=KILL", "enospc": "error=ENOSPC", "eio": "error=EIO"}


@dataclass
class Row:
    """What came of one kind of tries; `failures` are sentences that name the try."""

    kind: str
    tried: int = 0
    held: int = 0
    refused: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


@cache
def undisturbed(target: str) -> Mapping[str, object]:
    """What a target leaves that nobody disturbs."""
    with TemporaryDirectory(prefix="vzero-undisturbed-") as place:
        done = attempt(going_on(target, Path(place, "run")))
        assert done.fault((0,)) is None, done
        return _left(target, Path(place, "run"))


def _left(target: str, run: Path) -> Mapping[str, object]:
    return tiny_evaluation.left(run) if target == "evaluate" else left(run)


@cache
def _calls(target: str) -> int:
    with TemporaryDirectory(prefix="vzero-undisturbed-") as place:
        return calls(going_on(target, Path(place, "run")))


def resumed(target: str, run: Path) -> str | None:
    """What does not hold of one more attempt, and of what there is then."""
    if fault := attempt(going_on(target, run)).fault((0,)):
        return f"the next attempt: {fault}"
    found, wanted = _left(target, run), undisturbed(target)
    other = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    return f"other content: {other[:5]}" if other else None


def injected(target: str, how: str, place: Path, rng: random.Random) -> str | None:
    """A target whose N-th state-changing call is its last, or fails, once or from then on."""
    run, number = place / "run", rng.randrange(1, _calls(target) + 1)
    lasts = "" if how == "kill" or rng.random() < 0.5 else "+"
    inject = f"{INJECTIONS[how]}:when={number}{lasts}"
    first = attempt(going_on(target, run), inject=inject)
    fault = first.fault((0, *KILLED) if how == "kill" else (0, 75)) or resumed(target, run)
    return fault and f"{target} {inject}: {fault}"


ALL = 10**9
# Rows that an attempt appends until it dies: no answers, some, a stage done, a checkpoint or two, the end.
DEATHS = {
    **{"stages": (0, 2, 5, 7, 10), "grid": (1, 6, 12, 18, ALL), "grpo": (2, 5, 8), "sft": (1, 2)},
    **{"evaluate": (1, 4, ALL)},
}


@cache
def _unfinished(target: str, rows: int, kept: Path, other: bool = False) -> Path:
    """A run that died on the way, or a finished one; `other`: of another preset."""
    run = kept / f"{target}-{rows}{'-other' * other}"
    died = attempt(going_on(target, run, other), rows=rows)
    assert died.code == (0 if rows == ALL else DIED), died
    return run


def _attacked(target: str, run: Path) -> list[Path]:
    """Files of a run. Seals are looked at by runners, so a stage alone has damaged scratch only: that of
    trainings lies where its sealed output will."""
    part = {"stages": artefacts.WORK, **dict.fromkeys(OBJECTIVES, SOLVER)}.get(target)
    found = (path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file())
    return [path for path in found if part is None or part in path.parts]


def garbled(target: str, place: Path, rng: random.Random) -> str | None:
    """A file of an unfinished or finished run harmed; what is said to help against a refusal does."""
    state, run = _unfinished(target, rng.choice(DEATHS[target]), place.parent), place / "run"
    shutil.copytree(state, run, symlinks=True)
    name, how = rng.choice(_attacked(target, state)), rng.choice(damage.HARMS)
    others = [_unfinished(target, rows, place.parent) for rows in DEATHS[target]]
    others.append(_unfinished(target, max(DEATHS[target]), place.parent, other=True))
    damage.harm(run / name, how, rng, [one for other in others for one in sorted(other.rglob(name.name))])
    first = attempt(unprivileged(going_on(target, run)))
    said, fault = f"{target} {how} {name} of {state.name}: ", first.fault(CONTRACT)
    if first.code and not fault and ("delete it" in first.said or "allow it" in first.said):
        damage.put_right(run / name)
    elif first.code and not fault:
        return f"refused: {said}{first.said}"
    fault = fault or resumed(target, run)
    return (said + fault) if fault else (f"refused: {said}{first.said}" if first.code else None)


def _images_of(source: Path, run: Path) -> tuple[Attempt, list[dict[str, object]]]:
    preset = changed(PRESET, {"images.source": str(source), "images.count": 1000})
    artefacts.write_json(run / "run.json", {"preset": preset.model_dump(mode="json")})
    done = attempt(lambda: run_one_stage(PROGRAMS, [str(run), small(preset)[0].name]))
    listed = run / "stages" / "00-images" / "images.jsonl"
    return done, artefacts.read_jsonl(listed) if listed.exists() else []


def hostile_folder(place: Path, rng: random.Random) -> str | None:
    """Good pictures among traps: all of them are found, and nothing outside is."""
    secret, source = place / "secret" / "private.png", place / "pictures"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(damage.picture(rng))
    source.mkdir()
    good = damage.fill_hostile(source, secret, rng)
    done, rows = _images_of(source, place / "run")
    found = {row["sha256"] for row in rows}
    if fault := done.fault((0,)):
        return fault
    if artefacts.sha256_file(secret) in found:
        return "a picture outside the folder was taken"
    missed = [str(path) for path in good if artefacts.sha256_file(path) not in found]
    return f"missed {missed}" if missed else None


def hostile_pictures(place: Path, rng: random.Random) -> str | None:
    """A good picture after twenty spoilt ones."""
    place.joinpath("pictures").mkdir(parents=True)
    for number in range(20):
        (place / "pictures" / f"{number:02d}.png").write_bytes(damage.spoilt_picture(rng))
    good = place / "pictures" / "good.png"
    good.write_bytes(damage.picture(rng))
    done, rows = _images_of(place / "pictures", place / "run")
    fault = done.fault((0,))
    return fault or (
        None if artefacts.sha256_file(good) in {row["sha256"] for row in rows} else "missed the good one"
    )


def hostile_replies(place: Path, rng: random.Random) -> str | None:
    """Questions and votes of hostile text: the stages end, and no prompt is broken."""
    run, salt = place / "run", rng.random()
    reply = lambda of_seed, asked: damage.hostile_reply(random.Random(f"{salt} {of_seed.random()}"), asked)  # noqa: E731
    if fault := attempt(partial(DRIVES["stages"], run), Seeded(reply)).fault((0,)):
        return fault
    (questions,) = run.rglob("questions.jsonl")
    (labels,) = run.glob("stages/*-label-1/labels.jsonl")
    texts = [row["text"] for row in artefacts.read_jsonl(questions) if row["valid"]]
    if broken := [text for text in texts if has_control_tokens(text, "pocket")]:
        return f"a question that breaks a prompt: {broken[0]!r}"
    answers = {row["answer"] for row in artefacts.read_jsonl(labels)}
    return None if answers <= {*"ABCD", None} else f"answers {answers}"


@cache
def _finished(kept: Path) -> Path:
    run = kept / "finished"
    synthetic_run.make(run, count=8, items_per_family=2)
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):  # what they import is imported once, and not in each attempt
        for words in _reading(run, kept / "exported"):
            _called(words)
        finish(run)
    return run


def _reading(run: Path, out: Path) -> list[list[str]]:
    return [
        ["check", str(run), "--format", "junit"],
        ["table", str(run)],
        ["export", str(run), "--to", str(out)],
        ["publish", str(run), "--to", str(out)],
    ]


def read_damaged(place: Path, rng: random.Random) -> str | None:
    """A finished run with a harmed file, under what reads it."""
    run = shutil.copytree(_finished(place.parent), place / "run")
    files = sorted(path for path in run.rglob("*") if path.is_file())
    path, how = rng.choice(files), rng.choice(damage.HARMS)
    damage.harm(path, how, rng, [one for one in files if one.name == path.name])
    return _read(run, place, f"{how} {path.relative_to(run)}")


def read_misshapen(place: Path, rng: random.Random) -> str | None:
    """A finished run, one value of which is of another kind, sealed again as a stranger can do it, under what
    reads it."""
    run = shutil.copytree(_finished(place.parent), place / "run")
    return _read(run, place, damage.misshape(run, rng))


def _read(run: Path, place: Path, what: str) -> str | None:
    """What does not hold of `run` under all that reads it."""
    acts = {words[0]: partial(_called, words) for words in _reading(run, place / "out")}
    acts |= {"report": partial(_explained, finish, run), "watch": partial(_explained, _looked, run)}
    for name, act in acts.items():
        if fault := attempt(unprivileged(act)).fault(CONTRACT):
            return f"{what} {name}: {fault}"
    return None


def _looked(run: Path) -> None:
    Watch(run).look()


def _explained(act: Callable[[Path], object], run: Path) -> int:
    try:
        act(run)
        return 0
    except Exception as error:
        return explain(error)


def _called(words: list[str]) -> int:
    try:
        app(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@cache
def _checkpoint(kept: Path) -> Path:
    return tiny_model.build(kept / "checkpoint")


def damaged_checkpoint(place: Path, rng: random.Random) -> str | None:
    """A stranger's checkpoint with a harmed file: it is opened, or refused in a sentence."""
    folder = Path(shutil.copytree(_checkpoint(place.parent), place / "checkpoint"))
    path, how = rng.choice(sorted(folder.iterdir())), rng.choice(damage.HARMS)
    damage.harm(path, how, rng)
    fault = attempt(unprivileged(partial(_opened, folder))).fault((0, 2))
    return fault and f"{how} {path.name}: {fault}"


def _opened(folder: Path) -> int:
    with redirect_stderr(io.StringIO()):  # of transformers' own warnings
        try:
            checkpoints.load_model(checkpoints.resolve(str(folder)))
            read_vocabulary(folder)
            return 0
        except VZeroError as error:
            refused = error
    return explain(refused)


KINDS: Mapping[str, Try] = {
    **{f"{how}, {target}": partial(injected, target, how) for how in INJECTIONS for target in DRIVES},
    **{f"garbled, {target}": partial(garbled, target) for target in DEATHS},
    "hostile folders": hostile_folder,
    "hostile pictures": hostile_pictures,
    "hostile replies": hostile_replies,
    "damaged checkpoint": damaged_checkpoint,
    "damaged, read": read_damaged,
    "misshapen, read": read_misshapen,
}


def run_kind(kind: str, seed: int, tries: int, seconds: float) -> Row:
    """Up to so many tries of one kind, within so much time; at least one."""
    row, begin = Row(kind), time.monotonic()
    with TemporaryDirectory(prefix="vzero-faults-") as kept:
        while row.tried < tries and (row.tried == 0 or time.monotonic() - begin < seconds):
            name = f"{kind}, seed {seed}, try {row.tried}"
            place = Path(kept, "try")
            place.mkdir()
            fault = KINDS[kind](place, random.Random(name))
            os.chmod(place, 0o755)
            shutil.rmtree(place, ignore_errors=True)
            row.tried += 1
            if fault is None or fault.startswith("refused: "):
                row.held, row.refused = row.held + 1, row.refused + (fault is not None)
            else:
                row.failures.append(f"{name}: {fault}")
    row.seconds = round(time.monotonic() - begin, 1)
    return row


def campaign(kinds: list[str], seed: int, tries: int, seconds: float) -> Iterator[Row]:
    """Each of `kinds` in turn; those that need strace are left out, with a word, where it cannot be used."""
    if (reason := no_injection()) is not None:
        left_out = [kind for kind in kinds if kind.split(",")[0] in INJECTIONS]
        print(f"left out ({reason}): {'; '.join(left_out)}", file=sys.stderr)
        kinds = [kind for kind in kinds if kind not in left_out]
    for kind in kinds:
        yield run_kind(kind, seed, tries, seconds / len(kinds))
