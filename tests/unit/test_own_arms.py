"""Arms and rewards out of the user's files: what they become, what is refused and how, and what two of them
share."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness.audit import PLAYERS, SOLVERS, audit
from harness.audit.measure import measure
from harness.audit.rules import of_arm
from harness.runs.signals import interruptible
from vzero.arms import ARMS, changes_of, chosen
from vzero.arms.objectives import label_reward, of_file
from vzero.arms.questioner_rewards import named, reward_of
from vzero.arms.reward_file import read_source
from vzero.arms.scored import ScoredQuestion
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError, machine_failure
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group
from vzero.images.records import ImageRecord
from vzero.presets import changed, load_preset
from vzero.presets.written import as_toml
from vzero.rollout.protocol import Completion
from vzero.selfplay import plan

ROOT = Path(__file__).resolve().parents[2]
BASE = load_preset("pocket")
LENGTH = '''"""Pays long questions.

The second line is not shown.
"""
from vzero.voting import tally


def reward(asked):
    return len(asked.text) / 100 - (tally(asked.votes).answer == asked.intuitive)
'''


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def preset_of(path: Path) -> Preset:
    return changed(BASE, changes_of(chosen(str(path))[0]))


def test_a_file_of_python_is_an_arm_that_pays_what_it_says(tmp_path: Path) -> None:
    path = written(tmp_path, "long-ones.py", LENGTH)
    (arm,) = chosen(str(path))
    assert (arm.name, arm.category, arm.summary, arm.step_matched) == (
        "long-ones",
        "own",
        "Pays long questions.",
        False,
    )
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:12] in arm.source
    reward = reward_of(preset_of(path).questioner)
    batch = [
        ScoredQuestion("x" * 50, "A", ("A", "A", "B")),
        None,
        ScoredQuestion("x" * 10, "B", ("A", "A", "B")),
    ]
    assert reward.score(batch) == [-0.5, -1.0, 0.1]


def test_a_file_may_hold_classes_and_does_not_paint_the_terminal(tmp_path: Path) -> None:
    text = (
        '"""\x1b[31mRed."""\nfrom __future__ import annotations\nfrom dataclasses import dataclass\n\n\n'
        "@dataclass\nclass Weight:\n    of: float = 0.25\n\n\ndef reward(asked):\n    return Weight().of\n"
    )
    (arm,) = chosen(str(written(tmp_path, "red.py", text)))
    assert (
        arm.summary == "[31mRed."
        and reward_of(changed(BASE, changes_of(arm)).questioner).reward(ScoredQuestion("q", "A", ())) == 0.25
    )


def test_a_file_is_read_as_python_reads_it(tmp_path: Path) -> None:
    """With the mark that editors on Windows put first; its annotations are no strings unless it says so."""
    source = "def reward(one: int) -> float:\n    return 0.5 * (reward.__annotations__['return'] is float)\n"
    path = tmp_path / "marked.py"
    path.write_bytes(source.encode("utf-8-sig"))
    assert reward_of(preset_of(path).questioner).score([ScoredQuestion("q", "A", ())]) == [0.5]


def test_the_reward_is_part_of_the_training_and_of_nothing_before_it(tmp_path: Path) -> None:
    one, other = (
        preset_of(written(tmp_path, "one.py", LENGTH)),
        preset_of(written(tmp_path, "other.py", LENGTH.replace("100", "99"))),
    )
    configs = [{stage.name: stage.config for stage in plan(preset)} for preset in (BASE, one, other)]
    differing = {name for name in configs[0] if configs[0][name] != configs[1][name]}
    assert differing == {"02-train-questioner-1", "07-train-questioner-2"}
    assert {name for name in configs[1] if configs[1][name] != configs[2][name]} == differing
    assert {"reward_source" in stage.config for stage in plan(BASE)} == {False}


def test_a_run_keeps_the_reward_though_its_file_is_gone(tmp_path: Path) -> None:
    path = written(tmp_path, "gone.py", LENGTH)
    path.write_text(path.read_text() + '\n# \U0001f44d \u2028 \x7f \\\\ "\n', encoding="utf-8")
    preset = preset_of(path)
    shown = as_toml(preset.model_dump(mode="json"))
    path.unlink()
    again = load_preset(str(written(tmp_path, "shown.toml", shown)))
    assert again == preset
    assert reward_of(again.questioner).reward(ScoredQuestion("x" * 50, "A", ("B",))) == 0.5


def test_a_file_of_settings_is_an_arm(tmp_path: Path) -> None:
    written(tmp_path, "doubt.py", LENGTH)
    path = written(
        tmp_path,
        "narrow.toml",
        'summary = "a narrow filter, another reward"\nstep_matched = true\nreward = "doubt.py"\n'
        "[changes]\nsolver.keep_low = 0.4\nlora.rank = 4\nlora.alpha = 8\n"
        "[changes.questioner]\nper_image = 2\n",
    )
    arms = chosen(f"random-label,{path},v-zero")
    assert [arm.name for arm in arms] == ["v-zero", "random-label", "narrow"] and arms[-1].step_matched
    preset = changed(BASE, changes_of(arms[-1], [7, 5]))
    assert (preset.solver.keep_low, preset.questioner.per_image, preset.step_matched) == (0.4, 2, (7, 5))
    assert preset.lora is not None and preset.lora.rank == 4
    assert (preset.questioner.reward, preset.questioner.reward_source) == ("own", LENGTH)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("missing.py", None, "Cannot read"),
        ("v-zero.py", LENGTH, "already"),
        ("paper.py", LENGTH, "already"),
        ("Big Name.py", LENGTH, "small letters"),
        ("template.py.py", LENGTH, "small letters"),
        ("broken.py", "def reward(asked:\n", "SyntaxError in line 1"),
        ("fails.py", "import nothing_of_that_name\n", "ModuleNotFoundError in line 1"),
        ("leaves.py", "import sys\nsys.exit(0)\n", "SystemExit in line 2"),
        ("empty.py", "", "defines no function reward"),
        ("number.py", "reward = 3\n", "defines no function reward"),
        ("null.py", "x = '\0'\n", "does not run"),
        ("settings.toml", "summary = 'x'\n", "changes nothing"),
        (
            "painted.toml",
            'summary = "\\u001b[31mred"\n[changes]\nsolver.keep_low = 0.4\n',
            "summary in one line",
        ),
        ("mute.toml", "[changes]\nsolver.keep_low = 0.4\n", "summary in one line"),
        ("seeded.toml", "summary = 'x'\n[changes]\nseed = 3\n", "given to each run"),
        ("old.toml", "says = 'x'\n[changes]\niterations = 1\n", "'says' is now called 'summary'"),
        ("older.toml", "summary = 'x'\nmatched = true\n", "'matched' is now called 'step_matched'"),
        ("stray.toml", "summary = 'x'\nkeep_low = 0.4\n", "'keep_low' is not part of an arm"),
        ("torn.toml", "summary = 'x\n", "not valid TOML"),
        ("lost.toml", "summary = 'x'\nreward = 'nowhere.py'\n", "nowhere.py"),
        ("hidden.toml", "summary = 'x'\n[changes]\nsolver.selection_source = 'y'\n", "is a program"),
        ("typed.toml", "summary = 'x'\nstep_matched = 'yes'\n[changes]\niterations = 1\n", "true or false"),
    ],
)
def test_what_is_no_arm_is_refused_in_one_sentence(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    path = tmp_path / name if text is None else written(tmp_path, name, text)
    with pytest.raises(InputError, match=said) as found:
        chosen(str(path))
    assert str(tmp_path) in str(found.value) and "\n" not in str(found.value)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    one, two = written(tmp_path, "mine.py", LENGTH), written(tmp_path / "sub", "mine.py", LENGTH)
    assert len(chosen(f"{one},{one}")) == 1
    with pytest.raises(InputError, match="already"):
        chosen(f"{one},{two}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / asked.votes.count(None)", "ZeroDivisionError in line 2"),
        ("return '0.5'", "paid '0.5' for .*; a reward is a finite number"),
        ("return None", "TypeError"),
        ("raise SystemExit(0)", "SystemExit in line 2"),
        ("return float('nan')", "paid nan"),
        ("return 1e999", "paid inf"),
    ],
)
def test_a_reward_that_fails_ends_the_training_and_is_never_a_number(body: str, said: str) -> None:
    source = f"def reward(asked):\n    {body}\n"
    reward = reward_of(
        changed(BASE, {"questioner.reward": "own", "questioner.reward_source": source}).questioner
    )
    with pytest.raises(InputError, match=said):
        reward.score([ScoredQuestion("q", "A", ("A",))])


SOFT = """def solver_reward(one):
    share = one.votes.count(one.answer) / len(one.votes)
    return share + (one.answer == one.label) + one.group.count("B") * 10
"""


def test_a_solver_paid_by_a_file() -> None:
    """Votes A, A, B, unreadable, A; label A; a group of A, B and nothing: .6 + 1 + 10, .2 + 10, and .2 + 10
    with the unreadable one."""
    prompt = Prompt("q1", (), ImageRecord("i", Path("x"), "", 2, 2), "A")
    texts = ("\\boxed{A}", "so \\boxed{ b }", "no box")
    group = Group(prompt, tuple(Completion(text, (1,), (0.0,), "stop") for text in texts))
    rows = [{"question_id": "q1", "votes": ["A", "A", "B", None, "A"]}, {"question_id": "q2", "votes": ["B"]}]
    scores = of_file(read_source(SOFT), rows)([group], 0)
    assert scores.rewards == [[pytest.approx(11.6), pytest.approx(10.2), pytest.approx(10.2)]]


def test_a_file_may_pay_either_role_or_both(tmp_path: Path) -> None:
    soft, both = (
        preset_of(written(tmp_path, "soft.py", SOFT)),
        preset_of(written(tmp_path, "both.py", LENGTH + SOFT)),
    )
    assert (soft.questioner.reward, soft.solver.objective, soft.solver.reward_source) == (
        "dual_track",
        "own",
        SOFT,
    )
    assert (both.questioner.reward, both.solver.objective) == ("own", "own")
    configs = [{stage.name: stage.config for stage in plan(preset)} for preset in (BASE, soft)]
    assert {name for name in configs[0] if configs[0][name] != configs[1][name]} == {
        "05-train-solver-1",
        "10-train-solver-2",
    }


def test_source_and_name_go_together() -> None:
    for changes in (
        {"questioner.reward": "own"},
        {"questioner.reward_source": LENGTH},
        {"solver.objective": "own"},
        {"solver.labels": "own"},
        {"solver.filter": "own"},
        {"solver.selection_source": LENGTH},
    ):
        with pytest.raises(InputError, match=r"reward_source|selection_source"):
            changed(BASE, changes)


@pytest.mark.slow
def test_the_audit_plays_against_a_reward_of_ones_own(tmp_path: Path) -> None:
    """V-Zero's formula written anew as a file: simulated, so its rewards lie within their intervals around
    the enumerated ones."""
    text = (
        "def reward(asked):\n"
        "    counts = {one: asked.votes.count(one) for one in asked.votes if one}\n"
        "    top = max(counts, key=counts.get) if counts else None\n"
        "    c = counts.get(top, 0) / len(asked.votes)\n"
        "    return 0.0 if top is None else min(c, 1 - c) if top == asked.intuitive else 0.5 * c\n"
    )
    rules = of_arm(chosen(str(written(tmp_path, "again.py", text)))[0])
    exact = of_arm(ARMS["v-zero"])
    assert rules is not None and exact is not None
    mine = {(row.solver, row.player): row for row in audit([rules], 10, 500, 0).rows}
    wanted = {
        key: row.reward for row in audit([exact], 10, None, 0).rows if (key := (row.solver, row.player))
    }
    outside = [
        key
        for key, row in mine.items()
        if row.low is not None and abs(row.reward - wanted[key]) > 2 * (row.high - row.reward) + 1e-9
    ]
    assert len(mine) == len(wanted) and not outside


def test_the_audit_keeps_what_the_arm_keeps(tmp_path: Path) -> None:
    path = written(
        tmp_path, "narrow.toml", "summary = 'x'\n[changes]\nsolver.keep_low = 0.5\nsolver.keep_high = 0.5\n"
    )
    rules, whole = of_arm(chosen(str(path))[0]), of_arm(ARMS["v-zero"])
    assert rules is not None and whole is not None
    kept, more = (
        {(r.solver, r.player): r.kept for r in audit([one], 10, None, 0).rows} for one in (rules, whole)
    )
    guessing = ("guessing", "unanswerable")
    assert kept[guessing] == pytest.approx(_chance_of_top(5)) and kept[guessing] < more[guessing]
    assert "0.5 <= c <= 0.5" in rules.formula


def _chance_of_top(most: int) -> float:
    """That the fullest of four cells gets `most` of ten balls: 10! [x^10] (sum x^k / k!)^4 / 4^10, up to
    `most` less up to one less."""
    up_to = [
        np.polynomial.Polynomial([1 / math.factorial(k) for k in range(top + 1)]) ** 4
        for top in (most, most - 1)
    ]
    return (up_to[0].coef[10] - up_to[1].coef[10]) * math.factorial(10) / 4**10


@pytest.mark.slow
def test_the_command_line_takes_files(tmp_path: Path) -> None:
    from harness.cli import app

    path = written(tmp_path, "long-ones.py", LENGTH)
    found = CliRunner().invoke(app, ["audit", "--arm", str(path)])
    assert found.exit_code == 0 and "Pays long questions." in found.output


ODD_BATCH = """def score(batch):
    first = [one.group for one in batch if one]
    return [-0.5 if one is None else first.count(one.group) + len(one.options) / 8 for one in batch]
"""


def test_a_file_that_scores_a_batch_sees_all_of_it() -> None:
    texts = "how many ? A) 1 B) 2 C) 3 D) 4", "how many ? A) 1 C) 2"
    batch = [
        ScoredQuestion(texts[0], "A", (), group="g1"),
        None,
        ScoredQuestion(texts[1], "B", (), group="g1"),
        ScoredQuestion(texts[0], "B", (), group="g2"),
    ]
    assert batch[0] is not None and batch[0].options == ("1", "2", "3", "4")
    file = read_source(ODD_BATCH)
    assert file.score(batch) == [2.5, -0.5, 2.0, 1.5]
    assert file.reward(ScoredQuestion(texts[0], "A", (), group="g1")) == 1.5  # a batch of one


def test_with_both_functions_score_pays_and_reward_is_audited() -> None:
    file = read_source(ODD_BATCH + "def reward(question):\n    return 7\n")
    question = ScoredQuestion("q", "A", (), group="g")
    assert file.score([question, question]) == [2.0, 2.0] and file.reward(question) == 7.0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "score gives one value for each of the 2 questions"),
        ("return 1.0", "score gives one value for each of the 2 questions"),
        ("return [0.0, float('inf')]", "paid inf"),
        ("return ['x', 0.0]", "paid 'x'"),
        ("return [one.nothing for one in batch]", "AttributeError in line 2"),
    ],
)
def test_a_score_that_is_none_ends_the_training(body: str, said: str) -> None:
    file = read_source(f"def score(batch):\n    {body}\n")
    with pytest.raises(InputError, match=said):
        file.score([ScoredQuestion("q", "A", ()), None])


def test_labels_and_choices_are_held_to_what_they_may_be() -> None:
    question = ScoredQuestion("q", "A", ())
    file = read_source("def label(question): return 'E'\ndef keep(batch): return [3]\n")
    with pytest.raises(InputError, match="not 'E'"):
        file.label(question)
    with pytest.raises(InputError, match="True or False of each question, not 3"):
        file.keep([question])
    with pytest.raises(InputError, match="no function reward"):
        file.reward(question)


QUESTION = ScoredQuestion("q", "A", (), ("a" * 1000,) * 75, "b" * 1000)
HOSTILE = """import errno
from vzero.errors import InterruptedRun
class Odd:
    def __float__(self): raise KeyError("odd")
class Mute(Exception):
    def __str__(self): raise KeyError("mute")
def mute(): raise Mute
def long(): raise ValueError("x" * 100_000)
class Stopped:
    def __float__(self): raise InterruptedRun("stopped")
def rising(batch):
    yield from [0.5] * (len(batch) - 1)
    raise ValueError("half")
def full(): raise OSError(errno.ENOSPC, "No space left on device")
"""


@pytest.mark.parametrize(
    ("function", "result", "kind", "said"),
    [
        (
            "score",
            "rising(one)",
            InputError,
            "score failed on a batch of 2 questions: ValueError in line 13: half",
        ),
        ("score", "{q: 0.5 for q in range(2)}", InputError, "score gives one value for each of the 2"),
        ("score", "{0.5, 1.5}", InputError, "score gives one value for each of the 2"),
        ("score", "'12'", InputError, "score gives one value for each of the 2"),
        ("score", "(0.5 for _ in iter(int, 1))", InputError, "score gives one value for each of the 2"),
        ("score", "[Odd(), 0.5]", InputError, r"score paid <.*Odd.* for ScoredQuestion.*KeyError in line 4"),
        ("score", "[Stopped(), 0.5]", InputError, "score paid .* InterruptedRun in line 10: stopped"),
        ("score", "full()", InputError, "score failed on a batch .* OSError in line 14: .*No space left"),
        ("reward", "Stopped()", InputError, "reward paid .*: InterruptedRun in line 10: stopped"),
        ("reward", "Odd.__float__(Stopped)", InputError, "reward failed on "),
        ("reward", "Odd()", InputError, "reward paid <"),
        ("solver_reward", "Odd()", InputError, "solver_reward paid <"),
        ("keep", "rising(one)", InputError, "keep failed on a batch of 2 questions: ValueError in line 13"),
        ("keep", "{q: True for q in range(2)}", InputError, "keep gives one value for each of the 2"),
        ("keep", "__import__('numpy').ones((2, 2))", InputError, "keep failed on a batch .* ValueError"),
        ("keep", "full()", InputError, "keep failed on a batch of 2 .*No space left"),
        ("keep", "mute()", InputError, "keep failed on a batch of 2 questions: Mute in line 7: no message"),
        ("reward", "long()", InputError, "reward failed on .*: ValueError in line 8: xxx"),
        ("label", "__import__('numpy').ones(2)", InputError, "label failed on ScoredQuestion.*ValueError"),
        ("label", "full()", InputError, "label failed on .*No space left"),
    ],
)
def test_whatever_a_function_gives_is_one_sentence_that_names_it(
    function: str, result: str, kind: type[VZeroError], said: str
) -> None:
    file = read_source(f"{HOSTILE}def {function}(one): return {result}\n")
    given = [QUESTION, QUESTION] if function in ("score", "keep") else QUESTION
    with pytest.raises(kind, match=said) as found:
        getattr(file, function)(given)
    assert len(str(found.value)) < 1000 and "\n" not in str(found.value)


def test_a_strangers_arm_opens_regular_files_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    for place, said in (
        ("/dev/zero", "no regular file"),
        ("pipe.py", "no regular file"),
        ("gone.py", "Cannot read"),
    ):
        arm = written(tmp_path, "odd.toml", f'summary = "x"\nreward = "{place}"\n')
        with pytest.raises(InputError, match=said):
            chosen(str(arm))


def test_what_a_file_raises_is_its_own_fault_and_no_interruption() -> None:
    """It would raise it again: exit code 75 would send who runs it in a circle."""
    for call in ("full()", "float(Stopped())"):
        with pytest.raises(InputError, match="The reward file does not run") as found:
            read_source(f"{HOSTILE}{call}\n")
        assert machine_failure(found.value, "/data") is None


def test_ctrl_c_in_a_file_is_an_interruption() -> None:
    raising = (
        "import signal\nclass Paid:\n    def __float__(one): signal.raise_signal(signal.SIGINT); return 0.5\n"
    )
    file = read_source(f"{raising}def reward(one): return Paid()\ndef score(batch): return [float(Paid())]\n")
    for call in (lambda: file.reward(QUESTION), lambda: file.score([QUESTION])):
        with interruptible(), pytest.raises(InterruptedRun, match="Stopped by Ctrl-C"):
            call()


def test_a_question_is_put_into_words_only_where_something_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScoredQuestion, "__repr__", lambda one: pytest.fail("it was put into words"))
    file = read_source("def reward(one): return 0.5\ndef label(one): return 'A'\n")
    assert (file.score([QUESTION]), file.label(QUESTION)) == ([0.5], "A")


def test_own_labels_and_choices_touch_the_selection_and_what_follows(tmp_path: Path) -> None:
    path = written(tmp_path, "picky.py", "def keep(batch): return [True] * len(batch)\n")
    (arm,) = chosen(str(path))
    assert arm.changes.keys() == {"solver.filter", "solver.selection_source"}
    stages = {stage.kind: stage for stage in plan(changed(BASE, changes_of(arm)))}
    whole = {stage.kind: stage for stage in plan(BASE)}
    assert {kind for kind, one in whole.items() if one.config != stages[kind].config} == set()
    assert stages["select"].config["selection_source"] == path.read_text()
    assert stages["train-solver"].inputs["labels"] == stages["select"].name
    roles = {role: name.split("-", 1)[1] for role, name in stages["select"].inputs.items()}
    assert roles == {
        "images": "images",
        "labels": "label-2",
        "votes": "label-2",
        "questions": "write-questions-2",
    }


def test_the_audit_plays_against_labels_and_choices_of_ones_own(tmp_path: Path) -> None:
    """Kept where the first vote is A, labelled B: a quarter of what is guessed, and right for a quarter of
    that."""
    text = (
        "def label(question): return 'B'\n"
        "def keep(batch): return [bool(one.vote_texts) and one.votes[0] == 'A' for one in batch]\n"
    )
    rules = of_arm(chosen(str(written(tmp_path, "odd.py", text)))[0])
    assert rules is not None and rules.formula.endswith("own filter, own labels")
    solvers, players = ({one.name: one for one in given} for given in (SOLVERS, PLAYERS))
    (row,) = measure(rules, [players["honest, hard"]], [solvers["guessing"]], 10, 1000)
    assert row.kept == pytest.approx(0.25, abs=0.06) and row.label_accuracy == pytest.approx(0.25, abs=0.12)
    (row,) = measure(rules, [players["honest, easy"]], [solvers["flawless"]], 10, 100)
    assert row.kept and row.label_accuracy == 0.0  # of those answered A, none is B


@pytest.mark.parametrize("name", ["r_zero", "visplay", "evolmm", "token_entropy"])
def test_the_rewards_of_other_methods_are_files_as_a_user_writes_them(name: str, tmp_path: Path) -> None:
    text = (ROOT / "vzero" / "arms" / "methods" / f"{name}.py").read_text("utf-8")
    preset = preset_of(written(tmp_path, f"my-{name.replace('_', '-')}.py", text))
    repeated = ScoredQuestion("how many red circles ? A) 1 B) 2 C) 3 D) 4", "A", tuple("AABBC"))
    batch = [repeated, None, repeated, ScoredQuestion("which colour ? A) r B) g C) b D) y", "B", ("B", None))]
    assert reward_of(preset.questioner).score(batch) == named(name).score(batch)
    assert (preset.solver.objective == "own") == (name == "evolmm")


VOTES = st.lists(st.sampled_from([*"ABCD", None]), min_size=1, max_size=10)


@given(st.lists(st.none() | st.tuples(VOTES, st.sampled_from("ABCD")), max_size=6))
def test_a_new_arm_is_v_zero_until_it_is_changed(asked: list[tuple[list[str | None], str] | None]) -> None:
    file = read_source((ROOT / "vzero" / "arms" / "methods" / "template.py").read_text("utf-8"))
    batch = [None if one is None else ScoredQuestion("q", one[1], tuple(one[0])) for one in asked]
    assert file.score(batch) == named("dual_track").score(batch)
    for one in filter(None, batch):
        counts = {letter: one.votes.count(letter) for letter in one.votes if letter}
        assert file.label(one) == (max(counts, key=counts.__getitem__) if counts else None)
        share = max(counts.values(), default=0) / len(one.votes)
        assert file.keep([one]) == [bool(counts) and 0.3 - 1e-9 <= share <= 0.8 + 1e-9]
        label = one.votes[0]
        texts = tuple(f"\\boxed{{{vote}}}" if vote else "no box" for vote in one.votes)
        group = Group(
            Prompt("q", (), ImageRecord("i", Path("x"), "", 2, 2), label),
            tuple(Completion(text, (1,), (0.0,), "stop") for text in texts),
        )
        assert of_file(file)([group], 0).rewards == label_reward([group], 0).rewards


def test_new_arm_writes_what_audits_and_runs(tmp_path: Path) -> None:
    from harness.cli import app

    command = ["new-arm", "my-idea", "--to", str(tmp_path)]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0 and f"--arms v-zero,{tmp_path / 'my-idea.toml'}" in found.output
    (arm,) = chosen(str(tmp_path / "my-idea.toml"))
    assert (arm.name, arm.summary) == ("my-idea", "my-idea: what it changes, in one line")
    settings = {"questioner.reward", "solver.objective", "solver.labels", "solver.filter"}
    assert {key: arm.changes[key] for key in settings} == dict.fromkeys(settings, "own")
    played = CliRunner().invoke(app, ["audit", "--arm", str(tmp_path / "my-idea.toml"), "--draws", "100"])
    assert played.exit_code == 0
    written(tmp_path, "other.py", "mine")
    written(tmp_path, "half.toml", "mine")
    for name, said in (
        ("my-idea", "there already"),
        ("other", "there already"),
        ("half", "there already"),
        ("v-zero", "an arm 'v-zero'"),
        ("../outside", "small letters"),
        ("sub/inside", "small letters"),
        ("/outside", "small letters"),
    ):
        refused = CliRunner().invoke(app, ["new-arm", name, "--to", str(tmp_path)])
        assert refused.exit_code == 2 and said in " ".join(refused.stderr.split()), name
    assert (tmp_path / "other.py").read_text() == "mine" and not (tmp_path / "other.toml").exists()
    assert not list(tmp_path.parent.glob("outside*"))
    assert (tmp_path / "half.toml").read_text() == "mine" and not (tmp_path / "half.py").exists()


def test_the_example_of_the_page_pays_what_it_says() -> None:
    """c = .6, intuition right: .4 alone, .2 each where a group asks the same twice; 0 where it is wrong."""
    source = (ROOT / "docs" / "extending.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    votes = tuple("AAABB")
    right, other, wrong = (ScoredQuestion("q", own, votes, group=group) for own, group in ("A1", "A2", "B2"))
    file = read_source(source)
    assert file.score([right, right, None, other]) == [0.2, 0.2, -1.0, 0.4]
    assert file.score([wrong]) == [0.0] and file.summary.startswith("Doubt where")
