"""What differs between evaluations and between runs, what of it matters, and the command that shows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.analysis import against, differences, sides
from harness.cli import app
from harness.evals import build, folder, protocol
from harness.evals.results import Protocol
from tests.fixtures import synthetic_run
from tests.fixtures.evaluations import boxed, item, run_folder
from vzero.config import EngineConfig
from vzero.errors import InputError
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET

PROTOCOL = Protocol(
    device="cpu",
    dtype="float32",
    context=2048,
    stop_tokens=("<|im_end|> (3)",),
    never_drawn="0" * 64,
    chat_template="1" * 64,
    tokens="2" * 64,
    image_processor={"size": {"shortest_edge": 196, "longest_edge": 1764}},
)
Edit = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Edit) -> None:
    found = artefacts.read_json(path)
    found.pop("digest", None)  # as an earlier version wrote it
    change(found)
    artefacts.write_json(path, found)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two evaluations that were asked alike."""
    items = [item(str(number), "A") for number in range(4)]
    found = tmp_path / "first", tmp_path / "second"
    for place in found:
        run_folder(place, items, [boxed("A")] * 4)
        protocol.record(place, PROTOCOL)
        rows = {one.id: one.id * 64 for one in items}
        artefacts.write_json(place / "pins" / "logicvista.json", {"rows": rows})
    return found


def found(a: Path, b: Path) -> dict[str, bool]:
    """What differs, and whether it matters."""
    return {one.what: one.matters for one in differences.compare(sides.read(a), sides.read(b))}


def test_evaluations_asked_alike_differ_in_nothing(pair) -> None:
    assert found(*pair) == {}


@pytest.mark.parametrize(
    ("setting", "value", "matters"),
    [
        ("model", "other", False),
        ("checkpoint_sha256", "f" * 64, False),
        ("engine", "vllm", True),
        ("prompt_format", "pocket", True),
        ("profile", "stock", True),
        ("pixels", {"least": 1, "most": 12_845_056}, True),
        ("greedy", {"n": 1, "temperature": 0, "max_new_tokens": 9}, True),
        ("sampled", {"n": 3, "temperature": 1, "max_new_tokens": 8}, True),
        ("images", "shuffled", True),
        ("prefills", "0" * 64, True),
        ("limit", 400, False),  # of more rows than there are: the rows decide
        ("seed", 1, False),  # greedy answers draw nothing
        ("cap", True, False),  # bounds lmms-eval's own tasks
    ],
)
def test_settings_of_an_evaluation(pair, setting: str, value: Any, matters: bool) -> None:
    edit(pair[1] / "run.json", lambda stored: stored["evaluation"].update({setting: value}))
    assert {key.partition(".")[0]: one for key, one in found(*pair).items()}[setting] is matters
    if matters:
        with pytest.raises(InputError, match=f"not asked alike: .*{setting}"):
            against.compare(*pair)
        with pytest.raises(InputError, match=f"not asked as this evaluation would be: .*{setting}"):
            against.check(pair[0], folder.settings(pair[1]), PROTOCOL)
    else:
        assert against.compare(*pair).suites["logicvista"].verified.gain == 0
        against.check(pair[0], folder.settings(pair[1]), PROTOCOL)


def test_a_seed_matters_where_anything_is_drawn(pair) -> None:
    drawn = {"n": 3, "temperature": 1, "max_new_tokens": 8}
    for place, seed in zip(pair, (0, 1), strict=True):
        edit(place / "run.json", lambda stored, at=seed: stored["evaluation"].update(sampled=drawn, seed=at))
    assert found(*pair)["seed"] is True


@pytest.mark.parametrize(
    ("field", "value", "matters"),
    [
        ("dtype", "bfloat16", True),
        ("dtype", None, False),  # of servers elsewhere: not known
        ("stop_tokens", ["<|im_end|> (3)", "<pad> (0)"], True),
        ("never_drawn", "f" * 64, True),
        ("chat_template", "f" * 64, True),
        ("tokens", "f" * 64, True),
        ("image_processor", {"size": {"shortest_edge": 196, "longest_edge": 999}}, True),
        ("image_processor", {"size": {"shortest_edge": 196, "longest_edge": 1764}, "resample": 2}, True),
        ("device", "a GPU", False),
        ("context", 512, False),  # nothing keeps to it in the transformers engine
    ],
)
def test_what_checkpoint_and_machine_add(pair, field: str, value: Any, matters: bool) -> None:
    edit(pair[1] / "protocol.json", lambda stored: stored.update({field: value}))
    assert {key.partition(".")[0]: one for key, one in found(*pair).items()} == {field: matters}
    if matters:
        with pytest.raises(InputError, match=field):
            against.compare(*pair)
        with pytest.raises(InputError, match=field):
            against.check(
                pair[0],
                folder.settings(pair[0]),
                Protocol.model_validate({**PROTOCOL.model_dump(), field: value}),
            )


