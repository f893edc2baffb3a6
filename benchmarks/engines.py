"""Do vLLM's engines answer as the transformers engine does? `python -m benchmarks.engines --out
results/vllm-cpu` (needs `make vllm`).

The pocket model votes on questions that its Questioner wrote, on every engine with the same requests.
Compared are

- the votes: per question, counts of A, B, C, D and none on two engines, by the sum of the questions'
  chi-square statistics, its p-value from permuting votes between the engines within each question (counts of
  ten are too small for the asymptotic distribution); and all votes together, by the ordinary chi-square test;
- as a control, the votes of two engines under two samplings (top-k 40, top-p .9), which the same tests must
  find different;
- greedy answers, token by token;
- log-probabilities: what vLLM says of the tokens it drew against a forward of the Hugging Face model over the
  same tokens;
- tokens a second on the same votes, engines taking turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2_contingency

from benchmarks import shapes, workload
from benchmarks.case import drawn_tokens
from vzero import voting
from vzero.config import EngineConfig, SamplingConfig
from vzero.presets import load_preset
from vzero.prompts import OPTIONS, parse_answer
from vzero.rollout import Engine, Request, Rollout, encoding
from vzero.rollout.engines import open_engine
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET

CLASSES = (*OPTIONS, None)
PERMUTATIONS = 4000
TURNS = 3  # timed votes of each engine
SCORED = 100  # questions whose free samples are scored by the Hugging Face model
Votes = list[list[str | None]]
Answers = dict[str, list[Rollout]]  # by kind of sampling


def votes_of(rollouts: Sequence[Rollout]) -> Votes:
    """The answer of every completion, by question."""
    return [[parse_answer(one.text) for one in rollout.completions] for rollout in rollouts]


def table(votes: Sequence[Sequence[str | None]]) -> np.ndarray:
    """Counts (questions, 5) of A, B, C, D and none."""
    return np.array([[list(row).count(name) for name in CLASSES] for row in votes])


def stratified(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sum over questions of the chi-square statistic of each 2 x 5 table: (..., questions, 5) -> (...)."""
    total = one + other
    share = one.sum(-1, keepdims=True) / total.sum(-1, keepdims=True)
    terms = [
        (counts - total * part) ** 2 / np.where(total > 0, total * part, 1)
        for counts, part in ((one, share), (other, 1 - share))
    ]
    return sum(terms).sum((-1, -2))


def compare_votes(one: Votes, other: Votes) -> dict[str, Any]:
    """Whether two engines' votes differ significantly."""
    left, right = table(one), table(other)
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [
            rng.multivariate_hypergeometric(row, k, PERMUTATIONS)
            for row, k in zip(left + right, left.sum(1), strict=True)
        ],
        1,
    )
    found, chance = stratified(left, right), stratified(drawn, left + right - drawn)
    pooled = np.array([left.sum(0), right.sum(0)])
    pooled = pooled[:, pooled.sum(0) > 0]
    statistic, p = chi2_contingency(pooled, correction=False)[:2]
    tallies = [[voting.tally(row) for row in votes] for votes in (one, other)]
    return {
        "votes": [int(left.sum()), int(right.sum())],
        "by_question": {
            "chi_square": float(found),
            "expected": float(chance.mean()),
            "p": float((1 + (chance >= found).sum()) / (1 + PERMUTATIONS)),
        },
        "pooled": {"counts": pooled.tolist(), "chi_square": float(statistic), "p": float(p)},
        "same_majority": float(np.mean([a.answer == b.answer for a, b in zip(*tallies, strict=True)])),
        "mean_confidence": [float(np.mean([tally.confidence for tally in each])) for each in tallies],
        "kept": [float(np.mean([voting.keep(tally) for tally in each])) for each in tallies],
    }


def same_tokens(one: Sequence[Rollout], other: Sequence[Rollout]) -> float:
    """Share of completions whose tokens are the same to the last."""
    pairs = zip(one, other, strict=True)
    same = [
        a.token_ids == b.token_ids
        for x, y in pairs
        for a, b in zip(x.completions, y.completions, strict=True)
    ]
    return float(np.mean(same))


def compare(reference: Answers, other: Answers) -> dict[str, Any]:
    """An engine beside transformers."""
    pairs = zip(reference["greedy"], other["greedy"], strict=True)
    return {
        **{
            kind: compare_votes(votes_of(reference[kind]), votes_of(other[kind]))
            for kind in ("reward votes", "label votes")
        },
        "greedy_equal": same_tokens(reference["greedy"], other["greedy"]),
        "prompt_tokens_equal": all(a.prompt_tokens == b.prompt_tokens for a, b in pairs),
    }


