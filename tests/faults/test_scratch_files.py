"""Each scratch file of the stages that draw answers, harmed in each way after a kill: the next attempt leaves
what an undisturbed one does, or refuses in one sentence, and once that is heeded, leaves it as well."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults import damage
from tests.faults.attempts import Attempt, attempt, unprivileged
from tests.faults.victims import PRESET, Seeded, left
from vzero.config import SamplingConfig
from vzero.presets import changed
from vzero.rollout import Request, engines, vocabulary
from vzero.rollout.protocol import Rollout
from vzero.runtime import artefacts
from vzero.runtime.stage import main, run_stage, stage_folder
from vzero.selfplay import plan
from vzero.stages import PROGRAMS

pytestmark = pytest.mark.slow
DRAWING = ("write-questions", "label", "check-options")
COUNT = {"images.count": 6}
NAMES = {one.kind: one.name for one in plan(PRESET)}
# Of a kind of stage, the run when it was killed ("late"), a moment before ("early"), the same of another seed
# ("another's"), and when it was done.
States = dict[tuple[str, str], Path]


class Mortal(Seeded):
    """Dies after so many answers."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Rollout]:
        yield from list(super().generate(requests, sampling))[: self.most]
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def answering() -> Iterator[list[Seeded]]:
    """Who answers is the last of this list."""
    engine = [Seeded()]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open_engine", "open_solver"):
            patch.setattr(engines, name, lambda config, checkpoint: engine[-1])
        any_text = SimpleNamespace(breaks_prompt=lambda text: False)
        patch.setattr(vocabulary, "read_vocabulary", lambda checkpoint, thinking: any_text)
        patch.setattr(artefacts, "provenance", dict)
        yield engine


@pytest.fixture(scope="module")
def states(answering: list[Seeded], tmp_path_factory: pytest.TempPathFactory) -> States:
    place, found = tmp_path_factory.mktemp("scratch"), States()
    for seed in (0, 5):
        run = place / f"run-{seed}"
        preset = changed(PRESET, {**COUNT, "seed": seed})
        artefacts.write_json(run / "run.json", {"preset": preset.model_dump(mode="json")})
        run_stage(run, "00-images", PROGRAMS)
        for kind in DRAWING:
            for answers, moment in ((1, "early"), (1, "late")):
                answering.append(Mortal(answers))
                with pytest.raises(KeyboardInterrupt):
                    run_stage(run, NAMES[kind], PROGRAMS)
                answering.pop()
                name = "another's" if seed else moment
                found[kind, name] = place / f"{kind}-{seed}-{moment}"
                shutil.copytree(run, found[kind, name])
            run_stage(run, NAMES[kind], PROGRAMS)
            if not seed:
                found[kind, "done"] = Path(shutil.copytree(run, place / f"{kind}-done"))
    return found


def go_on(run: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> Attempt:
    capsys.readouterr()
    return Attempt(main(PROGRAMS, [str(run), NAMES[kind]]), capsys.readouterr().err)


def scratch_of(run: Path, kind: str) -> Path:
    return stage_folder(run, NAMES[kind]) / artefacts.WORK


@pytest.mark.parametrize("how", damage.HARMS)
@pytest.mark.parametrize("kind", DRAWING)
def test_harmed_scratch_is_made_anew_or_refused(
    kind: str, how: str, states: States, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late, wanted = states[kind, "late"], left(states[kind, "done"])
    for name in sorted(path.name for path in scratch_of(late, kind).iterdir()):
        for other in ("early", "another's") if how == "another's" else ("",):
            run = Path(shutil.copytree(late, tmp_path / f"{name}-{other}"))
            path = scratch_of(run, kind) / name
            others = [scratch_of(states[kind, other], kind) / name] if other else []
            damage.harm(path, how, random.Random(f"{kind} {how} {name}"), others)
            if how == "unreadable":
                found = attempt(unprivileged(partial(main, PROGRAMS, [str(run), NAMES[kind]])), Seeded())
            else:
                found = go_on(run, kind, capsys)
            assert found.fault((0, 2)) is None, (name, found)
            assert how != "unreadable" or found.code == 2
            if found.code:
                assert str(path) in found.said
                damage.put_right(path)
                assert go_on(run, kind, capsys).fault((0,)) is None
            assert left(run) == wanted, (name, found)


@pytest.mark.parametrize("kind", DRAWING)
def test_all_scratch_of_another_run_is_not_gone_on_from(
    kind: str, states: States, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(states[kind, "late"], tmp_path / "run"))
    shutil.rmtree(scratch_of(run, kind))
    shutil.copytree(scratch_of(states[kind, "another's"], kind), scratch_of(run, kind))
    assert go_on(run, kind, capsys).fault((0,)) is None
    assert left(run) == left(states[kind, "done"])
