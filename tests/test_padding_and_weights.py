"""Lists of responses padded to one length, and prompts that are not equally likely."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.recipes import Recipe
from tests.public_functions import PUBLIC
from tests.test_zero_mass_gradients import CASES as ARGUMENTS
from tests.test_zero_mass_gradients import LAWS, NUMBERS, REAL

RAGGED = [([0.5, 0.5], [-2.0, -1.0]), ([0.2, 0.5, 0.3], [-3.0, -1.5, -1.0])]
MASK = np.array([[True, True, False], [True, True, True]])
CALLS = {
    "price_of_reward": lambda d, r, **k: bounds.price_of_reward(d, r, -1.3, **k),
    "approximate_price_of_reward": lambda d, r, **k: bounds.approximate_price_of_reward(
        d, r, -1.3, 0.01, **k
    ),
    "price_of_policy": lambda d, r, **k: bounds.price_of_policy(
        d, bounds.gibbs_tilt(d, r, 0.3), r, **k
    ),
    "overpayment": lambda d, r, **k: bounds.overpayment(d, bounds.gibbs_tilt(d, r, 0.3), r, **k),
    "supporting_line": lambda d, r, **k: bounds.supporting_line(d, r, 2.0, 0.5, **k),
    "highest_reward": lambda d, r, **k: bounds.highest_reward(d, r, 0.3, **k),
    "frontier_policy": lambda d, r, **k: bounds.frontier_policy(d, r, 2.0, **k)[1],
    "forward_leash_optimum": lambda d, r, **k: bounds.expected_reward(
        bounds.forward_leash_optimum(d, r, 0.5, **k), r
    ),
}


def padded(value=0.0):
    law, reward = np.full((2, 3), -np.inf), np.full((2, 3), value)
    for row, (p, r) in enumerate(RAGGED):
        law[row, : len(p)], reward[row, : len(r)] = np.log(p), r
    return law, reward


@pytest.mark.parametrize("name", CALLS)
def test_padding_counts_for_nothing(name):
    law, reward = padded()
    one_by_one = [float(CALLS[name](np.log(p), np.array(r))) for p, r in RAGGED]
    assert CALLS[name](law, reward, mask=MASK) == pytest.approx(one_by_one, rel=1e-12)
    assert CALLS[name](law, reward) != pytest.approx(one_by_one, rel=1e-3)
    tensors = torch.tensor(law), torch.tensor(reward)
    found = CALLS[name](*tensors, mask=torch.tensor(MASK))
    assert found.numpy() == pytest.approx(one_by_one, rel=1e-12)


ROW, REWARD = np.log([0.4, 0.35, 0.25]), np.array([0.0, 1.0, 3.0])
RECIPE = Recipe("group-mean", "k3-in-loss", 0.7, 4)
# Beside those of the other list: a law, a reward, and what belongs to the list.
MORE = {
    "stationary_policy": lambda d, r, **k: bounds.stationary_policy(d, r, RECIPE)[:2],
    "best_of_n_policy": lambda d, r, **k: bounds.best_of_n_policy(d, r, 3),
    "joint_path": lambda d, r, **k: bounds.joint_path(d, d, r, 0.7, points=4),
    "pareto_frontier": lambda d, r, **k: bounds.pareto_frontier(d, r, points=4, **k),
    "frontier_rate": lambda d, r, **k: bounds.frontier_rate(d[None], r[None], 2.2, **k),
    "price_of_average_reward": lambda d, r, **k: bounds.price_of_average_reward(d[None], r[None], 2.2, **k),
    "decoupled": lambda d, r, **k: bounds.decoupled([0.0], [0.0], d[None], 0 * r[None] + (d[None] == -np.inf)),
    "shared_prompt_loss_increase": lambda d, r, **k: bounds.shared_prompt_loss_increase(
        [0.0], [0.0], d[None], r[None], 0.7
    ),
}  # fmt: skip
# On scalars, on directions or kernels of all responses, on a tree that lists them, or with full support.
NO_LISTS = {
    "best_of_n_bounds", "coupling_from_run", "critical_beta", "group_advantage_factor", "group_normalized_success",
    "noisy_beta", "replay_bound", "verifiable_beta", "verifiable_cost", "kernel_cosine", "logit_sandwich",
    "spectral_misalignment_bound", "token_kl_divergence",
}  # fmt: skip
FULL_SUPPORT = {
    "alternation_limit": lambda d, r: bounds.alternation_limit(d, r, 0.6, 0.3),
    "alternation_rate": lambda d, r: bounds.alternation_rate(d, r, 0.6, 0.3),
    "entropy_bonus_optimum": lambda d, r: bounds.entropy_bonus_optimum(d, r, 0.7, 0.2),
    "expected_gradient": lambda d, r: bounds.expected_gradient(d, d, r, RECIPE),
    "implicit_reward": lambda d, r: bounds.implicit_reward(d, d, 0.7),
    "per_token_optimum": lambda d, r: bounds.per_token_optimum(d, r, 0.7, TokenTree.balanced(d.size), "k2"),
    "pl_reward_bound": lambda d, r: bounds.pl_reward_bound(d, d, r, 0.7),
    "rl_improves_sft_threshold": lambda d, r: bounds.rl_improves_sft_threshold(d, d, r, 0.5),
}  # fmt: skip


def of_the_list(name, **mask):
    """The call on a law and a reward, the other arguments as in the tests of gradients."""
    if name in MORE:
        return lambda law, reward: MORE[name](law, reward, **mask)

    def call(law, reward):
        extra = len(law) - 3
        given = [
            np.append(np.log(LAWS[a]), [-np.inf] * extra)
            if a in LAWS
            else np.append(REAL[a], reward[3:])
            if a in REAL
            else NUMBERS[a]
            for a in ARGUMENTS[name].split()
        ]
        return getattr(bounds, name)(*given, **mask)

    return call


def test_every_public_function_meets_padding_here():
    assert set(ARGUMENTS) | set(MORE) | NO_LISTS | set(FULL_SUPPORT) == set(PUBLIC)


@pytest.mark.parametrize("value", [1e12, -1e12, 1e150])
@pytest.mark.parametrize("name", [*ARGUMENTS, *MORE])
def test_a_padded_list_is_the_list(name, value):
    """-inf in the laws, any number in the reward, and a mask where there is one."""
    has_mask = "mask" in inspect.signature(getattr(bounds, name)).parameters
    plain = of_the_list(name)(ROW, REWARD)
    mask = {"mask": np.array([True, True, True, False])} if has_mask else {}
    found = of_the_list(name, **mask)(np.append(ROW, -np.inf), np.append(REWARD, value))
    both = [x if isinstance(x, tuple) else (x,) for x in (found, plain)]
    for mine, want in zip(*both, strict=True):
        if mine.shape != want.shape:
            assert np.isin(mine[..., 3], [-np.inf, 0.0]).all()
            mine = mine[..., :3]
        np.testing.assert_allclose(mine, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", FULL_SUPPORT)
def test_what_assumes_full_support_refuses_padding(name):
    with pytest.raises(ValueError, match=r"log_\w+\[3\]=-inf: full support is assumed"):
        FULL_SUPPORT[name](np.append(ROW, -np.inf), np.append(REWARD, 1e12))


def test_averages_without_padding():
    law, reward = padded()
    as_bad_as_the_worst = np.where(MASK, reward, -5.0)
    for function in (bounds.price_of_average_reward, bounds.frontier_rate):
        found = function(law, reward, -1.3, mask=MASK)
        assert found == pytest.approx(function(law, as_bad_as_the_worst, -1.3), rel=1e-12)
    for beta in (None, 0.5):
        of = {} if beta is None else {"log_ref": law, "beta": beta}
        loss, best = bounds.pareto_frontier(law, reward, points=5, mask=MASK, **of)
        same = bounds.pareto_frontier(law, as_bad_as_the_worst, points=5, **of)
        assert loss == pytest.approx(same[0], rel=1e-9)
        assert best == pytest.approx(same[1], rel=1e-9)


def test_weights_are_repeated_prompts():
    law, reward = padded(-5.0)
    rows, weights = [0, 0, 0, 1], [3.0, 1.0]
    calls = (
        lambda d, r, **k: bounds.price_of_average_reward(d, r, [-1.3, -1.1], **k),
        lambda d, r, **k: bounds.frontier_rate(d, r, -1.3, **k),
        lambda d, r, **k: bounds.pareto_frontier(d, r, points=4, **k)[0],
        lambda d, r, **k: bounds.pareto_frontier(d, r, log_ref=d, beta=1.0, points=4, **k)[1],
    )
    for call in calls:
        repeated = call(law[rows], reward[rows])
        assert call(law, reward, weights=weights) == pytest.approx(repeated, rel=1e-9)
        assert call(law, reward) != pytest.approx(repeated, rel=1e-3)
        tensors = torch.tensor(law), torch.tensor(reward)
        found = call(*tensors, weights=torch.tensor(weights, dtype=torch.float64))
        assert found.numpy() == pytest.approx(repeated, rel=1e-9)


def test_a_prompt_of_no_weight_is_as_if_absent():
    law, reward = padded(-5.0)
    found = bounds.price_of_average_reward(law, reward, -1.3, weights=[0.0, 1.0])
    assert found == pytest.approx(bounds.price_of_reward(law[1], reward[1], -1.3), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": [[1, 1, 0], [1, 1, 1]]}, r"mask\.dtype=int64: give truth values"),
        ({"mask": MASK[:, :2]}, r"mask \(2, 2\), log_d \(2, 3\)"),
        ({"mask": np.zeros((2, 3), bool)}, "mask: a row without any response"),
        ({"mask": np.array([True, False, True])}, r"log_d\[0\]: the probabilities sum to 0.5"),
        ({"mask": torch.tensor(MASK)}, "mask is a torch tensor beside NumPy arrays"),
        ({"weights": [1.0]}, r"weights \(1,\): give one for each of the 2 prompts"),
        ({"weights": [1.0, -1.0]}, "weights=.*: must be nonnegative"),
        ({"weights": [0.0, 0.0]}, "weights=.*: must be nonnegative"),
    ],
)
def test_errors_say_what_to_give(options, message):
    law, reward = padded()
    with pytest.raises(ValueError, match=message):
        bounds.price_of_average_reward(law, reward, -1.3, **options)
