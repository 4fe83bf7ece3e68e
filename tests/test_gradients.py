"""Torch's gradients against differences, for every public function in every argument that is a real number."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.recipes import Recipe
from tests.public_functions import PUBLIC

# Laws are given by their logits, so that they stay on the simplex; -inf is a response without mass.
NO_MASS = -math.inf
WORLD = {
    "log_p": [0.3, -0.4, 0.2],
    "log_q": [-0.1, 0.5, 0.1],
    "log_d": [0.4, 0.1, -0.5],
    "log_ref": [-0.3, 0.6, -0.2],
    "log_tilt": [0.2, -0.6, 0.1],
    "log_sft": [0.1, 0.4],
    "log_rl": [-0.2, 0.3],
    "reward": [0.0, 1.1, 2.9],
    "gold": [0.4, -0.2, 1.7],
    "direction": [0.9, -1.2, 0.4],
    "theta": [0.2, -0.3, 0.6],
    "theta_prime": [-0.5, 0.1, 0.3],
    "kernel": [[2.0, 0.3, -0.1], [0.3, 1.0, 0.2], [-0.1, 0.2, 0.5]],
    "u": [0.7, -0.4, 1.1],
    "v": [0.3, 0.9, -0.6],
    "weights": [0.7, 1.8],
    "beta": 0.7, "weight": 0.5, "target": 2.1, "eps": 0.1, "rate": 0.8, "offset": 0.6, "z": 1.9, "kl": 0.3,
    "step": 0.4, "bonus": 0.2, "power": 0.3, "rl_time": 0.6, "sft_share": 0.35, "tau": 0.8, "excess": 0.2,
    "reward_gain": 0.9, "success": 0.3, "ref_success": 0.2, "share": 0.3, "false_positives": 0.1,
    "false_negatives": 0.15,
}  # fmt: skip
OPTIONS = {
    "group_size": 5, "tree": TokenTree(((0,), (1, 0), (1, 1))), "leash": "k3", "k": 1, "n": 3, "points": 5,
    "recipe": Recipe("leave-one-out", "k3-in-loss", 0.7), "sd": "sample", "after": "half-rl",
}  # fmt: skip
OF_PROMPTS = {
    "log_d": [[0.4, 0.1, -0.5], [-0.2, 0.3, 0.6]],
    "log_ref": [[-0.3, 0.6, -0.2], [0.2, 0.1, -0.4]],
    "reward": [[0.0, 1.1, 2.9], [0.5, 2.0, -0.4]],
    "mask": None,
}
MISSES_THE_BEST = {name: [0.4, 0.1, NO_MASS] for name in ("log_d", "log_ref", "log_p")}
BINARY = {"reward": [0.0, 1.0, 1.0]}

# Options beside the plain world: other formulas, and places where a formula is another one.
CASES = {name: [{}] for name in PUBLIC}
CASES["shared_prompt_loss_increase"] = [OF_PROMPTS | {"beta": [0.7, 1.2]}]
CASES["frontier_rate"] = [OF_PROMPTS, OF_PROMPTS | {"weights": None}]
CASES["price_of_average_reward"] = [OF_PROMPTS, OF_PROMPTS | {"target": [1.7, 2.2]}]
CASES["pareto_frontier"] = [
    OF_PROMPTS | {"log_ref": None, "beta": None},
    OF_PROMPTS,
    MISSES_THE_BEST | {"weights": None},
]
CASES["frontier_policy"] += [
    MISSES_THE_BEST | {"rate": 3.0},
    MISSES_THE_BEST | {"rate": 0.2},
    {"log_d": [0.4, NO_MASS, NO_MASS], "reward": [0.3, 2.9, 2.9], "rate": 3.0},
]
CASES["forward_leash_optimum"] += [MISSES_THE_BEST, MISSES_THE_BEST | {"beta": 9.0}]
CASES["leashless_policy"] += [MISSES_THE_BEST]
CASES["price_of_reward"] += [MISSES_THE_BEST, MISSES_THE_BEST | {"target": 2.8}]
CASES["price_of_policy"] += [MISSES_THE_BEST | {"log_p": [-0.3, -0.4, 0.2]}]
CASES["approximate_price_of_reward"] += [MISSES_THE_BEST]
CASES["overpayment"] += [
    MISSES_THE_BEST | {"log_p": [-0.3, -0.4, 0.2]},
    {"log_p": [3.0, 0.1, -0.1]},
]
CASES["kernel_cosine"] += [{"kernel": np.eye(3)}, {"kernel": np.diag([2.0, 2.0, 0.0])}]
CASES["spectral_misalignment_bound"] += [
    {"k": 0},
    {"k": 2},
    {"k": 3},
    {"kernel": np.diag([2.0, 1.0, 1.0])},
]
CASES["group_advantage_factor"] += [{"group_size": None}, {"sd": "population"}]
CASES["group_normalized_success"] = [
    {"leash": leash, "group_size": size, "beta": 1.3}
    for leash in ("reverse", "forward")
    for size in (5, None)
]
CASES["per_token_optimum"] += [{"leash": "k2"}]
CASES["alternation_limit"] += [{"after": "sft"}, {"after": "rl"}, {"sft_share": 0.8}]
CASES["alternation_rate"] += [{"sft_share": 0.8}]
CASES["verifiable_beta"] = CASES["verifiable_cost"] = [{"target": 0.6}]
CASES["joint_optimum"] += [{"weight": 30.0}, {"log_d": [0.4, 0.1, NO_MASS]}]
CASES["stationary_policy"] += [
    BINARY | {"tree": None, "recipe": Recipe("group-normalised", leash, 1.3, group_size=5)}
    for leash in ("k3-in-loss", "k3-with-ratio")
] + [
    {
        "tree": None,
        "recipe": Recipe("group-mean", "k2-in-loss", 0.7, group_size=4, entropy_bonus=0.1),
    },
    MISSES_THE_BEST | {"tree": None, "recipe": Recipe("leave-one-out", "k3-in-loss", 0.7)},
    {
        "log_ref": [0.4, 0.1, -0.5, NO_MASS],
        "reward": [0.0, 1.0, 1.0, 7.0],
        "tree": None,
        "recipe": Recipe("group-normalised", "k3-in-loss", 1.3, group_size=5, eps=0.1),
    },
]
CASES["expected_gradient"] += [
    {"recipe": Recipe("leave-one-out", leash, 0.7)}
    for leash in ("k1-in-reward", "k2-in-reward", "k3-in-reward", "k3-with-ratio")
] + [BINARY | {"recipe": Recipe("group-normalised", "k2-in-loss", 1.3, group_size=5)}]
# What is a truth value or a count.
NOT_REAL = {"decoupled", "best_of_n_bounds"}


def arguments_of(name, case):
    """All arguments in their order, and which of them are real numbers."""
    parameters = inspect.signature(getattr(bounds, name)).parameters
    given = {}
    for argument in parameters:
        if argument in case:
            given[argument] = case[argument]
        elif argument in WORLD:
            given[argument] = WORLD[argument]
        elif argument in OPTIONS:
            given[argument] = OPTIONS[argument]
        else:
            assert argument == "mask", f"{name}: no value for {argument}"
    # With a truth value for a mask, a number for points or the like there is nothing to differentiate.
    real = [a for a, value in given.items() if a in WORLD and value is not None]
    return given, real


def numbers(results):
    """All real numbers of the results in one row."""
    parts = results if isinstance(results, tuple) else (results,)
    floats = [x for x in parts if torch.is_tensor(x) and x.is_floating_point()]
    assert all(x.requires_grad for x in floats) or not any(x.requires_grad for x in floats)
    flat = torch.cat([x.reshape(-1) for x in floats])
    return flat[torch.isfinite(flat)]


def leaves(given, real):
    return {a: torch.tensor(given[a], dtype=torch.float64, requires_grad=True) for a in real}


def called(name, given, logits):
    laws = {a: torch.log_softmax(x, -1) if a.startswith("log_") else x for a, x in logits.items()}
    found = getattr(bounds, name)(**(given | laws))
    if name == "pareto_frontier":
        # The last point is so near the highest reward that differences of its price are lost in rounding.
        found = found.loss[:-1], found.reward[:-1]
    return numbers(found)


def direction_from(rng, argument, values):
    """A way to move an argument: ties stay ties, and a kernel stays positive semidefinite."""
    levels, place = np.unique(values, return_inverse=True)
    each = rng.uniform(0.5, 1, levels.shape) * rng.choice([-1, 1], levels.shape)
    if argument != "kernel":
        return each[place].reshape(values.shape)
    any_symmetric = np.add.outer(np.arange(len(values)), np.arange(len(values))) % 3 - 1.0
    return values @ any_symmetric @ values


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}-{k}")
        for name in PUBLIC
        if name not in NOT_REAL
        for k, case in enumerate(CASES[name])
    ],
)
def test_gradients_are_slopes(name, case):
    rng = np.random.default_rng(1)
    given, real = arguments_of(name, case)
    at = leaves(given, real)
    found = called(name, given, at)
    weights = torch.tensor(rng.uniform(1, 2, found.shape[0]) * rng.choice([-1, 1], found.shape[0]))
    (weights * found).sum().backward()
    for argument in real:
        values = np.asarray(given[argument], dtype=np.float64)
        step = 1e-4 * torch.tensor(direction_from(rng, argument, values))

        def moved(by, argument=argument, step=step):
            there = {a: x.detach() for a, x in at.items()}
            there[argument] = there[argument] + by * step
            return float((weights * called(name, given, there)).sum())

        # Of fourth order: the differences are off by about 1e-11 of the value.
        slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / 12
        # None where nothing but the order or the support of an argument counts.
        gradient = at[argument].grad
        along = (
            0.0
            if gradient is None
            else float(gradient[at[argument].isfinite()] @ step[at[argument].isfinite()])
        )
        assert along == pytest.approx(slope, rel=1e-6, abs=1e-12), (
            f"{argument}: {along / 1e-4}, {slope / 1e-4}"
        )


# A world in which nothing varies has no rate at which reward is bought.
OF_REWARDS = [
    name
    for name in PUBLIC
    if "reward" in inspect.signature(getattr(bounds, name)).parameters
    and name not in NOT_REAL | {"frontier_rate"}
]


@pytest.mark.parametrize("name", OF_REWARDS)
def test_a_constant_reward_has_gradients(name):
    given, real = arguments_of(name, CASES[name][0])
    given["reward"] = np.full_like(np.asarray(given["reward"]), 2.0)
    at = leaves(given, real)
    called(name, given, at).sum().backward()
    for argument in real:
        gradient = at[argument].grad
        assert gradient is None or torch.isfinite(gradient).all(), f"{argument}: {gradient}"
