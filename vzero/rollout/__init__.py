"""Rollouts: requests in, completions out, whichever engine answers."""

from vzero.rollout.protocol import Completion, Engine, Message, Request, Rollout

__all__ = ["Completion", "Engine", "Message", "Request", "Rollout"]
