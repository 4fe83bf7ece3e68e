"""``stationary_policy`` and ``expected_gradient``: closed forms, every group enumerated, ascents run to their end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.formulas.groups import noisy_group_pull, normalised
from nondecoupling.formulas.trainers import (
    group_pull,
    k1,
    k2,
    k3,
    leave_one_out,
    minus_group_mean,
    pull_in_loss,
    pull_with_ratio,
)
from nondecoupling.numbers.floats import floats_of
from nondecoupling.policies import TokenTree
from nondecoupling.recipes import Recipe

REF, P = np.log([0.4, 0.3, 0.2, 0.1]), np.log([0.25, 0.2, 0.4, 0.15])
LEVELS, BINARY = np.array([0.0, 1.0, 0.4, 2.0]), np.array([0.0, 1.0, 0.0, 1.0])
XP = floats_of(REF)
BETA, BONUS, SIZE = 0.7, 0.3, 3
NOISE = {"false_positives": 0.1, "false_negatives": 0.2}
ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
IN_REWARD = ["k1-in-reward", "k2-in-reward", "k3-in-reward"]
IN_LOSS = ["k1-in-loss", "k2-in-loss", "k3-in-loss", "k3-with-ratio"]


def every_group(recipe, reward, direction):
    """The expected gradient along a direction, from the trainer's own definition: a sum over all groups."""
    row = [x[None] for x in (P, REF, direction)]
    estimator, place = ESTIMATORS.get(recipe.leash[:2]), recipe.leash[3:]
    felt, pull = list(reward), 0.0
    if place == "in-reward":
        felt = [r - recipe.beta * estimator(XP, u) for r, u in zip(reward, P - REF, strict=True)]
    elif recipe.beta:
        of = pull_with_ratio if place == "with-ratio" else pull_in_loss
        pull = of(XP, estimator, *row).item()
    advantage = {
        "leave-one-out": leave_one_out,
        "group-mean": minus_group_mean,
        "group-normalised": lambda rs: normalised(XP, np.array([recipe.eps]), recipe.sd)(list(map(int, rs))),
    }[recipe.advantage]  # fmt: skip
    p = np.exp(P)
    entropy = -(p * P) @ (direction - p @ direction)  # of -sum p log p along the direction
    gain = group_pull(XP, row[0], felt, row[2], SIZE, advantage)
    return np.asarray(gain).item() - recipe.beta * pull + recipe.entropy_bonus * entropy


@pytest.mark.parametrize("bonus", [0.0, BONUS])
@pytest.mark.parametrize(
    ("advantage", "leash"),
    [
        *itertools.product(["leave-one-out", "group-mean"], [*IN_REWARD, *IN_LOSS, "none"]),
        *itertools.product(["group-normalised"], [*IN_LOSS, "none"]),
    ],
)
def test_the_expected_gradient_is_the_sum_over_all_groups(advantage, leash, bonus):
    beta = 0.0 if leash == "none" else BETA
    recipe = Recipe(advantage, leash, beta, SIZE, "sample", 0.01, bonus)
    reward = BINARY if advantage == "group-normalised" else LEVELS
    gradient = bounds.expected_gradient(P, REF, reward, recipe)
    for direction in np.eye(4):
        assert gradient @ direction == pytest.approx(
            every_group(recipe, reward, direction), abs=1e-14
        )


def test_the_expected_gradient_with_a_noisy_verifier_is_the_sum_over_all_verdicts():
    recipe = Recipe("group-normalised", "none", 0.0, SIZE, **NOISE)
    gradient = bounds.expected_gradient(P, REF, BINARY, recipe)
    f0, f1 = (np.full((1, 1), x) for x in NOISE.values())
    for direction in np.eye(4):
        pull = noisy_group_pull(XP, P[None], BINARY.astype(int), direction[None], SIZE, f0, f1)
        assert gradient @ direction == pytest.approx(pull.item(), abs=1e-14)


def end_of_ascent(recipe, reward, steps=3000):
    """Natural gradient ascent from ref on the expected gradient."""
    log_p = REF
    rate = 0.3 / (recipe.beta + recipe.entropy_bonus + 1)
    for _ in range(steps):
        moved = bounds.expected_gradient(log_p, REF, reward, recipe) / np.exp(log_p)
        rate_now = rate / max(1.0, np.abs(moved).max())
        log_p = log_p + rate_now * moved
        log_p = log_p - np.logaddexp.reduce(log_p)
        if np.abs(moved).max() < 1e-13:
            break
    return log_p


