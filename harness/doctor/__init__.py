"""Is this machine able to do it, and if not, what to do: facts are collected once, then judged by pure
functions."""

from harness.doctor.checks import Finding, diagnose
from harness.doctor.facts import Facts, gather
from harness.doctor.needs import Needs, needs_of

__all__ = ["Facts", "Finding", "Needs", "diagnose", "gather", "needs_of"]
