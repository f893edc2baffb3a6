"""Exported checkpoints: the sealed bytes, and a card that claims what the run's results say and no more."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner

from harness.analysis.results import read_results
from harness.cli import app
from harness.report import finish
from harness.report.export import CHECKPOINT, merge, prepare, to_folder
from harness.report.forms import Form, rewrite
from tests.fixtures import synthetic_run
from vzero.config import LoraConfig
from vzero.errors import InputError, InterruptedRun
from vzero.grpo import adapters
from vzero.runtime import artefacts, checkpoints

pytestmark = pytest.mark.slow

LORA = LoraConfig(rank=2, alpha=6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two trainings with adapters leave behind, each from the model of the one before, and a Questioner
    that was trained whole. Adapters that were just begun change nothing, so these are filled at random."""
    folder, before = tmp_path_factory.mktemp("trained"), checkpoints.POCKET
    processor = checkpoints.load_processor(before)
    for iteration in (1, 2):
        model = adapters.wrap(checkpoints.load_model(before), LORA, iteration)
        torch.manual_seed(iteration)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        made = folder / f"train-solver-{iteration}"
        adapters.save(model, LORA, made / "adapter")
        checkpoints.save(adapters.merged(model, before), processor, made / "checkpoint")
        before = made / "checkpoint"
        shutil.copytree(before, folder / f"train-questioner-{iteration}" / "checkpoint")
    return folder


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run" / "trained")
    synthetic_run.make(tmp_path / "run", count=12, items_per_family=2)
    return tmp_path / "run"


