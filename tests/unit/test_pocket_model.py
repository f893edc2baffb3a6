"""The pocket model is Qwen2.5-VL to everything that loads it, and its pretraining feeds it what the processor
would."""

import multiprocessing
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from vzero.errors import InputError
from vzero.parsing import OPTIONS
from vzero.pocket import annotators, build, resume
from vzero.pocket.model import ASK, SIZES, SOLVE, VOCABULARY, build_model, build_processor
from vzero.pocket.pretrain import Learner, Schedule, drill, patches, position_ids, prompt_ids, train
from vzero.pocket.world import draw, sample_scene
from vzero.prompts import parse_answer, parse_question, questioner_messages, solver_messages
from vzero.runtime import checkpoints


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def chat(messages):
    parts = []
    for message in messages:
        content = [{"type": "image"}] if message.role == "user" else []
        parts.append(
            {
                "role": message.role,
                "content": [*content, *([{"type": "text", "text": message.text}] if message.text else [])],
            }
        )
    return parts


@pytest.mark.parametrize(
    ("messages", "role", "text"),
    [
        (questioner_messages("pocket"), ASK, ""),
        (
            solver_messages("pocket", "how many red ? A) 1 B) 2 C) 3 D) 4"),
            SOLVE,
            "how many red ? A) 1 B) 2 C) 3 D) 4",
        ),
    ],
)
def test_pretraining_sees_the_prompts_that_rollouts_send(processor, messages, role, text):
    image, _ = draw(0, 0)
    rendered = processor.apply_chat_template(chat(messages), add_generation_prompt=True)
    inputs = processor(text=[rendered], images=[image], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == prompt_ids(role, text)
    torch.testing.assert_close(inputs["pixel_values"], patches(np.asarray(image)[None]), atol=1e-5, rtol=0)
    model = build_model(0)
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
    )
    assert torch.equal(positions, position_ids(1, inputs["input_ids"].shape[1], True))


def test_learner_computes_what_the_model_computes(processor):
    image, _ = draw(0, 1)
    learner = Learner(0)
    learner.model.eval()
    rendered = processor.apply_chat_template(
        chat(solver_messages("pocket", "how many red ?")), add_generation_prompt=True
    )
    inputs = processor(text=[rendered], images=[image], return_tensors="pt")
    with torch.no_grad():
        expected = learner.model(**inputs).logits
        found = learner.logits(inputs["input_ids"], learner.see(np.asarray(image)[None]))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_annotated_text_is_in_the_vocabulary_and_reads_back(processor):
    rng = random.Random(0)
    words = set(VOCABULARY)
    valid = boxed = total = 0
    for _ in range(400):
        kind, scene = sample_scene(rng, "pretrain")
        written = annotators.questioner_text(rng, kind, scene, annotators.MIXTURE)
        asked = annotators.any_question(rng, kind, scene, 0.6)
        if written is None or asked is None:
            continue
        answered = annotators.solver_text(rng, asked, scene, annotators.MIXTURE)
        assert set(written.split()) <= words and set(answered.split()) <= words
        ids = processor.tokenizer(answered)["input_ids"]
        assert processor.tokenizer.decode(ids, skip_special_tokens=True) == answered
        total, valid, boxed = (
            total + 1,
            valid + (parse_question(written) is not None),
            boxed + (parse_answer(answered) is not None),
        )
    assert 0.86 < valid / total < 0.96, "three malformed kinds of 3 % each"
    assert 0.95 < boxed / total < 1.0


def test_drill_asks_for_what_the_options_say():
    ids, labels = drill(random.Random(3))
    words = [VOCABULARY[i] for i in ids]
    options = {words[words.index(f"{letter})") + 1]: letter for letter in OPTIONS}
    asked = [(i, VOCABULARY[label]) for i, label in enumerate(labels) if label != -100]
    assert len(asked) == 8
    for i, word in asked:
        assert words[i] == word, "labels are the tokens themselves; the loss shifts them"
        previous = words[i - 1]
        assert options[previous] == word if word in OPTIONS else options[word] == previous[0]


@pytest.mark.slow
def test_pretraining_learns():
    """A very short curriculum: things in cells are told apart and text gets much likelier than uniform."""
    lines: list[str] = []
    learner = train(Schedule(seeing=75, clean=25, mixture=25, images=6, drills=2), seed=1, log=lines.append)
    texts = [float(line.split("text ")[1].split()[0]) for line in lines]
    cells = [float(line.split("cells ")[1].split()[0]) for line in lines]
    assert texts[-1] < 2.2 < np.log(len(VOCABULARY)), lines
    assert cells[3] > 0.15, lines
    assert all(torch.isfinite(p).all() for p in learner.parameters)


