"""The benchmark of the bounds measures what it says: the optimal policies that it looks into are laws."""

import numpy as np
from benchmarks import bounds as benchmark


def test_the_policies_that_pay_the_price_are_laws():
    log_d, reward = benchmark.worlds(300, 8)
    mean = (np.exp(log_d) * reward).sum(axis=-1)
    target = mean + 0.7 * (reward.max(axis=-1) - mean)
    assert benchmark.optimal_mass_error(log_d, reward, target) <= benchmark.LARGEST_MASS_ERROR
    assert benchmark.optimal_mass_error(log_d + 1e-9, reward, target) > 1e-10