ENDS = [
    (Recipe("leave-one-out", "k1-in-reward", 0.7), LEVELS),
    (Recipe("group-mean", "k1-in-reward", 0.7, 3), LEVELS),
    (Recipe("group-mean", "k2-in-loss", 0.7, 3), LEVELS),
    (Recipe("group-mean", "k3-with-ratio", 0.7, 3, entropy_bonus=0.3), LEVELS),
    (Recipe("group-mean", "k1-in-reward", 0.7, 3, entropy_bonus=0.3), LEVELS),
    (Recipe("group-mean", "k3-in-loss", 0.7, 3), LEVELS),
    (Recipe("group-mean", "k3-in-loss", 0.7, 3, **NOISE), BINARY),
    (Recipe("group-mean", "k1-in-loss", 0.7, 3, entropy_bonus=0.3), LEVELS),
    (Recipe("leave-one-out", "none", 0.0, entropy_bonus=0.3), LEVELS),
    (Recipe("leave-one-out", "k2-in-loss", 0.7, entropy_bonus=0.3, **NOISE), BINARY),
    (Recipe("group-normalised", "k3-with-ratio", 0.9, 4, "sample", 1e-4), BINARY),
    (Recipe("group-normalised", "k3-with-ratio", 0.9, 4, "sample", 0.1), 5 * BINARY - 1),
    (Recipe("group-normalised", "k2-in-loss", 0.9, 4, **NOISE), BINARY),
    (Recipe("group-normalised", "k3-in-loss", 0.9, 4, "sample", 1e-4), BINARY),
    (Recipe("group-normalised", "k3-in-loss", 0.9, None, **NOISE), BINARY),
    (Recipe("group-normalised", "k2-in-loss", 1.6, None), BINARY),
]


@pytest.mark.parametrize(("recipe", "reward"), ENDS)
def test_ascent_ends_at_the_stationary_policy(recipe, reward):
    found = bounds.stationary_policy(REF, reward, recipe)
    assert found.stationary and not found.why
    np.testing.assert_allclose(found.log_p, end_of_ascent(recipe, reward), atol=1e-10)
    gradient = bounds.expected_gradient(found.log_p, REF, reward, recipe)
    np.testing.assert_allclose(gradient, 0, atol=1e-13)
    elsewhere = bounds.expected_gradient(REF, REF, reward, recipe)
    assert np.abs(elsewhere).max() > 1e-2  # a gradient that is zero everywhere would be seen


def with_missed(reward, value):
    """ref, the reward, and a fifth response that ref misses."""
    return np.append(REF, -np.inf), np.append(reward, value)


@pytest.mark.parametrize("value", [3.0, -7.0, 1e150])
@pytest.mark.parametrize(
    ("recipe", "reward"), [(r, reward) for r, reward in ENDS if not r.entropy_bonus]
)
def test_a_response_that_ref_misses_counts_for_nothing(recipe, reward, value):
    """In a row beside one without padding, and with a third level of reward on the padding only."""
    log_ref, padded = with_missed(reward, value)
    full = np.log([0.3, 0.25, 0.2, 0.15, 0.1]), np.append(reward, reward[1])
    found = bounds.stationary_policy(np.stack([log_ref, full[0]]), [padded, full[1]], recipe)
    alone = bounds.stationary_policy(REF, reward, recipe)
    assert found.stationary.all() and not found.why
    np.testing.assert_allclose(found.log_p[0, :4], alone.log_p, rtol=1e-13)
    assert found.log_p[0, 4] == -np.inf
    np.testing.assert_allclose(
        found.log_p[1], bounds.stationary_policy(*full, recipe).log_p, rtol=1e-13
    )


def test_the_flow_from_ref_never_meets_what_ref_misses():
    """Gradient ascent in the logits: p (r - E_p r) - beta (p - ref), where ref misses the best response."""
    beta, reward = 0.3, np.array([0.0, 1.0, 3.0])
    with np.errstate(divide="ignore"):
        log_ref = np.log([0.5, 0.5, 0.0])
    ref, theta = np.exp(log_ref), log_ref
    for _ in range(2000):
        p = np.exp(theta - np.logaddexp.reduce(theta))
        theta = theta + 0.5 * (p * (reward - p @ reward) - beta * (p - ref))
    found = bounds.stationary_policy(log_ref, reward, Recipe("leave-one-out", "k3-in-loss", beta))
    np.testing.assert_allclose(np.exp(found.log_p), p, atol=1e-12)
    maximiser = np.exp(bounds.forward_leash_optimum(log_ref, reward, beta))
    assert p[2] == 0 and maximiser[2] > 0.8  # no trainer from ref gets to the maximiser