def test_products_in_bfloat16_move_weights_that_stay_float32_by_rounding_alone():
    def trained(products):
        size = replace(SIZES["small"], products=products)
        learner = train(Schedule(seeing=1, clean=1, mixture=1, images=4, drills=4, size=size), seed=2)
        assert {one.dtype for one in learner.parameters} == {torch.float32}
        return torch.cat([one.detach().flatten() for one in learner.parameters])

    exact, rounded, start = trained("float32"), trained("bfloat16"), Learner(2).parameters
    moved = exact - torch.cat([one.detach().flatten() for one in start])
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).norm() < 0.5 * moved.norm()


def test_a_larger_base_is_an_ordinary_checkpoint(tmp_path):
    schedule = build.scaled(1.0, SIZES["large"])
    assert (schedule.steps, schedule.rate(1000)) == (2000, 1e-3)
    built = build_model(3, schedule.size)
    checkpoints.save(built, build_processor(), tmp_path)
    loaded = checkpoints.load_model(tmp_path)
    assert loaded.config.get_text_config().hidden_size == 256
    shipped = sum(one.numel() for one in build_model(0).parameters())
    assert 5 < sum(one.numel() for one in loaded.parameters()) / shipped < 10
    for name, weights in built.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weights), name


def test_an_interrupted_pretraining_goes_on_and_a_damaged_state_counts_as_none(tmp_path, monkeypatch):
    """The weights are those of an undisturbed one, to the bit."""
    torch.set_num_threads(1)
    schedule = Schedule(seeing=1, clean=2, mixture=1, images=4, drills=4)
    expected = [one.tolist() for one in train(schedule, seed=5).parameters]
    save, load, started = resume.save, resume.load, []

    def killed(folder, step, rank, training):
        save(folder, step, rank, training)
        if step == 2:
            raise KeyboardInterrupt

    def noted(*given):
        started.append(load(*given))
        return started[-1]

    monkeypatch.setattr(resume, "EVERY", 2)
    monkeypatch.setattr(resume, "load", noted)

    def flipped(weights):
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")

    def renamed(weights):
        for path in list(weights.parent.iterdir()):
            path.rename(path.with_name(path.name.replace("2.", "3.", 1)))

    def anothers(weights):
        shutil.rmtree(weights.parent)
        interrupted(tmp_path / "another", seed=6)
        shutil.copytree(tmp_path / "another", weights.parent)

    def interrupted(kept, seed):
        kept.mkdir()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(resume, "save", killed)
            train(schedule, seed, kept=kept)

    for number, harm in enumerate((None, flipped, renamed, anothers)):
        kept = tmp_path / str(number)
        interrupted(kept, seed=5)
        if harm is not None:
            harm(next(kept.glob("2.weights.*")))
        started.clear()
        found = train(schedule, seed=5, kept=kept)
        assert [one.tolist() for one in found.parameters] == expected
        assert started == [0 if harm else 2]


def test_a_failure_of_one_process_has_its_sentence(tmp_path):
    said, states = multiprocessing.SimpleQueue(), tmp_path / ".pretraining-0"
    (states / "2.weights.0").mkdir(parents=True)
    with pytest.raises(InputError):
        build._spawned(0, said, 1, "", Schedule(seeing=2, clean=2, mixture=2), 3, states)
    assert "2.weights.0 is no regular file" in str(said.get())


def test_a_build_that_was_killed_goes_on_and_leaves_a_checkpoint_alone(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(build, "SHIPPED", Schedule(seeing=2, clean=2, mixture=2, images=6, drills=4))
    monkeypatch.setattr(resume, "EVERY", 2)
    build.main(tmp_path / "whole", seed=3, processes=1)
    save = resume.save

    def killed(folder, step, rank, training):
        save(folder, step, rank, training)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(resume, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        build.main(tmp_path / "base", seed=3, processes=1)
    monkeypatch.setattr(resume, "save", save)
    with pytest.raises(InputError, match="is not empty"):
        build.main(tmp_path / "base", seed=4, processes=1)
    build.main(tmp_path / "base", seed=3, processes=1)
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "base")]
    assert names[0] == names[1] and "build.json" in names[0] and ".pretraining" not in " ".join(names[0])
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "base")]
    assert weights[0] == weights[1]
    with pytest.raises(InputError, match="is not empty"):
        build.main(tmp_path / "base", seed=3, processes=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "whole"]
