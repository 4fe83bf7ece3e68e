"""The statistics behind the limits lie on their side in exact expectation, and within the ranges that are bet on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.forecast import Samples
from nondecoupling.forecast.tilts import Tilts

GRADES = np.array([0.0, 0.4, 1.0])
LAWS = [[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [0.98, 0.01, 0.01]]
BETAS = np.array([5.0, 1.0, 0.2, 0.02])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("k", [3, 5])
def test_each_statistic_lies_on_its_side(law, k):
    every = np.array(list(itertools.product(range(3), repeat=k)))
    chance = np.prod(np.array(law)[every], axis=1)
    tilts = Tilts(Samples(GRADES[every], reward_bounds=(0, 1)), BETAS)
    s, reward = 1 / BETAS, np.array(law) @ GRADES
    log_laws, grades = np.tile(np.log(law), (len(BETAS), 1)), np.tile(GRADES, (len(BETAS), 1))
    log_z = bounds.coupling_gap(log_laws, grades, BETAS) + s * (reward - 1)
    tilted = bounds.expected_reward(bounds.gibbs_tilt(log_laws, grades, BETAS), grades)
    below, above = tilts._below @ chance, tilts._above @ chance
    assert np.all(below < log_z) and np.all(log_z < above)
    assert np.all(tilts._from_below[0] @ chance < tilted)
    assert np.all(tilts._from_below[1] @ chance < 1 - tilted)


def test_pairs_are_never_negative():
    rng = np.random.default_rng(0)
    for k in (2, 3, 8, 40):
        # Powers drive rewards to both ends, where the weights are most uneven.
        rewards = rng.random((4000, k)) ** np.exp(rng.uniform(-5, 5, size=(4000, 1)))
        tilts = Tilts(Samples(rewards, reward_bounds=(0, 1)), np.array([10.0, 1.0, 0.1, 0.01]))
        assert tilts._from_below[0].min() >= -1e-12 and tilts._from_below[1].min() >= -1e-12
        assert tilts._above.max() <= 1e-12