def test_a_reward_that_is_constant_on_what_ref_says_moves_nothing():
    for value, leash, beta in itertools.product([1e9, -1e9], ["none", "k3-in-reward"], [0.0, 9.0]):
        if (leash == "none") == bool(beta):
            continue
        log_ref, reward = with_missed(0 * LEVELS, value)
        found = bounds.stationary_policy(log_ref, reward, Recipe("leave-one-out", leash, beta))
        assert found.stationary and not found.why
        np.testing.assert_array_equal(found.log_p, log_ref)


def test_what_is_wrong_off_the_support_is_refused_all_the_same():
    recipe = Recipe("leave-one-out", "k3-in-loss", 1.0)
    with pytest.raises(ValueError, match=r"reward\[4\]=nan: must be a finite number"):
        bounds.stationary_policy(*with_missed(LEVELS, np.nan), recipe)
    with pytest.raises(ValueError, match="log_ref: the probabilities sum to 0, not one"):
        bounds.stationary_policy([-np.inf, -np.inf], [0.0, 1.0], recipe)


@pytest.mark.parametrize(
    ("recipe", "reward", "words"),
    [
        (Recipe("group-mean", "none", 0.0, 8), LEVELS, "nothing holds the policy"),
        (Recipe("group-normalised", "k3-in-loss", 0.0, 8), BINARY, "nothing holds the policy"),
        (Recipe("leave-one-out", "k1-in-loss", 1.0), LEVELS, "nothing holds the policy"),
        (Recipe("leave-one-out", "k3-in-reward", 9.0), LEVELS, "no upper bound"),
        (Recipe("leave-one-out", "k2-in-reward", 1.0), LEVELS, "k2 in the reward"),
        (Recipe("group-normalised", "k1-in-reward", 1.0, 8), BINARY, "part of the reward that is normalised"),
        (Recipe("group-normalised", "k2-in-loss", 1.0, 8), LEVELS, "more than two levels"),
        (Recipe("group-normalised", "k2-in-loss", 1.0), BINARY, "below the critical one"),
        (Recipe("group-mean", "k3-in-loss", 1.0, entropy_bonus=0.1), LEVELS, "no closed form"),
        (Recipe("group-normalised", "none", 0.0, 8, entropy_bonus=0.1), BINARY, "no closed form"),
    ],
)  # fmt: skip
def test_where_there_is_none_the_result_says_why(recipe, reward, words):
    found = bounds.stationary_policy(REF, reward, recipe)
    assert not found.stationary and np.isnan(found.log_p).all() and words in found.why
    if not recipe.entropy_bonus:  # a constant reward moves nothing
        still = bounds.stationary_policy(REF, 0 * reward, recipe)
        assert still.stationary and not still.why
        np.testing.assert_array_equal(still.log_p, REF)


def test_rows_have_their_own_answers():
    """The critical beta of a success of .01 is .40, that of a half 1.51."""
    rare, even = np.log([0.99, 0.01]), np.log([0.5, 0.5])
    recipe = Recipe("group-normalised", "k2-in-loss", 1.0)
    found = bounds.stationary_policy(np.stack([rare, even]), np.array([0.0, 1.0]), recipe)
    assert found.stationary.tolist() == [True, False]
    assert np.isfinite(found.log_p[0]).all() and np.isnan(found.log_p[1]).all()
    three = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    found = bounds.stationary_policy(np.log([0.5, 0.3, 0.2]), three, replace(recipe, beta=2.0))
    assert found.stationary.tolist() == [False, True, True] and "critical" not in found.why


@pytest.mark.parametrize("leash", ["reverse", "forward"])
def test_normalised_success_is_that_of_the_public_function(leash):
    name = {"reverse": "k3-with-ratio", "forward": "k3-in-loss"}[leash]
    for size, beta in itertools.product([2, 8, 64], [0.3, 1.0, 5.0]):
        recipe = Recipe("group-normalised", name, beta, size, "sample", 1e-4)
        law = bounds.stationary_policy(REF, BINARY, recipe).log_p
        want = bounds.group_normalized_success(0.4, size, beta, leash, "sample", 1e-4).success
        assert np.exp(law) @ BINARY == pytest.approx(want, rel=1e-13)
        given = np.exp(law - REF)
        assert given[1] == pytest.approx(given[3]) and given[0] == pytest.approx(given[2])


