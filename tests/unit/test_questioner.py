"""The Questioner's reward against votes worked by hand, and the writing stage: what is valid, seeds,
resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests import tiny_model
from tests.stub_engine import StubEngine
from vzero import questioner, selfplay
from vzero.arms.vote_reward import VoteReward
from vzero.config import SamplingConfig
from vzero.errors import RolloutError
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group
from vzero.images.records import ImageRecord
from vzero.presets import changed, load_preset
from vzero.prompts import read_question
from vzero.rollout.ahead import AskedAhead
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import load_processor
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext

pytestmark = pytest.mark.slow

GOOD = (
    "<description> d </description> <question> how many ? A) 1 B) 2 C) 3 D) 4 </question>"
    " <answer> {} </answer>"
)
PICTURE = Image.new("RGB", (2, 2))


def completion(text: str, finish: str = "stop") -> Completion:
    return Completion(text, (1, 2), (-0.1, -0.2), finish)


class Scripted(StubEngine):
    """An engine that answers request i of each call with the next list of texts, and remembers what it was
    asked."""

    def __init__(self, *replies: Sequence[str]) -> None:
        self.replies, self.calls = list(replies), []

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        self.calls.append((list(requests), sampling))
        return [Rollout(3, tuple(completion(text) for text in self.replies.pop(0))) for _ in requests]


def reward_of(engine: Scripted, n: int = 10):
    return VoteReward(
        engine,
        SamplingConfig(n=n, max_new_tokens=8),
        "pocket",
        lambda record: PICTURE,
        lambda generation, key, index: hash((generation, key, index)) & 0xFFFF,
        (0.3, 0.8),
    )


def group(key: str, *completions: Completion) -> Group:
    return Group(Prompt(key, (), ImageRecord(key, Path("x"), "", 2, 2)), completions)


def votes(letters: str) -> list[str]:
    return [f"<think> w </think> \\boxed{{ {letter} }}" if letter != "-" else "no box" for letter in letters]


def test_rewards_by_hand() -> None:
    engine = Scripted(votes("BBBBBBACD-"), votes("CCCCCCCCCC"), votes("----------"))
    scores = reward_of(engine)(
        [
            group(
                "i0",
                completion(GOOD.format("B")),
                completion("nonsense"),
                completion(GOOD.format("B"), "length"),
            ),
            group(
                "i1", completion(GOOD.format("A")), completion(GOOD.format("D")), completion(GOOD.format("x"))
            ),
        ],
        4,
    )
    # agreement at c = 0.6: min(0.6, 0.4); invalid; truncated; disagreement at c = 1: 0.5; no vote parsed: 0;
    # no letter: -1
    assert [list(row) for row in scores.rewards] == [
        [pytest.approx(0.4), -1.0, -1.0],
        [pytest.approx(0.5), 0.0, -1.0],
    ]
    assert scores.metrics == {
        "valid": 0.5,
        "confidence": pytest.approx((0.6 + 1.0 + 0.0) / 3),
        "agreement": pytest.approx(1 / 3),
        "would_keep": pytest.approx(1 / 3),
    }
    assert scores.vote_tokens == 3 * 10 * 2
    [(requests, sampling)] = engine.calls  # one batched call, one request a valid question, n votes each
    assert len(requests) == 3 and sampling.n == 10
    assert [message.text for message in requests[0].messages] == ["solve", "how many ? A) 1 B) 2 C) 3 D) 4"]
    assert all(request.image is PICTURE for request in requests)
    assert len({request.seed for request in requests}) == 3


def test_votes_that_end_inside_a_thought_are_none_and_counted() -> None:
    """Each is a vote without an answer among ten; the share is said beside the rewards."""

    class Thinks(Scripted):
        def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
            found = super().generate(requests, sampling)
            return [
                Rollout(3, tuple(replace(one, thought="hm") for one in rollout.completions))
                for rollout in found
            ]

    asked = [group("i0", completion(GOOD.format("B")), completion("no question"))]
    scores = reward_of(Thinks([*votes("BBBBBB"), *[""] * 4]))(asked, 0)
    assert scores.metrics["unfinished_votes"] == pytest.approx(0.4)
    assert scores.metrics["confidence"] == pytest.approx(0.6)
    assert "unfinished_votes" not in reward_of(Scripted(["", *votes("BBBBBBBBB")]))(asked, 0).metrics


def test_votes_begun_ahead_are_the_same_votes() -> None:
    """A group at a time before the whole batch is there: the same requests, each made once, and the same
    rewards."""
    groups = [
        group("i0", completion(GOOD.format("B")), completion("nonsense")),
        group("i1", completion(GOOD.format("A")), completion(GOOD.format("D"))),
    ]

    class BySeed(Scripted):
        def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
            self.replies = [votes("ABCD"[one.seed % 4] * 7 + "BC-") for one in requests]
            return super().generate(requests, sampling)

    plain, engine = BySeed(), BySeed()
    expected = reward_of(plain)(groups, 4)
    reward = reward_of(AskedAhead(engine))
    for one in groups:
        reward.begin([one], 4)
    found = reward(groups, 4)
    assert found == expected
    made = sorted(request.seed for requests, _ in engine.calls for request in requests)
    assert (
        made == sorted(request.seed for requests, _ in plain.calls for request in requests) and len(made) == 3
    )
    reward_of(plain).begin(groups, 4)  # a Solver that cannot be asked ahead is not asked
    assert len(plain.calls) == 1


def test_control_tokens_make_a_question_invalid() -> None:
    engine = Scripted()
    hostile = GOOD.format("A").replace("how many", "how <|image_pad|> many")
    scores = reward_of(engine)([group("i0", completion(hostile), completion(hostile))], 0)
    assert scores.rewards == [[-1.0, -1.0]] and engine.calls == []
    assert scores.metrics == {"valid": 0.0, "confidence": None, "agreement": None, "would_keep": None}


def test_a_failing_solver_is_never_a_reward() -> None:
    class Dead(StubEngine):
        def generate(self, requests, sampling):
            raise RolloutError("gone")

    with pytest.raises(RolloutError, match="gone"):
        reward_of(Dead())([group("i0", completion(GOOD.format("A")), completion("bad"))], 0)


def test_fewer_answers_than_questions_is_an_error() -> None:
    class Short(Scripted):
        def generate(self, requests, sampling):
            return super().generate(requests, sampling)[:-1]

    with pytest.raises(RolloutError, match="owed 2 answers and gave 1"):
        reward_of(Short(votes("A" * 10), votes("A" * 10)))(
            [group("i0", completion(GOOD.format("A")), completion(GOOD.format("B")))], 0
        )


@pytest.fixture()
def context(tmp_path: Path) -> StageContext:
    """The writing stage over five pictures with a tiny random Questioner, three images a chunk."""
    rows = []
    for i in range(5):
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        tiny_model.picture(i).save(path)
        rows.append(
            {
                "image_id": f"i{i}",
                "path": path.name,
                "sha256": artefacts.sha256_file(path),
                "width": 42,
                "height": 42,
            }
        )
    artefacts.write_jsonl(tmp_path / "images" / "images.jsonl", rows)
    preset = load_preset(
        "smoke", ["engine.batch_sequences=3", "engine.threads=1", "questioner.write.max_new_tokens=6"]
    )
    stage = next(one for one in selfplay.plan(preset) if one.kind == "write-questions")
    model = tiny_model.build(tmp_path / "model")
    return StageContext(
        stage,
        preset,
        tmp_path / "out",
        {"images": tmp_path / "images", "questioner": model},
        Progress(tmp_path / "out" / "work" / "progress.jsonl"),
    )


MARK = "\u25c1turn\u25b7"  # of no family that is known here


@pytest.fixture
def marked(context: StageContext) -> StageContext:
    """The same, and the checkpoint's tokenizer has a mark of its own."""
    folder = context.inputs["questioner"]
    made = load_processor(folder)
    made.tokenizer.add_tokens([MARK])
    made.save_pretrained(folder)
    return context