def parity(
    requests: Sequence[Request], rollouts: Sequence[Rollout], forbidden: frozenset[int]
) -> dict[str, Any]:
    """|log-probability an engine reports - that of the Hugging Face model| over all tokens drawn, in nats."""
    of = shapes.subject(shapes.POCKET)
    gaps: list[float] = []
    for request, rollout in zip(requests, rollouts, strict=True):
        text = encoding.collect(of.processor, [request]).prompts[0].text
        inputs = of.processor(text=[text], images=[[request.image]], return_tensors="pt")
        width = inputs["input_ids"].shape[1]
        pictures = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
        for completion in rollout.completions:
            whole = torch.cat([inputs["input_ids"], torch.tensor([completion.token_ids])], 1)
            types = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(completion.token_ids)))
            with torch.no_grad():
                logits = of.model(
                    input_ids=whole,
                    attention_mask=torch.ones_like(whole),
                    mm_token_type_ids=types,
                    **pictures,
                ).logits
            logits[..., sorted(forbidden)] = -torch.inf
            scores = torch.log_softmax(logits[0, width - 1 : -1].float(), -1)
            logprobs = scores.gather(1, whole[0, width:, None])[:, 0]
            gaps += (torch.tensor(completion.logprobs) - logprobs).abs().tolist()
    return {"tokens": len(gaps), "mean": statistics.mean(gaps), "max": max(gaps)}


def timed(
    engines: Mapping[str, Engine], requests: Sequence[Request], votes: SamplingConfig
) -> dict[str, Any]:
    """Tokens a second of each engine: median of `TURNS`, in turn."""
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(TURNS):
        for name, engine in engines.items():
            start = time.perf_counter()
            rollouts = engine.generate(requests, votes)
            rates[name].append(drawn_tokens(rollouts) / (time.perf_counter() - start))
    return {name: {"median": statistics.median(values), "all": values} for name, values in rates.items()}


def measure(questions: int, servers: int, threads: int) -> dict[str, Any]:
    """The whole comparison."""
    requests, preset = workload.requests(questions), load_preset("pocket")
    config = EngineConfig(threads=threads, servers=max(1, servers), batch_sequences=256)
    reference = open_engine(config, POCKET)
    assert isinstance(reference, TransformersEngine)
    engines: dict[str, Engine] = {"transformers": reference}
    for name in ("vllm", "server") if servers else ("vllm",):
        engines[name] = open_engine(config.model_copy(update={"name": name}), POCKET)
    kinds = {
        "reward votes": preset.questioner.votes,
        "label votes": preset.solver.votes,
        "greedy": preset.evaluation.greedy,
    }
    answers = {
        name: {kind: engine.generate(requests, sampling) for kind, sampling in kinds.items()}
        for name, engine in engines.items()
    }
    theirs = answers["transformers"]
    found = {name: compare(theirs, answers[name]) for name in engines if name != "transformers"}
    if servers:
        drawn = [answers[name]["label votes"] for name in ("vllm", "server")]
        found["server"]["same_draws_as_vllm_in_process"] = same_tokens(*drawn)
    # Of two engines, since two samplings of one share their random numbers and would come out too much alike.
    control = compare_votes(votes_of(theirs["reward votes"]), votes_of(answers["vllm"]["label votes"]))
    free, few = SamplingConfig(n=4, max_new_tokens=40), requests[:SCORED]
    return {
        "threads": threads,
        "questions": len(requests),
        "answers_by_transformers": {
            str(key): value for key, value in Counter(chain(*votes_of(theirs["label votes"]))).items()
        },
        "compared_with_transformers": found,
        "control_top_k_against_top_p": {key: control[key] for key in ("by_question", "pooled")},
        "logprob_gap_nats": {
            name: parity(few, engines[name].generate(few, free), reference.forbidden)
            for name in ("transformers", "vllm")
        },
        "tokens_per_second": timed(engines, requests, preset.solver.votes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare vLLM's engines with the transformers engine.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=240)
    parser.add_argument("--servers", type=int, default=2, help="of the served engine; 0 leaves it out")
    options = parser.parse_args()
    sizes = f"--questions {options.questions} --servers {options.servers}"
    found = measure(options.questions, options.servers, int(os.environ.get("OMP_NUM_THREADS", "1")))
    result = {
        "command": f"python -m benchmarks.engines {sizes}",
        **found,
        "provenance": artefacts.provenance(),
    }
    artefacts.write_json(options.out / "engines.json", result)


if __name__ == "__main__":
    main()
