"""Settings that all tests share."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

# Two pytest-xdist workers on two cores: one thread each, set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine makes deadlines flaky.
settings.register_profile("tests", deadline=None, max_examples=50)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def seeded():
    """A test that draws from torch's own generator draws the same in any order, and alone."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
