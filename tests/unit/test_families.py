"""Other families through all that touches a model: decoding as their own `generate` does, two optimizer steps
of each role, packed rows against single sequences, an evaluation, what is exported and read again."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Categorical
from torch.nn.attention import flex_attention
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.utils import add_fused_lm_head

from harness.cost.shapes import image_tokens, size_of
from harness.evals import run as evaluating
from harness.evals.answer_count import AnswerCount
from harness.evals.pictures import DEFAULT
from harness.evals.results import Settings
from harness.evals.scored import sample_rows
from harness.report import forms
from tests import tiny_families, tiny_model
from vzero.config import EngineConfig, GrpoSettings, LaunchConfig, SamplingConfig
from vzero.grpo import attention, log_probs
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.train import Job, train
from vzero.images.records import load_records, open_image
from vzero.rollout.protocol import Message, Request
from vzero.rollout.template import processed, render
from vzero.rollout.thinking import load_processor
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow

SETTINGS = GrpoSettings(
    prompts_per_generation=2,
    prompts_per_step=1,
    group_size=2,
    micro_batch=2,
    learning_rate=1e-3,
    kl_coefficient=0.1,
    max_completion_tokens=4,
    max_generations=1,
    freeze_vision=True,
)
TOWERS = ("visual.", "vision_model.", "vision_tower.")


@pytest.fixture(params=tiny_families.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    torch.set_num_threads(1)
    return request.param


def prompts(folder: Path) -> list[Prompt]:
    """Two, with pictures of different shapes."""
    rows = []
    for i, size in enumerate([(42, 42), (84, 42)]):
        folder.mkdir(exist_ok=True)
        tiny_model.picture(i, size).save(folder / f"{i}.png")
        digest = artefacts.sha256_file(folder / f"{i}.png")
        rows.append(
            {"image_id": f"i{i}", "path": f"{i}.png", "sha256": digest, "width": size[0], "height": size[1]}
        )
    artefacts.write_jsonl(folder / "images.jsonl", rows)
    messages = (Message("system", "Look."), Message("user", "How many?"))
    return [
        Prompt(record.image_id, messages[-1 - i :], record, "A")
        for i, record in enumerate(load_records(folder))
    ]


def even_tokens(groups: Sequence[Group], generation: int) -> Scores:
    return Scores([[float(one.token_ids[0] % 2) for one in group.completions] for group in groups], {})


def test_a_family_decodes_trains_and_exports(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_families.build(family, tmp_path / "base")
    thinking = False if family == "qwen3_5" else None
    model, processor = checkpoints.load_model(base), load_processor(base, thinking)
    given, ids = prompts(tmp_path / "images"), processor.tokenizer
    control = sorted(tiny_families.special_ids(family) - {ids.eos_token_id})  # which no answer may hold

    # Decoded in one batch as the family's own `generate` decodes each prompt by itself.
    requests = [Request(one.messages, open_image(one.image), 0) for one in given]
    greedy = SamplingConfig(n=1, temperature=0.0, max_new_tokens=5)
    engine = TransformersEngine(model, processor, 8)
    drawn, entropies = engine.generate(requests, greedy), engine.greedy_entropies(requests, 3)
    size = size_of(str(base))
    for request, rollout, found_entropies in zip(requests, drawn, entropies, strict=True):
        inputs = read(processor, request.messages, request.image)
        found = model.generate(**inputs, max_new_tokens=5, do_sample=False, suppress_tokens=control)
        assert rollout.completions[0].token_ids == tuple(found[0, inputs["input_ids"].shape[1] :].tolist())
        scores = logits_of(model, inputs, torch.tensor(rollout.completions[0].token_ids[:3])).detach()
        scores[:, sorted(engine.forbidden)] = -1e9
        assert found_entropies == pytest.approx(Categorical(logits=scores).entropy().tolist(), abs=1e-4)
        # A plan knows a picture's tokens by its size, marks of tiles and the ends of their rows among them.
        marks = [i for i in control if "im_" not in ids.convert_ids_to_tokens(i)]
        seen = sum(int((inputs["input_ids"] == i).sum()) for i in marks)
        counted = image_tokens(size, *request.image.size)
        assert (
            seen < counted <= seen + 3
            if "smol" in family
            else counted == seen - 2 * family.startswith("qwen")
        )

    place = base
    for role in ("questioner", "solver"):  # the second is trained from the first one's checkpoint
        folder, engine = tmp_path / role, EngineConfig(batch_sequences=8, threads=1, thinking=thinking)
        facts = train(
            Job(
                role, 1, 3, SETTINGS, engine, place, given, even_tokens, folder, folder / "work",
                Progress(folder / "work" / "progress.jsonl"), launch=LaunchConfig(checkpoint_minutes=30),
            )
        )  # fmt: skip
        assert facts["steps"] == 2
        assert ("padded" in capsys.readouterr().err) != tiny_families.FAMILIES[family].packs
        metrics = artefacts.read_jsonl(folder / "metrics.jsonl")
        assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in metrics)
        # What was drawn has the probabilities under the trainer's forward that it was drawn with, but for the
        # share of the forbidden tokens, which random weights draw as often as others.
        forbidden = math.log(len(ids) / (len(ids) - len(control)))
        assert abs(metrics[0]["logprob_gap"] - forbidden) < 0.02
        made = folder / "checkpoint"
        before, after = (load_file(one / "model.safetensors") for one in (place, made))
        assert before.keys() == after.keys()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved and not any(tower in name for name in moved for tower in TOWERS)
        place = made

    exported = tmp_path / "exported"
    shutil.copytree(made, exported)
    forms.rewrite(exported, forms.Form(dtype="bf16"))
    assert 0 < forms.check_loads(exported, made, forms.Form(dtype="bf16")) < 0.1


def test_a_family_is_evaluated(family: str, tmp_path: Path) -> None:
    base = tiny_families.build(family, tmp_path / "base")
    engine = EngineConfig(batch_sequences=8, threads=1, thinking=False if family == "qwen3_5" else None)
    settings = Settings(
        model=family,
        checkpoint_sha256=evaluating.checkpoint_sha256(base),
        suites=("pocket_math",),
        profile="boxed",
        prompt_format="natural",
        engine=engine.name,
        greedy=SamplingConfig(n=1, temperature=0.0, max_new_tokens=4),
        sampled=SamplingConfig(n=2, max_new_tokens=4),
        pixels=DEFAULT,
        limit=3,
        seed=0,
        cap=True,
        items_per_family=1,
    )
    evaluation = evaluating.Evaluation(settings, base, tmp_path, engine)
    tally = AnswerCount(lambda seen, rate: None)
    evaluating.run(evaluation, tmp_path / "out", False, lambda text: None, tally)
    (suite,) = evaluation.suites
    rows = list(sample_rows(tmp_path / "out", suite))
    assert len(rows) == 3 and tally.answers == 9
    assert all(one["tokens"] >= 1 for row in rows for one in (row["greedy"], *row["sampled"]))


def read(processor, messages, image) -> dict[str, torch.Tensor]:
    """What a family's own forward takes for one prompt, by its processor alone."""
    text = render(processor, messages, with_image=True)
    return dict(processor(text=[text], images=[[image]], return_tensors="pt"))