def test_failures_that_no_float_success_shows_are_kept():
    """G = 8 at beta = 0.04: success rounds to one, its distance from one does not."""
    recipe = Recipe("group-normalised", "k3-with-ratio", 0.04, 8, "sample", 1e-4)
    log_p = bounds.stationary_policy(np.log([0.8, 0.2]), np.array([0.0, 1.0]), recipe).log_p
    assert np.exp(log_p[1]) == 1
    pull = bounds.group_advantage_factor(1.0, 8, "sample", 1e-4) / 0.04
    assert log_p[0] == pytest.approx(np.log(4) - pull, rel=1e-12)  # logit c = logit a + h/beta


def test_on_a_tree_penalties_in_the_loss_act_per_token():
    tree = TokenTree(((0,), (1, 0), (1, 1, 0), (1, 1, 1)))
    for leash, name in (("k3-with-ratio", "k2"), ("k3-in-loss", "k3")):
        recipe = Recipe("group-mean", leash, 0.6, 4)
        law = bounds.stationary_policy(REF, LEVELS, recipe, tree).log_p
        np.testing.assert_allclose(law, bounds.per_token_optimum(REF, LEVELS, 0.8, tree, name))
        assert np.abs(law - bounds.stationary_policy(REF, LEVELS, recipe).log_p).max() > 1e-2
    in_reward = Recipe("group-mean", "k1-in-reward", 0.6, 4)
    law = bounds.stationary_policy(REF, LEVELS, in_reward, tree).log_p
    np.testing.assert_allclose(law, bounds.gibbs_tilt(REF, LEVELS, 0.6))
    other = Recipe("group-normalised", "k3-in-loss", 0.6, 4)
    assert "T3" in bounds.stationary_policy(REF, BINARY, other, tree).why


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: bounds.stationary_policy(REF, LEVELS, replace(r, **NOISE)), r"reward=0\.0: must be of two levels"),
        (lambda r: bounds.stationary_policy([0.0, -np.inf], [0, 1], replace(r, entropy_bonus=1)), "full support"),
        (lambda r: bounds.stationary_policy(REF, LEVELS, r, TokenTree.balanced(3)), "tree: has 3 sequences"),
        (lambda r: bounds.expected_gradient([0.0, -np.inf], [0.0, -np.inf], [0, 1], r), "full support"),
        (lambda r: bounds.expected_gradient(P, REF, LEVELS, Recipe("group-normalised", "k3-in-loss", 1.0, 4)),
         "reward=0.0: must be of two levels at most, where advantages"),
        (lambda r: bounds.expected_gradient(P, REF, BINARY, Recipe("group-normalised", "k1-in-reward", 1.0, 4)),
         "recipe: with leash='k1-in-reward'"),
    ],
)  # fmt: skip
def test_errors_name_the_argument_the_value_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call(Recipe("group-mean", "k3-with-ratio", 1.0, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_in_tensors_out(dtype):
    log_ref = torch.tensor(REF, dtype=dtype).expand(2, 4)
    reward = torch.tensor(BINARY, dtype=dtype)
    for recipe in (Recipe("leave-one-out", "k1-in-reward", 1.0), ENDS[-1][0]):
        found = bounds.stationary_policy(log_ref, reward, recipe)
        assert found.log_p.shape == (2, 4) and found.log_p.dtype == dtype
        assert found.stationary.shape == (2,) and found.stationary.dtype == torch.bool
        gradient = bounds.expected_gradient(log_ref, log_ref, reward, recipe)
        assert gradient.shape == (2, 4) and gradient.dtype == dtype


@pytest.mark.parametrize("recipe", [ENDS[3][0], ENDS[5][0], ENDS[10][0], ENDS[13][0]])
def test_gradcheck(recipe):
    logits = torch.tensor([0.3, -0.2, 0.1, 0.6], dtype=torch.float64, requires_grad=True)

    def law(logits):
        log_ref = torch.log_softmax(logits, -1)
        return bounds.stationary_policy(log_ref, torch.tensor(BINARY), recipe).log_p

    assert torch.autograd.gradcheck(law, logits)
