"""Let the frozen Solver vote on many questions: for labels, for checks of the options, for graded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vzero.images.records import ImageRecord, open_image, records_by_id
from vzero.prompts import solver_messages
from vzero.rollout import bulk
from vzero.rollout.protocol import Request
from vzero.runtime.stage import StageContext


@dataclass(frozen=True)
class Poll:
    """A question to vote on: its text with options, the id of its image, the seed of its votes."""

    text: str
    image_id: str
    seed: int


def solver_votes(
    ctx: StageContext, polls: Sequence[Poll], log: str, unit: str = "questions"
) -> list[tuple[bulk.Reply, ...]]:
    """The `solver.votes.n` replies to each poll, none to one that exceeds the Solver's context; a killed
    stage resumes from the scratch file named `log`.

    Raises:
        RolloutError: the Solver cannot be asked.
    """
    import torch

    from vzero.rollout.engines import open_solver

    preset, votes = ctx.preset, ctx.preset.solver.votes
    torch.set_num_threads(preset.engine.threads)
    records = records_by_id(ctx.inputs["images"])
    pictured = [(poll, records[poll.image_id]) for poll in polls]  # all, before any is asked

    def request(one: tuple[Poll, ImageRecord]) -> Request:
        poll, record = one
        return Request(solver_messages(preset.prompt_format, poll.text), open_image(record), poll.seed)

    return bulk.ask(
        open_solver(preset.engine, ctx.inputs["solver"]),
        pictured,
        request,
        votes,
        log=ctx.work / log,
        progress=ctx.progress,
        unit=unit,
    )


def tokens_of(replies: Sequence[Sequence[bulk.Reply]]) -> int:
    """All tokens that were drawn."""
    return sum(reply.tokens for given in replies for reply in given)
