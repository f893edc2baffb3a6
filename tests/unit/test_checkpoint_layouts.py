"""Checkpoints as others leave them: in 16 bits, in shards, with a tied head or one of its own, saved by
transformers 4. Each answers as the plain one of the same weights does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError
from vzero.rollout import Message, Request
from vzero.rollout.engines import open_engine
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime import checkpoints

pytestmark = pytest.mark.slow

WORDS = tiny_model.vocabulary()
# Where transformers 4 kept the settings of the language model, and how it called two of them.
TEXT = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
TEXT += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "initializer_range")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("layouts") / "plain")


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def saved(plain: Path, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    model, processor = checkpoints.load_model(plain), checkpoints.load_processor(plain)
    model.to(dtype).save_pretrained(folder, **options)
    processor.save_pretrained(folder)
    return folder


def as_transformers_4(folder: Path, nested: bool) -> None:
    """Rewrite the configs of a checkpoint as 4.49 wrote them, or as 4.52 did, with a part for the text."""

    def config(value: dict[str, Any]) -> None:
        text = value.pop("text_config")
        rope = text.pop("rope_parameters")
        old = {name: text[name] for name in TEXT} | {
            "rope_theta": rope["rope_theta"],
            "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
            "use_sliding_window": False,
            "sliding_window": 32768,
            "max_window_layers": 70,
            "bos_token_id": text["bos_token_id"],
            "eos_token_id": text["eos_token_id"],
            "pad_token_id": text["pad_token_id"],
        }
        value.update({"text_config": {**old, "model_type": "qwen2_5_vl_text"}} if nested else {}, **old)
        value["torch_dtype"] = value.pop("dtype", "float32")
        value["transformers_version"] = "4.52.4" if nested else "4.49.0"

    edit(folder / "config.json", config)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    parts = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    image = parts["image_processor"]
    limits = {"min_pixels": image["size"]["shortest_edge"], "max_pixels": image["size"]["longest_edge"]}
    kept = {key: image[key] for key in ("patch_size", "merge_size", "temporal_patch_size")}
    kept |= {"image_mean": image["image_mean"], "image_std": image["image_std"], **limits}
    kept |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(kept))


def answers(folder: Path) -> list[str]:
    """Greedy and drawn, about two pictures of different sizes."""
    engine = open_engine(EngineConfig(batch_sequences=8, threads=torch.get_num_threads()), folder)
    requests = [
        Request((Message("system", "solve"), Message("user", "how many red ?")), picture, i)
        for i, picture in enumerate((tiny_model.picture(1), tiny_model.picture(2, (84, 63))))
    ]
    kinds = SamplingConfig(temperature=0, max_new_tokens=8), SamplingConfig(n=3, max_new_tokens=8)
    return [one.text for kind in kinds for r in engine.generate(requests, kind) for one in r.completions]


@pytest.mark.parametrize("nested", [False, True], ids=["4.49", "4.52"])
def test_a_checkpoint_of_transformers_4_answers_the_same(plain: Path, tmp_path: Path, nested: bool) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "old"))
    as_transformers_4(folder, nested)
    old, new = read_vocabulary(folder), read_vocabulary(plain)
    assert (old.eos, old.forbidden, old.positions) == (new.eos, new.forbidden, new.positions)
    assert old.positions == 256 and WORDS.index("<img>") in old.forbidden
    loaded, wanted = (checkpoints.load_model(one).state_dict() for one in (folder, plain))
    assert loaded.keys() == wanted.keys() and all(torch.equal(loaded[name], wanted[name]) for name in wanted)
    assert answers(folder) == answers(plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_computed_with_in_float32(plain: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    folder = saved(plain, tmp_path / "half", dtype)
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {dtype}
    half, whole = checkpoints.load_model(folder).state_dict(), checkpoints.load_model(plain).state_dict()
    for name, value in whole.items():
        assert half[name].dtype == torch.float32 and torch.equal(half[name], value.to(dtype).float()), name
    assert len(answers(folder)) == 8


def test_shards_are_put_together_and_a_lost_one_is_one_sentence(plain: Path, tmp_path: Path) -> None:
    folder = saved(plain, tmp_path / "shards", max_shard_size="60KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2 and (folder / "model.safetensors.index.json").exists()
    assert checkpoints.resolve(str(folder)) == folder.resolve()
    assert answers(folder) == answers(plain)
    shards[1].unlink()
    with pytest.raises(InputError) as error:
        checkpoints.load_model(folder)
    assert len(str(error.value).splitlines()) == 1 and str(folder) in str(error.value)


def test_a_head_of_its_own_that_the_config_denies_is_refused(plain: Path, tmp_path: Path) -> None:
    """Engines would not agree on it: one believes the weights, another the config."""
    folder = Path(shutil.copytree(plain, tmp_path / "odd"))
    weights = load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    save_file({**weights, "lm_head.weight": table.clone()}, folder / "model.safetensors", {"format": "pt"})
    assert answers(folder) == answers(plain)  # the same twice, as some write it
    save_file({**weights, "lm_head.weight": -table}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="tie_word_embeddings to false"):
        checkpoints.load_model(folder)


def test_a_tied_head_is_the_embedding_and_an_untied_one_its_own(plain: Path, tmp_path: Path) -> None:
    tied = checkpoints.load_model(plain)
    assert "lm_head.weight" not in load_file(plain / "model.safetensors")
    assert tied.lm_head.weight.data_ptr() == tied.get_input_embeddings().weight.data_ptr()
    folder = tmp_path / "untied"
    tied.lm_head.weight = torch.nn.Parameter(-tied.lm_head.weight.detach())
    tied.config.tie_word_embeddings = tied.config.get_text_config().tie_word_embeddings = False
    checkpoints.save(tied, checkpoints.load_processor(plain), folder)
    own = checkpoints.load_model(folder)
    assert torch.equal(own.lm_head.weight, -own.get_input_embeddings().weight)
    assert answers(folder) != answers(plain)
