"""Settings that all tests share."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from hypothesis import settings

# Two pytest-xdist workers on two cores: one thread each, set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is imported lives as long as the session: the collector need not look at it again and again.
gc.disable()

# A shared machine makes deadlines flaky. The same examples at every run of CI, others elsewhere.
settings.register_profile("tests", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("tests")

collect_ignore = ["conftest.py"]  # by --doctest-modules: two suites have a module of this name


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):  # collects nothing itself
        gc.enable()


def load_settings(config: pytest.Config) -> None:
    """This suite's, unless the command line has its own."""
    if not any(
        config.getoption(f"--hypothesis-{what}") for what in ("profile", "verbosity", "explain")
    ):
        settings.load_profile("tests")


def pytest_make_collect_report(collector: pytest.Collector) -> None:
    """For the tests of a module; proofs/ has other settings, and may be in the same session."""
    load_settings(collector.config)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """For what a test itself decorates or finds."""
    load_settings(item.config)


@pytest.fixture(autouse=True)
def seeded():
    """A test that draws from torch's own generator draws the same in any order, and alone."""
    if torch := sys.modules.get("torch"):
        # What torch.manual_seed does where there is one device; for others it takes longer than most tests.
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(0)