def test_what_follows_from_other_stop_tokens_is_not_said_again(pair) -> None:
    other = {"stop_tokens": ["<pad> (0)"], "never_drawn": "f" * 64, "repaired": "A sentence."}
    edit(pair[1] / "protocol.json", lambda stored: stored.update(other))
    assert found(*pair) == {"stop_tokens": True}


def test_vllm_keeps_to_its_context(pair) -> None:
    for place in pair:
        edit(place / "run.json", lambda stored: stored["evaluation"].update(engine="vllm"))
    edit(pair[1] / "protocol.json", lambda stored: stored.update(context=512))
    assert found(*pair) == {"context": True}


def test_other_rows_prompts_or_pictures(pair, tmp_path: Path) -> None:
    edit(pair[1] / "pins" / "logicvista.json", lambda stored: stored["rows"].update({"2": "f" * 64}))
    assert found(*pair) == {"rows of logicvista": True}
    with pytest.raises(InputError, match="rows of logicvista"):
        against.compare(*pair)
    shutil.copy(pair[0] / "pins" / "logicvista.json", pair[1] / "pins")
    stored = folder.responses(pair[1], "logicvista")
    lines = artefacts.read_jsonl(stored)
    for field, what in (("prompt_sha256", "prompts"), ("image_sha256", "pictures")):
        other = {key: value for key, value in lines[0].items() if key != "check"} | {field: "other"}
        artefacts.write_jsonl(stored, [other, *lines[1:]])  # "check" is the digest of the row as it was
        assert found(*pair) == {f"{what} of logicvista": True}
    artefacts.write_jsonl(stored, lines[1:])  # a first answer is missing
    assert found(*pair) == {"prompts of logicvista": False, "pictures of logicvista": False}


def test_an_evaluation_of_before_is_compared_as_far_as_it_is_recorded(pair) -> None:
    (pair[0] / "protocol.json").unlink()
    assert found(*pair) == {"protocol": False}
    compared = against.compare(*pair)
    assert compared.notes == (
        "protocol is not recorded in the base and recorded in the other (whether they agree is not known).",
    )
    assert any("not recorded" in line for line in compared.sentences())


def test_versions_are_noted_and_named(pair) -> None:
    for place, version in zip(pair, ("5.16.0", "5.17.0"), strict=True):
        about = {"python": "3.11.7", "packages": {"transformers": version, "torch": None}}
        edit(place / "run.json", lambda stored, made=about: stored.update(provenance=made))
    assert found(*pair) == {"transformers": False}
    assert "transformers is 5.16.0 in the base and 5.17.0 in the other" in against.compare(*pair).notes[0]
    edit(pair[0] / "run.json", lambda stored: stored.update(provenance={}))
    assert found(*pair) == {"versions": False}


def test_results_say_the_same_as_the_folder(pair, tmp_path: Path) -> None:
    """An evaluate stage keeps evaluation.json alone."""
    edit(pair[1] / "protocol.json", lambda stored: stored.update(dtype="bfloat16"))
    stage = tmp_path / "run" / "stages" / "01-evaluate-base"
    artefacts.write_json(
        stage / "evaluation.json",
        build.build(pair[1]).model_dump(mode="json", exclude={"created", "provenance"}),
    )
    made = {"provenance": {"python": "3.11.7"}, "spec": {"inputs": {"model": "0" * 64}}}
    artefacts.write_json(stage / "manifest.json", made)
    assert found(pair[0], stage) == found(*pair) == {"dtype": True}
    artefacts.write_json(tmp_path / "run" / "run.json", {"preset": {}})
    assert found(tmp_path / "run", pair[0]) == {"dtype": True}  # its only evaluation
    shutil.copytree(stage, stage.with_name("06-evaluate-1"))
    edit(
        stage.with_name("06-evaluate-1") / "evaluation.json",
        lambda stored: stored["evaluation"].update(checkpoint_sha256="5" * 64),
    )
    assert "checkpoint_sha256" not in found(tmp_path / "run", pair[0])  # that of the same checkpoint
    edit(pair[0] / "run.json", lambda stored: stored["evaluation"].update(checkpoint_sha256="7" * 64))
    with pytest.raises(InputError, match="stages/01-evaluate-base, stages/06-evaluate-1"):
        found(pair[0], tmp_path / "run")


def test_answers_of_two_protocols_are_not_mixed(pair) -> None:
    protocol.record(pair[0], PROTOCOL.model_copy(update={"device": "another GPU"}))
    with pytest.raises(InputError, match=r"drawn otherwise \(dtype\)"):
        protocol.record(pair[0], PROTOCOL.model_copy(update={"dtype": "bfloat16"}))


