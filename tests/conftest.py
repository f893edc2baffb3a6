"""Property tests draw the same examples on every machine and are never failed for being slow."""

import os

from hypothesis import settings

os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # before torch: on a shared machine threads that spin cost tests many times their time

settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci")
