"""Settings that all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# Two pytest-xdist workers on two cores: one thread each, set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine makes deadlines flaky.
settings.register_profile("tests", deadline=None, max_examples=50)
settings.load_profile("tests")
