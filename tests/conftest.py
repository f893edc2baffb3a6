"""Property tests draw the same examples on every machine and are never failed for being slow."""

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci")