def test_a_mark_of_the_solvers_own_tokenizer_makes_a_question_invalid(
    marked: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is paid, where the Solver is not asked, and when it is written."""
    hostile, jobs = GOOD.format("A").replace("many", f"many {MARK}"), []
    engine = Scripted(*[[hostile]] * 4, [GOOD.format("A")])
    monkeypatch.setattr("vzero.rollout.engines.open_engine", lambda config, checkpoint: engine)
    questioner.run_writing(marked)
    rows = artefacts.read_jsonl(marked.folder / "questions.jsonl")
    assert [row["valid"] for row in rows] == [False] * 4 + [True]

    solver = Scripted(votes("AB"))
    monkeypatch.setattr("vzero.rollout.engines.open_solver", lambda config, checkpoint: solver)
    monkeypatch.setattr("vzero.grpo.train.train", lambda job: jobs.append(job) or {})
    stage = next(one for one in selfplay.plan(marked.preset) if one.kind == "train-questioner")
    inputs = {**marked.inputs, "solver": marked.inputs["questioner"]}
    questioner.run_training(StageContext(stage, marked.preset, marked.folder, inputs, marked.progress))
    asked = Group(jobs[0].prompts[0], (completion(hostile), completion(GOOD.format("A"))))
    assert jobs[0].reward([asked], 0).rewards == [[-1.0, 0.5]] and len(solver.calls[0][0]) == 1


def test_writing_resumes_at_the_image(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = questioner.run_writing(context)
    whole = (context.folder / "questions.jsonl").read_text()
    rows = artefacts.read_jsonl(context.folder / "questions.jsonl")
    assert [row["question_id"] for row in rows] == [f"1-i{i}" for i in range(5)]
    assert (
        facts["questions"] == 5
        and facts["valid"] == 0
        and facts["tokens"] == sum(row["tokens"] for row in rows)
    )
    assert all(row["text"] is None and not row["valid"] and row["raw"] for row in rows)
    assert artefacts.read_jsonl(context.progress.path)[-1]["done"] == 5

    log = context.work / "written.jsonl"
    kept = log.read_text().splitlines()[:2]
    log.write_text("\n".join(kept) + '\n{"item": 1, "replies": [{"te')  # killed while writing the third
    opened: list[str] = []
    real = questioner.open_image
    monkeypatch.setattr(
        questioner, "open_image", lambda record: opened.append(record.image_id) or real(record)
    )
    questioner.run_writing(context)
    done = {json.loads(line)["item"] for line in kept}
    assert opened == [f"i{i}" for i in range(5) if i not in done]
    assert (context.folder / "questions.jsonl").read_text() == whole


def test_a_training_pays_by_the_reward_of_its_preset(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that training is handed, with votes 9 to 1 against the writer's own answer: .5c, min(c, 1-c),
    or what a file says."""
    jobs = []
    monkeypatch.setattr(
        "vzero.rollout.engines.open_solver", lambda config, checkpoint: Scripted(votes("A" * 9 + "B"))
    )
    monkeypatch.setattr("vzero.grpo.train.train", lambda job: jobs.append(job) or {})
    own = {
        "questioner.reward": "own",
        "questioner.reward_source": "def reward(asked): return len(asked.votes) + (asked.intuitive == 'B')",
    }
    seen = (
        "(one.vote_texts[0].count('A'), one.description, one.image.image_id == one.group, len(one.options))"
    )
    whole = f"def score(batch): return [42.0 if {seen} == (1, 'd', True, 4) else 0.0 for one in batch]"
    batch = {**own, "questioner.reward_source": whole}
    for changes in ({}, {"questioner.reward": "uncertainty"}, own, batch):
        preset = changed(context.preset, changes)
        stage = next(one for one in selfplay.plan(preset) if one.kind == "train-questioner")
        inputs = {**context.inputs, "solver": context.inputs["questioner"]}
        questioner.run_training(StageContext(stage, preset, context.folder, inputs, context.progress))
    asked = Group(jobs[0].prompts[0], (completion(GOOD.format("B")),))
    assert [job.reward([asked], 0).rewards for job in jobs] == [[[0.45]], [[0.1]], [[11.0]], [[42.0]]]


def test_rows_of_valid_and_invalid_questions() -> None:
    from vzero.rollout.bulk import Reply

    read = partial(read_question, prompt_format="pocket")
    row = questioner._row(2, "i7", Reply(GOOD.format("C"), "stop", 9), read)
    assert row == {
        "question_id": "2-i7",
        "image_id": "i7",
        "raw": GOOD.format("C"),
        "finish_reason": "stop",
        "tokens": 9,
        "valid": True,
        "description": "d",
        "text": "how many ? A) 1 B) 2 C) 3 D) 4",
        "intuitive": "C",
    }
    cut = questioner._row(2, "i7", Reply(GOOD.format("C"), "length", 9), read)
    assert (cut["valid"], cut["description"], cut["text"], cut["intuitive"]) == (False, None, None, None)
