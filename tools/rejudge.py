"""Judge stored results anew: corrected p-values, directions and verdicts on claims, by today's rules, and the
total compute of runs that did not record it.

    python tools/rejudge.py results/pocket/arms      # every results.json below it

Gains, intervals and everything else that was measured stay as they are. A run's total compute is exact where
its stages are there (`vzero-harness reproduce` writes it). Of a stored result the counts are known and two
lengths are not; they are estimated, which `compute.estimated` says: the mean length of completions from the
first and the last eighth of the steps, and the mean length of a question from the Questioner's completions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

from harness.analysis.build import judged
from harness.analysis.measures import Compute
from harness.analysis.results import FILE, Results, parse_results, read_json, write_results
from harness.cost.meter import meter, scoring_passes, trained_shape
from vzero.arms import ARMS, changes_of
from vzero.config import GrpoSettings, Preset
from vzero.presets import changed, load_preset

ESTIMATED = "mean lengths of completions (first and last eighth of the steps) and of questions"
AROUND = 10  # tokens of a pocket Questioner's completion around its question: tags, description, answer, end
UNTRAINED = 24.7  # tokens of the base Questioner's completion
DRAWN = (42, 42)  # pixels of a drawn picture


def main(places: list[str]) -> None:
    """Rewrite every results.json at or below `places`."""
    for path in sorted(path for place in places for path in Path(place).rglob(FILE)):
        stored = read_json(path)
        if isinstance(stored, dict):
            found = with_compute(parse_results({**stored, "claims": []}, str(path)))
            write_results(path, judged(found))


def with_compute(found: Results) -> Results:
    """With an estimate of the total compute, where it was not recorded and the preset is the pocket's."""
    spent = found.compute
    if spent is None or spent.stages is not None or found.preset != "pocket":
        return found
    arm = ARMS.get(found.arm)
    preset = changed(load_preset("pocket"), changes_of(arm) if arm else {})
    estimate = {"flop": _flop(found, spent, preset), "estimated": ESTIMATED}
    return found.model_copy(update={"compute": spent.model_copy(update=estimate)})


def _flop(found: Results, spent: Compute, preset: Preset) -> float:
    """By `harness.cost`, every prompt and reply of a kind of the same length."""
    count = meter(preset.model, preset.prompt_format)
    asking, solving = preset.questioner, preset.solver
    picture = count.picture(*DRAWN)
    written, answered = _completion(found, "questioner") or UNTRAINED, _completion(found, "solver") or 0.0
    writing = picture + count.asking()
    reading = picture + count.answering([""])[0] + written - AROUND

    def drawn(prompts: float, prompt: float, replies: float, reply: float, encoded: float) -> float:
        lists = [prompt] * round(prompts), [(prompt, reply)] * round(replies), [picture] * round(encoded)
        return count.drawn(*lists)

    def trained(grpo: GrpoSettings, sequences: int, prompt: float, reply: float) -> float:
        groups = [(prompt, [reply] * grpo.group_size)] * round(sequences / grpo.group_size)
        passes = scoring_passes(grpo, grpo.prompts_per_generation / grpo.prompts_per_step)
        if spent.imitated and grpo is solving.grpo:
            passes = 0.0
        shape = trained_shape(preset, grpo, count.size)
        return count.trained(groups, [picture] * len(groups), shape, passes)

    roles = {
        "questioner": (asking.grpo, spent.rollouts.questioner, writing, written),
        "solver": (solving.grpo, spent.rollouts.solver, reading, answered),
    }
    asks_base = asking.intuition == "base"  # which reads all again, and sees the picture
    in_reward = spent.votes.reward / (asking.votes.n + asks_base)
    bought = (spent.votes.label + spent.votes.check) / solving.votes.n
    replies = spent.votes.reward + spent.votes.label + spent.votes.check
    own = spent.written * written + sum(n * length for _, n, _, length in roles.values())
    seen = (asking.votes_see == "image") + asks_base
    pictures = bought + seen * spent.rollouts.questioner / asking.grpo.group_size
    total = drawn(spent.written, writing, spent.written, written, spent.written)
    reply = (spent.tokens - own) / max(replies, 1)
    total += drawn((1 + asks_base) * in_reward + bought, reading, replies, reply, pictures)
    for grpo, sequences, prompt, length in roles.values():
        prompts = sequences / grpo.group_size
        total += drawn(prompts, prompt, sequences, length, prompts)
        total += trained(grpo, sequences, prompt, length) if sequences else 0.0
    if spent.imitated:
        total += trained(solving.grpo, spent.imitated, reading, reply)
    return total


def _completion(found: Results, role: str) -> float | None:
    """Mean tokens of a role's completions over its trainings."""
    means = [
        fmean(value for value in (logged.first, logged.last) if value is not None)
        for name, stage in found.training.items()
        if f"-{role}-" in name
        for logged in (stage.metrics.get("completion_tokens"),)
        if logged and logged.first is not None
    ]
    return fmean(means) if means else None


if __name__ == "__main__":
    main(sys.argv[1:])
