"""The bounds for averages over prompts hold on random worlds, and would fail with a smaller constant."""

from __future__ import annotations

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.formulas.averages import (
    near_optimal_loss_increase,
    pinsker_radius,
    reward_ceiling,
    transport_limit,
)

PROMPTS = 5


def random_batch(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """log d, log ref near it or far, another log p, rewards of different ranges, beta."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(3, PROMPTS, 4))
    logits[1] = logits[0] + rng.choice([0.01, 0.1, 1.0]) * (logits[1] - logits[0])
    log_d, log_ref, log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    reward = rng.normal(size=(PROMPTS, 4)) * rng.uniform(0.2, 2.0, size=(PROMPTS, 1))
    return log_d, log_ref, log_p, reward, float(rng.choice([0.1, 0.5, 2.0]))


def margins(seed: int, share: float = 1.0) -> dict[str, float]:
    """lhs - rhs of each bound, its Pinsker term multiplied by ``share``."""
    log_d, log_ref, log_p, reward, beta = random_batch(seed)
    width = float(np.ptp(reward, axis=1).max())
    tilt = bounds.gibbs_tilt(log_ref, reward, beta)

    def mean(values):
        return float(values.mean())

    kl, j = bounds.kl_divergence, bounds.expected_reward
    eps, kl_dp = mean(kl(log_d, log_ref)), mean(kl(log_d, log_p))
    rise = mean(bounds.cross_entropy(log_d, tilt) - bounds.cross_entropy(log_d, log_ref))
    gap = mean(bounds.coupling_gap(log_ref, reward, beta))
    moved = abs(mean(j(log_p, reward) - j(log_d, reward)))
    found = {
        "transport": transport_limit(kl_dp, share * width) - moved,
        "ceiling": reward_ceiling(mean(j(log_d, reward)), kl_dp, share * width)
        - mean(j(log_p, reward)),
        "near": rise - near_optimal_loss_increase(gap, eps, share * width, beta),
    }
    if eps < pinsker_radius(mean(kl(log_ref, tilt)), share * width, beta):
        found["radius"] = rise
    return found


@pytest.mark.parametrize("seed", range(200))
def test_the_bounds_hold_for_averages(seed):
    assert min(margins(seed).values()) > 0


def test_each_bound_would_fail_with_a_smaller_width():
    """The radius grows as the width shrinks, so it too promises what is not so."""
    broken = set()
    for seed in range(200):
        broken |= {name for name, margin in margins(seed, share=0.02).items() if margin < 0}
    assert broken == {"transport", "ceiling", "near", "radius"}


def test_a_constant_reward_has_no_radius():
    assert pinsker_radius(0.0, 0.0, 1.0) == 0.0


def test_arrays_of_batches():
    limit = transport_limit(np.array([0.0, 0.02, -1e-18]), 1.0)
    np.testing.assert_allclose(limit, [0.0, 0.1, 0.0])


# --- the constants are the best ones: two responses of mass one half attain each bound in a limit ------------------

HALF, UNIT_REWARD = np.log([[0.5, 0.5]]), np.array([[0.0, 1.0]])


def law(share: float) -> np.ndarray:
    return np.log([[1 - share, share]])


def test_transport_is_attained_close_to_one_half():
    near = law(0.501)
    allowed = transport_limit(float(bounds.kl_divergence(HALF, near)[0]), 1.0)
    assert 0.999 < 0.001 / allowed <= 1


def test_the_loss_near_sft_optimality_is_attained_close_to_one_half():
    beta, data = 1.0, law(0.501)
    gap = float(bounds.coupling_gap(HALF, UNIT_REWARD, beta)[0])
    eps = float(bounds.kl_divergence(data, HALF)[0])
    rise = float(bounds.sft_loss_increase(data, HALF, UNIT_REWARD, beta)[0])
    charged = gap - near_optimal_loss_increase(gap, eps, 1.0, beta)
    assert 0.999 < (gap - rise) / charged <= 1


def test_just_outside_of_the_radius_rl_may_lower_the_loss():
    beta = 1e3
    tilt = bounds.gibbs_tilt(HALF, UNIT_REWARD, beta)
    radius = pinsker_radius(float(bounds.kl_divergence(HALF, tilt)[0]), 1.0, beta)
    for share, sign in ((0.99, 1), (1.01, -1)):
        data = law(0.5 + np.sqrt(share * radius / 2))
        assert float(bounds.kl_divergence(data, HALF)[0]) == pytest.approx(share * radius, rel=1e-5)
        assert sign * float(bounds.sft_loss_increase(data, HALF, UNIT_REWARD, beta)[0]) > 0
