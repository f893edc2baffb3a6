"""Property tests draw the same examples on every machine and are never failed for being slow."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.warm import Warm

# Before torch: as many processes as cores run tests, and threads that spin cost them many times their time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: `make quick` leaves it out")


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: tests of machines that are lost wait for minutes until that is noticed."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """One thread, whatever the test before has set."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Forks programs that need torch, TRL or lmms-eval."""
    made = Warm(tmp_path_factory.mktemp("warm"))
    yield made
    made.server.close()