def checkpoint(place: Path, name: str, change: Edit) -> Path:
    """The pocket checkpoint with one of its JSON files changed."""
    shutil.copytree(POCKET, place, ignore=shutil.ignore_patterns("*.safetensors"))
    edit(place / name, change)
    return place


def measured(place: Path) -> Protocol:
    return protocol.measured(EngineConfig(), place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_images", "longest"),
    [
        ({"size": {"longest_edge": 900, "shortest_edge": 196}}, 900),
        ({"max_pixels": 900}, 900),  # wins over size
        ({"max_pixels": 1764, "size": {"longest_edge": 900, "shortest_edge": 196}}, 1764),
    ],
)
def test_limits_are_those_that_transformers_applies(tmp_path: Path, of_images: Any, longest: int) -> None:
    place = checkpoint(
        tmp_path / "changed",
        "processor_config.json",
        lambda stored: stored["image_processor"].update(of_images),
    )
    size = measured(place).image_processor["size"]
    assert size == {"longest_edge": longest, "shortest_edge": 196}
    # The other file, of a checkpoint that was saved by an older version, loses against this one.
    whole = artefacts.read_json(POCKET / "processor_config.json")["image_processor"]
    artefacts.write_json(place / "preprocessor_config.json", {**whole, "max_pixels": 500})
    assert measured(place).image_processor["size"] == size
    (place / "processor_config.json").unlink()
    assert measured(place).image_processor["size"] == {"longest_edge": 500, "shortest_edge": 196}


@pytest.mark.slow
def test_a_chat_template_is_what_it_renders(tmp_path: Path) -> None:
    place, whole = tmp_path / "changed", measured(POCKET)
    checkpoint(place, "config.json", lambda stored: None)
    text = (place / "chat_template.jinja").read_text()
    (place / "chat_template.jinja").write_text("{# a remark #}" + text)
    assert measured(place) == whole
    (place / "chat_template.jinja").write_text(text.replace("<|vision_end|>", "<|vision_end|> solve"))
    other = measured(place)
    assert (other.chat_template, other.tokens) != (whole.chat_template, whole.tokens)
    assert other.stop_tokens == whole.stop_tokens == ("<|im_end|> (3)",)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    synthetic_run.make(place, stop_after="00-images", count=8)
    return place


@pytest.fixture
def runs(run: Path, tmp_path: Path) -> tuple[Path, Path]:
    return run, Path(shutil.copytree(run, tmp_path / "other"))


@pytest.mark.parametrize(
    ("key", "value", "matters"),
    [
        ("seed", 1, True),
        ("solver.grpo.learning_rate", 2e-6, True),
        ("evaluation.limit", 5, True),
        ("name", "mine", False),
        ("engine.retries", 9, False),
        ("images.source", "/elsewhere", False),  # the same pictures lie there
    ],
)
def test_settings_of_a_run(runs, key: str, value: Any, matters: bool) -> None:
    *parents, last = key.split(".")

    def change(stored: dict[str, Any]) -> None:
        tree = stored["preset"]
        for parent in parents:
            tree = tree[parent]
        tree[last] = value

    edit(runs[1] / "run.json", change)
    assert found(*runs) == {key: matters}


def test_other_pictures_and_other_words_of_a_run(runs) -> None:
    rows = artefacts.read_jsonl(runs[1] / "stages" / "00-images" / "images.jsonl")
    artefacts.write_jsonl(runs[1] / "stages" / "00-images" / "images.jsonl", rows[:-1])
    edit(runs[1] / "run.json", lambda stored: stored.update(prompts={"solver": "0" * 64}))
    assert found(*runs) == {"images": True, "prompts of the solver": False}


def test_the_command(pair, runs, tmp_path: Path) -> None:
    def said(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["diff", *map(str, words)], env={"COLUMNS": "80"})
        assert all(len(line) <= 80 for line in done.stdout.splitlines() if "/" not in line)
        return done.exit_code, done.stdout

    assert said(*pair) == (0, "They are alike in all that was compared.\n")
    edit(pair[1] / "protocol.json", lambda stored: stored.update(dtype="\x1b[31mbf16"))
    code, text = said(*pair)
    assert code == 1 and "yes: another arithmetic" in text and "\x1b" not in text
    code, text = said(*pair, "--json")
    assert (
        code == 1 and json.loads(text)["differences"][0]["what"] == "dtype" and not json.loads(text)["alike"]
    )
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    edit(pair[1] / "run.json", lambda stored: stored["evaluation"].update(engine=7))
    for wrong in (tmp_path, tmp_path / "nothing", tmp_path / "damaged", "", pair[1], runs[0]):
        assert said(pair[0], wrong) == (2, "")
