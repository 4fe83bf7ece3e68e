"""Gradients at zero mass are those of the world without that response, for every public function."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.recipes import Recipe
from tests.public_functions import PUBLIC

LAWS = {
    "log_d": [0.2, 0.5, 0.3],
    "log_p": [0.1, 0.3, 0.6],
    "log_q": [0.3, 0.3, 0.4],
    "log_ref": [0.4, 0.35, 0.25],
    "log_tilt": [0.25, 0.4, 0.35],
    "log_sft": [0.4, 0.3, 0.3],
    "log_rl": [0.5, 0.2, 0.3],
}
REAL = {
    "reward": [0.0, 1.0, 3.0],
    "gold": [0.5, 0.0, 2.0],
    "direction": [1.0, -1.0, 0.5],
    "spread": [1.0, 2.0, 0.5],
}
NUMBERS = {
    "beta": 0.7, "weight": 0.4, "target": 2.2, "rate": 0.8, "offset": 0.6, "kl": 0.3, "z": 3.0,
    "step": 0.5, "eps": 0.1, "bonus": 0.2, "power": 0.4, "rl_time": 0.6, "sft_share": 0.3, "tau": 0.8,
    "excess": 0.2,
}  # fmt: skip
EXTRA = (
    0.75  # the reward of the response without mass: inside the range, so that it is in nobody's way
)

CASES = {
    "kl_divergence": "log_p log_q",
    "cross_entropy": "log_d log_p",
    "entropy": "log_p",
    "sft_loss_gradient": "log_p log_d",
    "reward_gradient": "log_p reward",
    "log_partition": "log_ref reward beta",
    "gibbs_tilt": "log_ref reward beta",
    "expected_reward": "log_p reward",
    "regularized_reward": "log_p log_ref reward beta",
    "sft_loss_increase": "log_d log_ref reward beta",
    "sft_loss_change": "log_d log_ref log_p",
    "coupling_gap": "log_d reward beta",
    "coupling_gap_bounds": "log_d reward beta",
    "price_of_reward": "log_d reward target",
    "price_of_policy": "log_d log_p reward",
    "approximate_price_of_reward": "log_d reward target eps",
    "highest_reward": "log_d reward excess",
    "frontier_policy": "log_d reward rate",
    "supporting_line": "log_d reward rate offset",
    "decoupling_threshold": "log_ref reward beta",
    "best_early_stop": "log_d log_ref reward",
    "samples_to_detect": "log_d reward beta z",
    "optimal_rl_duration": "log_d reward weight",
    "regularized_reward_drop": "log_p log_ref reward beta",
    "reward_drop": "log_p log_ref reward beta",
    "reward_drop_in_kl_ball": "log_p log_ref reward beta",
    "cycle_loss": "log_d reward beta",
    "reward_change_bounds": "log_tilt reward kl",
    "reward_change_extremes": "log_tilt reward kl",
    "sft_step_reward_slope": "log_p log_d reward",
    "pl_sft_bound": "log_d log_p",
    "joint_optimum": "log_d log_ref reward beta weight",
    "joint_saving_bounds": "log_d log_ref reward beta weight",
    "joint_gap": "log_p log_d log_ref reward beta weight",
    "overpayment": "log_d log_p reward",
    "forward_leash_optimum": "log_ref reward beta",
    "forward_regularized_reward": "log_p log_ref reward beta",
    "weighted_sft_optimum": "log_d power",
    "frontier_weights": "log_d reward beta",
    "gold_gain_bound": "log_p log_ref reward gold",
    "leashless_policy": "log_ref reward tau",
}
# They ask for full support, have no laws on responses, or return points for plots (tested below).
WITHOUT = {
    "implicit_reward", "logit_sandwich", "pl_reward_bound", "rl_improves_sft_threshold",
    "kernel_cosine", "spectral_misalignment_bound", "decoupled", "shared_prompt_loss_increase",
    "token_kl_divergence", "joint_path", "pareto_frontier", "frontier_rate",
    "stationary_policy", "expected_gradient",
    "price_of_average_reward", "per_token_optimum", "best_of_n_policy", "best_of_n_bounds",
    "alternation_rate", "alternation_limit", "entropy_bonus_optimum", "coupling_from_run",
    "critical_beta", "group_advantage_factor",
    "group_normalized_success", "noisy_beta", "replay_bound", "verifiable_beta", "verifiable_cost",
}  # fmt: skip
PATHS = {
    "price_of_average_reward": lambda d, r, ref: bounds.price_of_average_reward(
        d[None], r[None], 2.2
    ),
    "pareto_frontier": lambda d, r, ref: torch.stack(
        [x.sum() for x in bounds.pareto_frontier(d, r, points=5)]
    ),
    "pareto_frontier with ref": lambda d, r, ref: torch.stack(
        [x.sum() for x in bounds.pareto_frontier(d, r, log_ref=ref, beta=0.7, points=5)]
    ),
    "joint_path": lambda d, r, ref: bounds.joint_path(d, ref, r, 0.7, points=4)[..., :3].exp(),
    "stationary_policy": lambda d, r, ref: (
        bounds.stationary_policy(d, r, Recipe("leave-one-out", "k3-in-loss", 0.7)).log_p
    ),
}
OF_DATA = {"pareto_frontier", "price_of_average_reward", "stationary_policy"}


def test_every_public_function_is_here():
    assert set(CASES) | WITHOUT == set(PUBLIC)


def leaf(name, extra):
    """The values of an argument; with ``extra`` those of the world that has a response without mass."""
    if name in LAWS:
        values = np.log([*LAWS[name], 0.0][: 4 if extra else 3])
    elif name in REAL:
        values = np.array([*REAL[name], EXTRA][: 4 if extra else 3])
    else:
        values = np.array(NUMBERS[name])
    return torch.tensor(values, requires_grad=True)


def gradients(function, names, extra):
    leaves = [leaf(name, extra) for name in names]
    results = function(*leaves)
    total = torch.zeros((), dtype=torch.float64)
    for k, result in enumerate(results if isinstance(results, tuple) else (results,)):
        kept = result[..., :3] if result.ndim and result.shape[-1] == 4 else result
        total = total + (kept * torch.arange(1.0, 1.0 + kept.numel()).reshape(kept.shape)).sum() * (
            k + 1
        )
    total.backward()
    return [x.grad[:3] if x.ndim else x.grad for x in leaves], [x.grad for x in leaves]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", [*CASES, *PATHS])
def test_gradients_are_those_of_the_world_without_the_response(name):
    if name in PATHS:
        function, names = PATHS[name], ["log_d", "reward", "log_ref"]
    else:
        function, names = getattr(bounds, name), CASES[name].split()
    if name in OF_DATA:
        names = names[:2]
        plain = function
        function = lambda d, r: plain(d, r, None)  # noqa: E731
    expected, _ = gradients(function, names, extra=False)
    found, whole = gradients(function, names, extra=True)
    for argument, a, b, everything in zip(names, expected, found, whole, strict=True):
        assert torch.isfinite(everything).all(), (argument, everything)
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11, msg=f"{argument}: {b} against {a}")
