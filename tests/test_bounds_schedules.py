"""The public functions of ``bounds.schedules``: bad input, batches, dtypes, gradients, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nondecoupling import bounds

LAW, REWARD = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.best_of_n_policy(LAW, REWARD, 0), r"n=0\.0: must be a whole number"),
        (lambda: bounds.best_of_n_policy([LAW] * 2, [REWARD] * 2, [2, 2.5]), r"n\[1\]=2\.5: must be"),
        (lambda: bounds.best_of_n_policy(LAW, REWARD[:2], 2), r"log_ref \(3,\), reward \(2,\)"),
        (lambda: bounds.best_of_n_bounds([1, math.nan]), r"n\[1\]=nan: must be a finite"),
        (lambda: bounds.replay_bound(1.0, [0.5, 1.5]), r"share\[1\]=1\.5: must be a share, between 0"),
        (lambda: bounds.replay_bound(-1.0, 0.5), r"kl=-1\.0: must be nonnegative"),
        (lambda: bounds.replay_bound([1, 2], [0.1, 0.2, 0.3]), r"shapes kl \(2,\), share \(3,\): leading"),
        (lambda: bounds.weighted_sft_optimum(LAW, 1.0), r"power=1\.0: must be below 1: from 1 on"),
        (lambda: bounds.frontier_weights(LAW, REWARD, 0.0), r"beta=0\.0: must be positive"),
        (lambda: bounds.leashless_policy(LAW, REWARD, -1.0), r"tau=-1\.0: must be nonnegative"),
        (lambda: bounds.alternation_limit(LAW, REWARD, -1.0, 0.5), r"rl_time=-1\.0: must be nonnegative"),
        (lambda: bounds.alternation_limit(LAW, REWARD, 1.0, 0.0), r"sft_share=0\.0: must be positive"),
        (lambda: bounds.alternation_rate(LAW, REWARD, 1.0, 1.2), r"sft_share=1\.2: must be a share"),
        (lambda: bounds.alternation_limit(LAW, REWARD, 1.0, 0.5, "both"), r"after='both': one of 'sft'"),
        (lambda: bounds.alternation_limit([0.0, -math.inf], REWARD[:2], 1.0, 0.5), r"log_d\[1\]=-inf: full"),
        (lambda: bounds.frontier_weights(LAW, 0 * REWARD, 1e-320), r"beta=1e-320: one over it is beyond"),
        (lambda: bounds.leashless_policy(LAW, REWARD, 1e308), r"tau=1e\+308: the range of reward times it is"),
        (lambda: bounds.alternation_limit(LAW, REWARD, 1e308, 0.5), r"rl_time=1e\+308: the range of reward times"),
        (lambda: bounds.alternation_rate(np.float32(LAW), np.float32(REWARD), 1e38, 0.5),
         r"rl_time=1e\+38: the range of reward times it is beyond 4e\+37, where float32 overflows; choose a smaller"),
        (lambda: bounds.best_of_n_bounds(-1), r"n=-1\.0: must be a whole number, at least 1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def finite_difference(function, x, step=1e-6):
    rows = [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))]
    return np.array(rows)


def assert_gradient(function, log_p):
    """Of a function of a law given by its logits, torch against central differences."""

    def of_logits(logits):
        return float(function(logits - np.logaddexp.reduce(logits)))

    theta = torch.tensor(log_p, requires_grad=True)
    function(torch.log_softmax(theta, -1)).backward()
    assert np.allclose(theta.grad.numpy(), finite_difference(of_logits, log_p), atol=1e-7)


def test_best_of_n_in_a_batch_is_row_by_row():
    laws, rewards = np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    draws = np.array([3, 2])
    whole = bounds.best_of_n_policy(laws, rewards, draws)
    rows = [bounds.best_of_n_policy(*row) for row in zip(laws, rewards, draws, strict=True)]
    assert np.array_equal(whole, rows)
    assert np.exp(whole) == pytest.approx(np.array([[1 / 8, 7 / 8], [0.19, 0.81]]), rel=1e-14)


def test_best_of_n_keeps_dtype_and_library():
    single = LAW.astype(np.float32), REWARD.astype(np.float32)
    assert bounds.best_of_n_policy(*single, 3).dtype == np.float32
    policy = bounds.best_of_n_policy(torch.tensor(LAW), REWARD, 3)
    assert isinstance(policy, torch.Tensor)
    assert np.allclose(policy, bounds.best_of_n_policy(LAW, REWARD, 3), rtol=1e-15)


@pytest.mark.parametrize("reward", [REWARD, np.array([1.0, 0.0, 1.0]), np.zeros(3)])
def test_best_of_n_gradient(reward):
    assert_gradient(lambda log_p: bounds.best_of_n_policy(log_p, reward, 4)[1], LAW)


def test_best_of_n_gradient_with_zeros_and_rare_responses_is_finite():
    law = torch.tensor([math.log1p(-1e-300), -math.inf, math.log(1e-300)], dtype=torch.float64)
    law.requires_grad_()
    policy = bounds.best_of_n_policy(law, [2.0, 1.0, 0.0], 10**6)
    policy[[0, 2]].sum().backward()
    assert torch.isfinite(law.grad[[0, 2]]).all()
    assert policy[1] == -math.inf


def test_best_of_n_of_many_draws_and_many_responses():
    assert np.exp(bounds.best_of_n_policy(LAW, REWARD, 10**12)).tolist() == [0.0, 0.0, 1.0]
    rng = np.random.default_rng(0)
    log_ref, reward = np.log(rng.dirichlet(np.ones(20_000))), rng.normal(size=20_000)
    policy = bounds.best_of_n_policy(log_ref, reward, 16)
    assert np.exp(policy).sum() == pytest.approx(1, abs=1e-13)
    to_ref, from_ref = bounds.best_of_n_bounds(16)
    # nearly continuous: both bounds are nearly attained
    assert 0.999 < bounds.kl_divergence(policy, log_ref) / to_ref < 1
    assert 0.99 < bounds.kl_divergence(log_ref, policy) / from_ref < 1


def test_replay_bound_at_its_ends_and_its_gradient():
    assert bounds.replay_bound(3.0, 0.0) == 0
    assert bounds.replay_bound(3.0, 1.0) == pytest.approx(3, rel=1e-15)
    values = torch.tensor([[1e-9, 0.5, 30.0, 900.0], [0.3, 0.9, 0.99, 1.0]], dtype=torch.float64)
    values.requires_grad_()
    bounds.replay_bound(*values).sum().backward()
    kl, share = values.detach()
    mixed = 1 - share + share * torch.exp(-kl)
    assert torch.allclose(values.grad[0, :3], (share * torch.exp(-kl) / mixed)[:3], rtol=1e-12)
    assert torch.allclose(values.grad[1, :3], (-torch.expm1(-kl) / mixed)[:3], rtol=1e-12)
    assert values.grad[0, 3] == 1


def test_weighted_sft_between_uniform_and_the_mode():
    assert np.array_equal(bounds.weighted_sft_optimum(LAW, 0.0), LAW)
    assert np.exp(bounds.weighted_sft_optimum(LAW, -1e9)) == pytest.approx(1 / 3, rel=1e-8)
    assert np.exp(bounds.weighted_sft_optimum(LAW, 1 - 1e-9)).tolist() == [1.0, 0.0, 0.0]
    some = bounds.weighted_sft_optimum([math.log(0.25), math.log(0.75), -math.inf], -1.0)
    assert some[2] == -math.inf
    assert_gradient(lambda log_p: bounds.weighted_sft_optimum(log_p, 0.5)[0], LAW)


def test_frontier_weights_have_mean_one_and_reach_the_frontier():
    laws = np.array([LAW, [math.log(0.5), math.log(0.5), -math.inf]])
    weights = bounds.frontier_weights(laws, REWARD, 0.5)
    assert (np.exp(laws) * weights).sum(-1) == pytest.approx(1, rel=1e-13)
    assert weights[1, 2] == 0
    end = laws[0] + np.log(weights[0])
    price = bounds.price_of_reward(LAW, REWARD, bounds.expected_reward(end, REWARD))
    assert bounds.kl_divergence(LAW, end) == pytest.approx(price, rel=1e-12)
    # a looser leash on the reward: the weights flatten
    assert bounds.frontier_weights(LAW, REWARD, 1e12) == pytest.approx(1, rel=1e-11)
    assert bounds.frontier_weights(LAW, np.full(3, 2.0), 0.1) == pytest.approx(1, rel=1e-15)
    assert_gradient(lambda log_p: bounds.frontier_weights(log_p, REWARD, 0.5)[1], LAW)


def test_leashless_policy_starts_at_ref_and_keeps_what_ref_misses():
    assert np.allclose(bounds.leashless_policy(LAW, REWARD, 0.0), LAW, rtol=0, atol=1e-15)
    some = np.array([math.log(0.25), math.log(0.75), -math.inf])
    policy = bounds.leashless_policy(some, REWARD, 5.0)
    assert policy[2] == -math.inf
    assert policy[:2] == pytest.approx(
        bounds.leashless_policy(some[:2], REWARD[:2], 5.0), rel=1e-14
    )
    same = bounds.leashless_policy(LAW, np.full(3, 1e6), 50.0)
    assert np.allclose(same, LAW, rtol=0, atol=1e-15)


def test_leashless_policy_gains_reward_and_ends():
    path = bounds.leashless_policy(LAW, REWARD, np.geomspace(1e-6, 1e4, 60))
    rewards = bounds.expected_reward(path, np.broadcast_to(REWARD, path.shape))
    assert (np.diff(rewards) > 0).all()
    assert np.exp(bounds.leashless_policy(LAW, REWARD, 1e200)).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("tau", [0.3, 20.0])
def test_leashless_policy_gradient(tau):
    assert_gradient(lambda log_p: bounds.leashless_policy(log_p, REWARD, tau)[1], LAW)
    values = torch.tensor([tau], dtype=torch.float64, requires_grad=True)
    bounds.leashless_policy(torch.tensor(LAW), REWARD, values)[0, 1].backward()
    near = [bounds.leashless_policy(LAW, REWARD, tau * (1 + h))[1] for h in (1e-6, -1e-6)]
    assert float(values.grad) == pytest.approx((near[0] - near[1]) / (2e-6 * tau), rel=1e-6)


def cycle(policy, log_d, reward, time, share):
    risen = bounds.gibbs_tilt(policy, reward, 1 / time)
    return risen, np.log((1 - share) * np.exp(risen) + share * np.exp(log_d))


def test_alternation_limit_is_where_cycles_return():
    laws = np.array([LAW, np.log([0.1, 0.2, 0.7])])
    time, share = np.array([0.5, 2.0]), np.array([0.3, 0.9])
    limit = bounds.alternation_limit(laws, REWARD, time, share)
    risen, back = cycle(limit, laws, REWARD, time, share[:, None])
    assert np.allclose(back, limit, rtol=0, atol=1e-14)
    assert np.allclose(bounds.alternation_limit(laws, REWARD, time, share, "rl"), risen, atol=1e-14)
    half = bounds.gibbs_tilt(limit, REWARD, 2 / time)
    assert np.allclose(
        bounds.alternation_limit(laws, REWARD, time, share, "half-rl"), half, atol=1e-14
    )


def test_alternation_at_its_ends():
    assert np.allclose(bounds.alternation_limit(LAW, REWARD, 2.0, 1.0), LAW, rtol=0, atol=1e-15)
    assert bounds.alternation_rate(LAW, REWARD, 2.0, 1.0) == 0
    assert np.allclose(bounds.alternation_limit(LAW, REWARD, 0.0, 0.2), LAW, rtol=0, atol=1e-15)
    assert bounds.alternation_rate(LAW, REWARD, 0.0, 0.2) == pytest.approx(0.8, rel=1e-15)
    fine = bounds.alternation_limit(LAW, REWARD, 1e-9, 1e-9 / 1.2)
    assert np.allclose(fine, bounds.frontier_policy(LAW, REWARD, 1.2)[0], atol=1e-8)


@pytest.mark.parametrize("after", ["sft", "half-rl", "rl"])
def test_alternation_gradient(after):
    assert_gradient(lambda law: bounds.alternation_limit(law, REWARD, 0.7, 0.4, after)[1], LAW)
    assert_gradient(lambda law: bounds.alternation_rate(law, REWARD, 0.7, 0.4), LAW)
    values = torch.tensor([0.7, 0.4], dtype=torch.float64, requires_grad=True)
    bounds.alternation_rate(torch.tensor(LAW), REWARD, *values).backward()
    for k, step in enumerate(np.eye(2) * 1e-6):
        ends = [
            bounds.alternation_rate(LAW, REWARD, *(values.detach().numpy() + s * step))
            for s in (1, -1)
        ]
        assert float(values.grad[k]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)
