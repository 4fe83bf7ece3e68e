"""A batch of roots takes as many steps as its slowest row, and no row is sent back to bisecting by the others."""

from __future__ import annotations

import numpy as np

from nondecoupling import bounds
from nondecoupling.formulas import price, roots


def frontier_of_many_rows(monkeypatch):
    """(steps, offsets, laws): the frontier policies of 500 sampled laws, half with no response of the best reward."""
    steps = []

    def counted(xp, value_and_slope, low, high):
        def counting(t):
            steps.append(1)
            return value_and_slope(t)

        return roots.newton_bisection(xp, counting, low, high)

    monkeypatch.setattr(price, "newton_bisection", counted)
    rng = np.random.default_rng(0)
    reward = rng.beta(rng.uniform(0.5, 2, (500, 1)), 2, size=(500, 17))
    reward[:, -1] = 1.0
    log_d = np.full(reward.shape, -np.log(16.0))
    log_d[:, -1] = -np.inf
    log_d[::2] = -np.log(17.0)
    return steps, bounds.frontier_policy(log_d, reward, 2.0), (log_d, reward)


def test_no_row_waits_for_another(monkeypatch):
    steps, found, (log_d, reward) = frontier_of_many_rows(monkeypatch)
    assert len(steps) < 30
    np.testing.assert_allclose(np.exp(found.log_p).sum(axis=1), 1.0, rtol=1e-12)
    alone = [bounds.frontier_policy(log_d[i], reward[i], 2.0).offset for i in range(20)]
    np.testing.assert_allclose(found.offset[:20], alone, rtol=1e-12)
