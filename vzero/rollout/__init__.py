"""Rollouts: requests in, completions out, whichever engine answers."""

from vzero.rollout.protocol import Completion, ContextOverflow, Engine, Message, Request, Rollout

__all__ = ["Completion", "ContextOverflow", "Engine", "Message", "Request", "Rollout"]
