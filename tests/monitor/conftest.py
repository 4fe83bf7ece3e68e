"""Samples of two kinds of prompts, which the start policy answers rightly with chance 0.2 or 0.5."""

import numpy as np
import pytest

from nondecoupling.forecast import Samples
from nondecoupling.monitor import CouplingMonitor


@pytest.fixture(scope="session")
def samples():
    chances = np.repeat([0.2, 0.5], 20)
    right = np.random.default_rng(0).random((40, 16)) < chances[:, None]
    return Samples(right.astype(float), reward_bounds=(0, 1))


@pytest.fixture(scope="session")
def curves(samples):
    """Made once for all tests: it takes seconds."""
    return CouplingMonitor(samples).prices
