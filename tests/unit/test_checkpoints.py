"""Checkpoints: found, saved whole, loaded equal, and never unpickled."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError
from vzero.rollout import Message, Request
from vzero.rollout.engines import open_engine
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime import chat_templates, checkpoints, limits


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("tiny") / "base")


@pytest.mark.slow
def test_saved_and_loaded_again_is_the_same(folder: Path, tmp_path: Path) -> None:
    model, processor = checkpoints.load_model(folder), checkpoints.load_processor(folder)
    assert not model.training
    with torch.no_grad():
        model.lm_head.weight[3, 4] = 0.125
    target = tmp_path / "run" / "checkpoint"
    for _ in range(2):  # the second save replaces the first
        checkpoints.save(model, processor, target)
    assert [path.name for path in target.parent.iterdir()] == ["checkpoint"]
    again = checkpoints.load_model(target)
    for (name, one), (other_name, other) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other_name and torch.equal(one, other)
    reloaded = checkpoints.load_processor(target)
    assert reloaded.tokenizer.padding_side == "left"
    assert reloaded.image_token == "<img>"
    picture = tiny_model.picture(0)
    one, other = (
        p(text=["<vs><img><ve> red <go>"], images=[[picture]], return_tensors="pt")
        for p in (processor, reloaded)
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_save_that_fails_leaves_the_old_checkpoint(folder: Path, tmp_path: Path, monkeypatch) -> None:
    model, processor = checkpoints.load_model(folder), checkpoints.load_processor(folder)
    target = tmp_path / "checkpoint"
    checkpoints.save(model, processor, target)
    before = (target / "model.safetensors").read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(processor), "save_pretrained", full)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(model, processor, target)
    assert (target / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_nothing_is_pickled(folder: Path, tmp_path: Path, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    model = checkpoints.load_model(folder)
    checkpoints.save(model, checkpoints.load_processor(folder), tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".jinja",
        ".txt",
    }


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (bad / path.name).write_bytes(path.read_bytes())
    torch.save({}, bad / "pytorch_model.bin")
    for attempt in (lambda: checkpoints.resolve(str(bad)), lambda: checkpoints.load_model(bad)):
        with pytest.raises(InputError, match="safetensors"):
            attempt()


def test_folders_resolve_to_themselves(folder: Path, monkeypatch) -> None:
    assert checkpoints.resolve(str(folder)) == folder.resolve()
    monkeypatch.setattr(checkpoints, "POCKET", folder)
    assert checkpoints.resolve("pocket") == folder.resolve()


@pytest.mark.parametrize("model", ["/no/such/folder", "./nowhere", "nonsense", "a/b/c", "", "../x/y"])
def test_what_is_neither_folder_nor_hub_id_is_refused_without_a_network(
    model: str, monkeypatch, tmp_path: Path
) -> None:
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *args, **kwargs: pytest.fail("the hub was asked")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"folder|config\.json"):
        checkpoints.resolve(model)


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*args: object, **kwargs: object) -> None:
        assert not any("bin" in pattern or "py" in pattern for pattern in kwargs["allow_patterns"])
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="cannot be reached"):
        checkpoints.resolve("someone/some-model")


def test_a_damaged_checkpoint_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in folder.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    (bad / "model.safetensors").write_bytes((bad / "model.safetensors").read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be loaded"):
        checkpoints.load_model(bad)


@pytest.mark.slow
def test_a_checkpoint_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    bad = tmp_path / "bad"
    checkpoints.save(checkpoints.load_model(folder), checkpoints.load_processor(folder), bad)
    weights = load_file(bad / "model.safetensors")
    name = next(key for key in weights if "visual" in key)
    save_file(
        {key: value for key, value in weights.items() if key != name},
        bad / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match="lacks 1 of"):
        checkpoints.load_model(bad)


def test_an_engine_opened_from_a_checkpoint_answers(folder: Path) -> None:
    threads = torch.get_num_threads()
    try:
        engine = open_engine(EngineConfig(batch_sequences=8, threads=1), folder)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    request = Request((Message("system", "solve"), Message("user", "how many ?")), tiny_model.picture(0), 1)
    rollout = engine.generate([request], SamplingConfig(n=3, max_new_tokens=4))[0]
    assert len(rollout.completions) == 3


@pytest.mark.parametrize(
    "named", ["../stolen.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", 7, "gone.safetensors"]
)
def test_an_index_that_names_another_file_is_refused(folder: Path, tmp_path: Path, named: object) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    index = tmp_path / "bad" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": named}}))
    with pytest.raises(InputError, match=r"is no file of the checkpoint|lacks its file gone"):
        checkpoints.resolve(str(tmp_path / "bad"))
    index.write_text("[" * 100_000)
    with pytest.raises(InputError, match="is no index of weights"):
        checkpoints.load_model(tmp_path / "bad")
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model.safetensors"}}))
    checkpoints.resolve(str(tmp_path / "bad"))


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors.index.json", "more/a.jinja"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_device_in_a_checkpoint_is_refused(
    folder: Path, tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "bad")) / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(InputError, match=f"{name} is no regular file"):
        checkpoints.resolve(str(tmp_path / "bad"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_name(folder: Path, tmp_path: Path, value: float) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    weights = load_file(tmp_path / "bad" / "model.safetensors")
    name = sorted(weights)[1]
    weights[name].view(-1)[-1] = value
    save_file(weights, tmp_path / "bad" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"NaN or infinite, \S*" + re.escape(name.split(".")[-1])):
        checkpoints.load_model(tmp_path / "bad")


def _refuses(read: Callable[[Path], object], folder: Path) -> bool:
    """Whether it is refused, in a sentence that names the folder."""
    try:
        read(folder)
    except InputError as error:
        assert str(folder) in str(error) and len(str(error)) < 1000 and "\n" not in str(error)
        return True
    return False


ROUND = "{% for a in range(99999) %}"
ENDLESS = ROUND * 3 + "{% endfor %}" * 3


DOUBLING = "{% set n = namespace(s='x' * 1000) %}" + "{% set n.s = n.s ~ n.s %}" * 40
ENDLESS_TEMPLATES = {
    "loops": ENDLESS,
    "loops on one turn": "{% if messages|length == 1 %}" + ENDLESS + "{% endif %}",
    "a power": "{{ 9 ** (9 ** 9) }}",  # a single operation, worked out before anything is rendered
    "memory": "{{ 'x' * 90000000000 }}",
    "memory by doubling": DOUBLING,
}


@pytest.mark.slow
@pytest.mark.parametrize("template", ENDLESS_TEMPLATES.values(), ids=ENDLESS_TEMPLATES)
def test_a_template_that_does_not_end_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr(chat_templates, "SECONDS", 1)
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match="does not end within"):
        checkpoints.load_processor(tmp_path / "bad")


@pytest.mark.slow
def test_a_template_is_tried_once_and_anew_when_it_or_its_tokens_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, ends = [], limits.ends
    monkeypatch.setattr(limits, "ends", lambda *given: tried.append(1) or ends(*given))
    shutil.copytree(folder, tmp_path / "other")
    template, tokens = (
        tmp_path / "other" / name for name in ("chat_template.jinja", "tokenizer_config.json")
    )
    template.write_text("{# another #}" + template.read_text())
    for _ in range(2):
        checkpoints.load_processor(tmp_path / "other")
    assert len(tried) == 1
    template.write_text("{# a third #}" + template.read_text())
    checkpoints.load_processor(tmp_path / "other")
    assert len(tried) == 2
    tokens.write_text(tokens.read_text().replace('"<eos>"', '"<pad>"'))
    checkpoints.load_processor(tmp_path / "other")
    assert len(tried) == 3


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"7", b"[1, 2]", b"{}", b"[" * 100_000, b"\0" * 30])
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json"]
)
def test_whatever_damaged_files_make_a_library_raise_is_one_sentence(
    folder: Path, tmp_path: Path, name: str, damage: bytes
) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    assert (tmp_path / "bad" / name).exists()
    (tmp_path / "bad" / name).write_bytes(damage)
    readers = (read_vocabulary, checkpoints.load_processor, checkpoints.load_model)
    refused = [read for read in readers if _refuses(read, tmp_path / "bad")]
    # transformers can do without the two that are no use to it where they say nothing (`{}`)
    assert refused or damage == b"{}"


def test_ends_that_are_no_tokens_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    (tmp_path / "bad" / "generation_config.json").write_text('{"eos_token_id": [["x"]]}')
    with pytest.raises(InputError, match="config that cannot be read"):
        read_vocabulary(tmp_path / "bad")