def batch_of(family: str, given: list[Prompt], sizes: list[int]) -> tuple[MicroBatch, list[tuple]]:
    """Groups of `sizes` completions of random tokens and lengths; and each sequence with what its prompt is
    read as alone."""
    processor, generator = tiny_families.processor(family), torch.Generator().manual_seed(0)
    ids = processor.tokenizer
    plain = [i for i in range(len(ids)) if i not in tiny_families.special_ids(family)]
    images = [open_image(one.image) for one in given]
    texts = [render(processor, one.messages, with_image=True) for one in given]
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    lengths = torch.randint(1, 8, (len(group),), generator=generator).tolist()
    drawn = [torch.tensor(plain)[torch.randint(len(plain), (n,), generator=generator)] for n in lengths]
    alone = [read(processor, one.messages, image) for one, image in zip(given, images, strict=True)]
    batch = MicroBatch(
        processed(processor, texts, images),
        group,
        pad_sequence(drawn, True, ids.pad_token_id),
        pad_sequence([torch.ones_like(one) for one in drawn], True, 0),
        torch.zeros(len(group)),
        torch.tensor(sum(lengths)),
    )
    return batch, [(alone[g], completion) for g, completion in zip(group.tolist(), drawn, strict=True)]


def logits_of(model, alone: dict[str, torch.Tensor], completion: torch.Tensor) -> torch.Tensor:
    """(completion time, vocabulary) for the tokens of a completion, by Hugging Face's own forward."""
    ids = torch.cat([alone["input_ids"], completion[None]], dim=1)
    kinds = {"mm_token_type_ids"} & set(alone)
    others = {name: one for name, one in alone.items() if name not in {"input_ids", "attention_mask"}}
    nothing = torch.zeros_like(completion)[None]
    others |= {name: torch.cat([others[name], nothing], dim=1) for name in kinds}
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **others, use_cache=False).logits
    return logits[0, -len(completion) - 1 : -1]


def one_at_a_time(model, rows: list[tuple], width: int) -> torch.Tensor:
    """(sequences, completion time) log-probabilities by Hugging Face's own forward, unpadded."""
    found = []
    for alone, completion in rows:
        logits = logits_of(model, alone, completion)
        scores = logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]
        found.append(torch.nn.functional.pad(scores, (0, width - len(completion))))
    return torch.stack(found)


def spread(family: str):
    """Weights so wide that every token and picture changes what follows."""
    made = tiny_families.model(family)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    return made


@pytest.mark.parametrize("kernel", ["dense", "blocks", "checkpointing"])
def test_packed_rows_are_exact(
    family: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probabilities and gradients of single unpadded sequences, of the tower too."""
    plain, packed = spread(family), spread(family)
    if not tiny_families.FAMILIES[family].packs:
        before = packed.config.get_text_config()._attn_implementation
        assert "linear_attention" in log_probs.unpackable(packed) and not log_probs.prepare(packed)
        assert packed.config.get_text_config()._attn_implementation == before
        return
    if kernel == "blocks":  # as a GPU reads packed rows, of which PyTorch has the mathematics on a CPU too
        monkeypatch.setattr(attention, "reads_blocks", lambda device: True)
        monkeypatch.setattr(flex_attention, "_validate_device", lambda *states: None)
    batch, rows = batch_of(family, prompts(tmp_path / "images"), [3, 2])
    width = batch.completion_ids.shape[1]
    weights = torch.randn(5, width, generator=torch.Generator().manual_seed(1)) * batch.completion_mask

    expected = one_at_a_time(plain, rows, width)
    (expected * weights).sum().backward()
    add_fused_lm_head(packed)
    assert log_probs.prepare(packed)
    if kernel == "checkpointing":
        packed.train()
        packed.gradient_checkpointing_enable()
    found, _ = log_probs.completion_log_probs(packed, batch)
    (found * weights).sum().backward()

    assert float((found - expected).detach().abs().max()) < 1e-5
    for (name, mine), (_, theirs) in zip(packed.named_parameters(), plain.named_parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            scale = max(float(theirs.grad.abs().max()), 1)
            assert float((mine.grad - theirs.grad).abs().max()) <= 1e-5 * scale, name
