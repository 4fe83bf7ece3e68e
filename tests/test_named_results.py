"""Functions with several results return tuples whose places have names."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.recipes import Recipe

RECIPE = Recipe("leave-one-out", "k1-in-reward", 1.0)
D, R = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
CALLS = {
    "best_early_stop": lambda d, r: bounds.best_early_stop(d, bounds.gibbs_tilt(d, -r, 2.0), r),
    "best_of_n_bounds": lambda d, r: bounds.best_of_n_bounds(4.0),
    "coupling_gap_bounds": lambda d, r: bounds.coupling_gap_bounds(d, r, 1.0),
    "decoupling_threshold": lambda d, r: bounds.decoupling_threshold(d, r, 1.0),
    "frontier_policy": lambda d, r: bounds.frontier_policy(d, r, 1.0),
    "group_normalized_success": lambda d, r: bounds.group_normalized_success(0.2, 8, 1.0),
    "joint_saving_bounds": lambda d, r: bounds.joint_saving_bounds(d, d, r, 1.0, 0.1),
    "logit_sandwich": lambda d, r: bounds.logit_sandwich(d, r),
    "optimal_rl_duration": lambda d, r: bounds.optimal_rl_duration(d, r, 1.0),
    "pareto_frontier": lambda d, r: bounds.pareto_frontier(d, r, points=4),
    "reward_change_bounds": lambda d, r: bounds.reward_change_bounds(d, r, 0.1),
    "reward_change_extremes": lambda d, r: bounds.reward_change_extremes(d, r, 0.1),
    "stationary_policy": lambda d, r: bounds.stationary_policy(d, r, RECIPE),
    "rl_improves_sft_threshold": lambda d, r: bounds.rl_improves_sft_threshold(d, d, r, 0.5),
}


def test_no_public_function_returns_a_tuple_without_names():
    public = [getattr(bounds, name) for name in bounds.__all__]
    annotations = {
        f.__name__: str(f.__annotations__["return"]) for f in public if inspect.isfunction(f)
    }
    assert not [name for name, text in annotations.items() if text.startswith("tuple")]
    named = {n for n, text in annotations.items() if text.split("[")[0] in bounds.__all__}
    assert named == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_names_unpack_and_become_json(name):
    result = CALLS[name](D, R)
    assert tuple(result) == tuple(getattr(result, field) for field in result._fields)
    plain = result.to_dict()
    assert list(plain) == list(result._fields)
    again = json.loads(json.dumps(plain))
    for field, value in zip(result._fields, result, strict=True):
        assert np.array_equal(np.asarray(again[field]), np.asarray(value))


def test_tensors_become_json_too():
    loss, reward = bounds.pareto_frontier(torch.tensor(D), torch.tensor(R), points=4)
    found = bounds.pareto_frontier(torch.tensor(D), torch.tensor(R), points=4).to_dict()
    assert found == {"loss": loss.tolist(), "reward": reward.tolist()}