def logits(folder: Path) -> torch.Tensor:
    """Of a text without a picture, by transformers alone: another question than the export's own."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(8, 40).reshape(2, 16)).logits


def rows(card: str) -> dict[tuple[str, str], list[str]]:
    cells = [
        [cell.strip().replace("\\_", "_") for cell in line.strip("|").split("|")]
        for line in card.splitlines()
        if line.startswith("| pocket")
    ]
    return {(row[0], row[1]): row[2:] for row in cells}


def test_the_folder_holds_the_sealed_bytes_and_a_card(run: Path, tmp_path: Path) -> None:
    found = prepare(run, "solver", None)
    assert to_folder(found, tmp_path / "out" / "solver") == 0.0
    made = {path.name: path.read_bytes() for path in (tmp_path / "out" / "solver").iterdir()}
    assert made.pop("README.md").decode() == found.card
    sealed = found.made.folder / CHECKPOINT
    assert made == {path.name: path.read_bytes() for path in sealed.iterdir()} and made
    assert found.made.stage.name == "10-train-solver-2"
    assert prepare(run, "questioner", 1).made.stage.name == "02-train-questioner-1"


def test_the_card_repeats_the_results(run: Path) -> None:
    assert "no gain is claimed" in prepare(run, "solver", None).card
    finish(run)
    results = read_results(run / "results.json")
    card = prepare(run, "solver", 1).card
    header = yaml.safe_load(card.split("---")[1])
    assert (
        header["library_name"] == "transformers" and "base_model" not in header
    )  # the pocket base is on no hub
    table = rows(card)
    for suite in results.suites:
        found = results.gains["S1"][suite]["greedy"]
        base = results.suites[suite]["base"].accuracy["greedy"].value
        said = table[(suite, "greedy")]
        assert float(said[0]) == pytest.approx(100 * base, abs=0.05)
        assert float(said[2].replace("\u2212", "-").replace("+", "")) == pytest.approx(
            100 * found.gain, abs=0.051
        )
        finding = {"positive": "gain", "negative": "loss", "unclear": "not significant"}
        assert finding[found.direction] == said[4]
    assert str(run) not in card and "/" not in card.split("Images:")[1].split("\n")[0]


def test_the_card_takes_a_presets_name_as_text(run: Path) -> None:
    stored = artefacts.read_json(run / "run.json")
    stored["preset"]["name"] = "`a` <img src=x> [b](c) | {{ 7 * 7 }}\n# d \u202e"
    artefacts.write_json(run / "run.json", stored)
    card = prepare(run, "solver", 1).card
    for piece in ("<img", "[b](c)", "{{ 7", "\n# d", "\u202e", " `a` "):
        assert piece not in card


def test_a_folder_of_pictures_is_not_named(tmp_path: Path) -> None:
    pictures = tmp_path / "holiday"
    pictures.mkdir()
    for i in range(12):
        Image.new("RGB", (42, 42), (i, 0, 0)).save(pictures / f"{i}.png")
    synthetic_run.make(tmp_path / "run", count=12, items_per_family=2, images=pictures)
    assert "holiday" not in prepare(tmp_path / "run", "solver", None).card


def test_what_cannot_be_exported_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished solver of iteration 3"):
        prepare(run, "solver", 3)
    with pytest.raises(InputError, match="not a run directory"):
        prepare(tmp_path, "solver", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    found = prepare(run, "solver", None)
    with pytest.raises(InputError, match="there already"):
        to_folder(found, tmp_path / "full")
    (found.made.folder / CHECKPOINT / "config.json").write_bytes(b"other")
    with pytest.raises(InputError, match="not the one that was sealed"):
        to_folder(found, tmp_path / "new")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_the_command(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["export", str(run), "--to", str(tmp_path / "out"), "--iteration", "1", "--json"]
    )
    assert result.exit_code == 0 and json.loads(result.output) == {
        "stage": "05-train-solver-1",
        "to": str(tmp_path / "out"),
        "logits_change": 0.0,
    }
    assert artefacts.folder_hashes(tmp_path / "out").keys() >= {"README.md"}
    assert CliRunner().invoke(app, ["export", str(run), "--to", "hub:no-slash"]).exit_code == 2


def test_another_dtype_is_the_same_model_rounded(run: Path, tmp_path: Path) -> None:
    found, out = prepare(run, "solver", None), tmp_path / "half"
    assert 0 < to_folder(found, out, Form(dtype="bf16")) < 0.1
    before = load_file(found.made.folder / CHECKPOINT / "model.safetensors")
    after = load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name].to(torch.bfloat16)) for name in before)
    said = (out / "config.json").read_text()
    assert "float32" not in said and said.count("bfloat16") == 3  # the model, its text and its vision part
    assert to_folder(found, tmp_path / "whole", Form(dtype="fp32")) == 0.0


def test_an_index_of_several_files_says_their_new_size(run: Path, tmp_path: Path) -> None:
    from harness.report import forms

    folder = shutil.copytree(prepare(run, "solver", None).made.folder / CHECKPOINT, tmp_path / "several")
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"model-1-of-2.safetensors": names[:7], "model-2-of-2.safetensors": names[7:]}
    for file, own in parts.items():
        save_file({name: weights[name] for name in own}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    placed = {name: file for file, own in parts.items() for name in own}
    artefacts.write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
    forms.rewrite(folder, Form(dtype="bf16"))
    index = artefacts.read_json(folder / "model.safetensors.index.json")
    size = sum(2 * weight.numel() for weight in weights.values())
    assert index == {"metadata": {"total_size": size}, "weight_map": placed}
    checkpoints.load_model(folder)


ASK = """import sys, torch
sys.path.append(sys.argv[3])
from vzero.runtime import compat
compat.install()
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor
assert transformers.__version__.startswith("4."), transformers.__version__
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
AutoProcessor.from_pretrained(sys.argv[1])
torch.save(model(input_ids=torch.arange(8, 40).reshape(2, 16)).logits.detach(), sys.argv[2])
"""


def test_transformers_4_reads_what_is_written_for_it(run: Path, tmp_path: Path) -> None:
    """With VZERO_TRANSFORMERS4, the path of a Python that has transformers 4 (docs/commands.md), by itself;
    without, that the fields it reads are there, and that transformers 5 still reads the same model."""
    found, out = prepare(run, "solver", None), tmp_path / "four"
    assert to_folder(found, out, Form(transformers4=True)) == 0.0
    wanted = logits(found.made.folder / CHECKPOINT)
    assert torch.equal(logits(out), wanted)
    text = artefacts.read_json(out / "config.json")["text_config"]
    assert text["rope_theta"] == 10000.0 and text["rope_scaling"]["mrope_section"] == [4, 6, 6]
    settings = artefacts.read_json(out / "preprocessor_config.json")
    assert settings["image_processor_type"] == "Qwen2VLImageProcessor" and settings["patch_size"] == 7
    assert (
        artefacts.read_json(out / "tokenizer_config.json")["additional_special_tokens"][0] == "<|im_start|>"
    )
    python = os.environ.get("VZERO_TRANSFORMERS4")
    if python is None:
        pytest.skip("VZERO_TRANSFORMERS4 names no Python with transformers 4: its own reading is not tested")
    root = Path(__file__).resolve().parents[2]
    subprocess.run([python, "-c", ASK, out, tmp_path / "logits", root], check=True, timeout=600)
    assert (torch.load(tmp_path / "logits", weights_only=True) - wanted).abs().max() < 1e-5
    # The oracle sees a wrong base of the rotary positions, which transformers 4 takes where it is not told.
    config = artefacts.read_json(out / "config.json")
    del config["text_config"]["rope_theta"]
    artefacts.write_json(out / "config.json", config)
    subprocess.run([python, "-c", ASK, out, tmp_path / "logits", root], check=True, timeout=600)
    assert (torch.load(tmp_path / "logits", weights_only=True) - wanted).abs().max() > 1e-2


def test_the_adapters_of_all_iterations_are_one_adapter_over_the_base(run: Path, tmp_path: Path) -> None:
    found, out = prepare(run, "solver", None), tmp_path / "adapter"
    assert to_folder(found, out, Form(adapter_only=True)) < 1e-5
    config = artefacts.read_json(out / "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 12, "pocket")
    assert str(tmp_path) not in (out / "adapter_config.json").read_text()
    assert merge(out, None, tmp_path / "merged") == "pocket"
    wanted = logits(found.made.folder / CHECKPOINT)
    assert (logits(tmp_path / "merged") - wanted).abs().max() < 1e-4
    assert (logits(checkpoints.POCKET) - wanted).abs().max() > 0.1
    first = prepare(run, "solver", 1)
    to_folder(first, tmp_path / "first", Form(adapter_only=True))
    assert artefacts.read_json(tmp_path / "first" / "adapter_config.json")["r"] == 2


def test_an_adapter_names_its_base_and_not_where_it_lay(run: Path, tmp_path: Path) -> None:
    base = shutil.copytree(checkpoints.POCKET, tmp_path / "private" / "my-model")
    record = artefacts.read_json(run / "run.json")
    record["preset"]["model"] = str(base)
    artefacts.write_json(run / "run.json", record)
    for stage in run.glob("stages/*/manifest.json"):  # made from that base
        manifest = artefacts.read_json(stage)
        if "model" in manifest["spec"]["config"]:
            manifest["spec"]["config"]["model"] = str(base)
            del manifest["digest"]
            artefacts.write_json(stage, manifest)
    said = CliRunner().invoke(app, ["export", str(run), "--to", str(tmp_path / "out"), "--adapter-only"])
    assert said.exit_code == 0, said.stderr
    assert "it names its base my-model, not the folder: to merge it, give that with --base" in said.stdout
    assert not [one for one in (tmp_path / "out").iterdir() if b"private" in one.read_bytes()]
    merging = ["export", str(tmp_path / "out"), "--merge", "--to", str(tmp_path / "whole")]
    refused = CliRunner().invoke(app, merging)
    assert refused.exit_code == 2 and "an adapter of 'my-model'" in " ".join(refused.stderr.split())
    assert CliRunner().invoke(app, [*merging, "--base", str(base)]).exit_code == 0


def test_an_adapter_that_is_not_what_was_trained_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.report import export

    found = prepare(run, "solver", None)
    monkeypatch.setattr(
        export, "_adapters", lambda one: [found.made.folder / "adapter"]
    )  # the last one alone
    with pytest.raises(InputError, match="differ by"):
        to_folder(found, tmp_path / "out", Form(adapter_only=True))
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with pytest.raises(InputError, match="has no adapter: it was trained whole"):
        to_folder(prepare(run, "questioner", None), tmp_path / "out", Form(adapter_only=True))


def test_an_adapter_by_itself_is_named_and_how_to_merge_it(run: Path, tmp_path: Path) -> None:
    from harness.doctor.facts import _fault

    adapter = tmp_path / "adapter"
    to_folder(prepare(run, "solver", 1), adapter, Form(adapter_only=True))
    said = f"{adapter} is an adapter and no whole model; merge it with its base, `vzero-harness export"
    evaluated = CliRunner().invoke(app, ["evaluate", str(adapter), "--out", str(tmp_path / "e")])
    assert evaluated.exit_code == 2 and said in " ".join(evaluated.stderr.split())
    assert str(_fault(str(adapter))).startswith(said) and _fault(str(checkpoints.POCKET)) is None
    command = ["export", str(adapter), "--merge", "--to", str(tmp_path / "whole"), "--dtype", "bf16"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert _fault(str(tmp_path / "whole")) is None and not (tmp_path / "whole" / "whole").exists()
    for words, sentence in (
        (["--adapter-only", "--dtype", "bf16"], "writes no model"),
        (["--merge", "--to", "hub:a/b"], "--merge writes a folder"),
        (["--merge", "--iteration", "1"], "--merge writes a folder of one adapter"),
        (["--base", "pocket"], "leave it out, or add --merge"),
        (["--public"], "leave it out, or give --to hub:"),
    ):
        refused = CliRunner().invoke(app, ["export", str(run), "--to", str(tmp_path / "x"), *words])
        assert refused.exit_code == 2 and sentence in " ".join(refused.stderr.split()), words
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(InputError, match="pickled adapters are not loaded"):
        merge(adapter, None, tmp_path / "pickled")


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "3", "{}"])
def test_what_is_no_adapter_is_not_merged(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "adapter_config.json").write_text(text)
    words = ["export", str(tmp_path), "--merge", "--to", str(tmp_path / "whole")]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert "is no adapter" in refused.stderr or "name its base with --base" in refused.stderr


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, InterruptedRun), (errno.EACCES, InputError)])
def test_a_disk_that_fails_is_no_wrong_folder(
    number: int, kind: type[Exception], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("harness.report.export.rewrite", fails)
    with pytest.raises(kind):
        to_folder(prepare(run, "solver", None), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rope", [{"rope_type": "default"}, {"full_attention": {"rope_theta": 1e4}}])
def test_rotary_positions_that_transformers_4_would_guess_are_refused(rope: dict, tmp_path: Path) -> None:
    artefacts.write_json(tmp_path / "config.json", {"text_config": {"rope_parameters": rope}})
    with pytest.raises(InputError, match="rotary positions"):
        rewrite(tmp_path, Form(transformers4=True))
