"""The public functions about trainers: bad input, batches, dtypes and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.policies import TokenTree

EVEN, REWARD = np.log([0.5, 0.5]), np.array([0.0, 1.0])
TREE = TokenTree(((0,), (1, 0), (1, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.forward_leash_optimum(EVEN, REWARD, 0.0), r"beta=0\.0: must be positive"),
        (lambda: bounds.per_token_optimum(EVEN, REWARD, 1.0, TREE, "k2"), r"tree: has 3 sequences, but log_ref"),
        (lambda: bounds.per_token_optimum(EVEN, REWARD, 1.0, TREE, "k1"), r"leash='k1': choose 'k2' or 'k3'"),
        (lambda: bounds.group_advantage_factor(1.2, 8), r"success=1\.2: must be a share, between 0 and 1"),
        (lambda: bounds.group_advantage_factor(0.5, 1), r"group_size=1: a whole number, at least 2, or None"),
        (lambda: bounds.group_advantage_factor(0.5, 8.0), r"group_size=8\.0: a whole number, at least 2, or None"),
        (lambda: bounds.group_advantage_factor(0.5, np.inf), r"group_size=inf: a whole number, at least 2"),
        (lambda: bounds.group_normalized_success(0.2, np.nan, 1.0), r"group_size=nan: a whole number, at least 2"),
        (lambda: bounds.group_normalized_success(0.2, "8", 1.0), r"group_size='8': a whole number, at least 2"),
        (lambda: bounds.group_normalized_success(0.2, 8, 1e-320), r"beta=1e-320: one over it is beyond"),
        (lambda: bounds.group_advantage_factor(0.5, 8, "both"), r"sd='both': choose 'population' or 'sample'"),
        (lambda: bounds.group_advantage_factor(0.5, 8, "sample", -1.0), r"eps=-1\.0: must be nonnegative"),
        (lambda: bounds.critical_beta([0.5, 1.0]), r"ref_success\[1\]=1\.0: must be strictly between 0 and 1"),
        (lambda: bounds.group_normalized_success(0.0, 8, 1.0), r"ref_success=0\.0: must be strictly"),
        (lambda: bounds.group_normalized_success(0.5, 8, 1.0, "k3"), r"leash='k3': choose 'reverse' or 'forward'"),
        (lambda: bounds.noisy_beta(1.0, 0.5, 0.5), r"false_positives=0\.5: must be less than 1 together"),
        (lambda: bounds.noisy_beta(1.0, -0.5, 0.5), r"false_positives=-0\.5: must be a share"),
        (lambda: bounds.forward_leash_optimum(EVEN, 0 * REWARD, 1e-320), r"beta=1e-320: one over it is beyond"),
        (lambda: bounds.entropy_bonus_optimum(EVEN, 1e10 * REWARD, 1e-300, 0.0),
         r"beta \+ bonus=1e-300: the range of reward over it is beyond 2e\+307"),
        (lambda: bounds.entropy_bonus_optimum([-700.0, 0.0], REWARD, 1.0, 1e308), r"bonus=1e\+308: the range"),
        (lambda: bounds.entropy_bonus_optimum(EVEN, REWARD, 1.0, -1.0), r"bonus=-1\.0: must be nonnegative"),
        (lambda: bounds.entropy_bonus_optimum([0.0, -np.inf], REWARD, 1.0, 1.0), r"log_ref\[1\]=-inf: full support"),
    ],
)  # fmt: skip
def test_errors_name_the_argument_the_value_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("lift", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shape_and_dtype_are_kept(lift, dtype):
    laws = lift(np.tile(np.log([0.5, 0.25, 0.25]), (4, 2, 1)).astype(dtype))
    reward = lift(np.tile([0.0, 1.0, 3.0], (4, 2, 1)).astype(dtype))
    success, beta = (lift(np.full((4, 2), x).astype(dtype)) for x in (0.25, 0.7))
    for policy in (
        bounds.forward_leash_optimum(laws, reward, beta),
        bounds.per_token_optimum(laws, reward, beta, TREE, "k3"),
        bounds.entropy_bonus_optimum(laws, reward, beta, 0.1),
    ):
        assert tuple(policy.shape) == (4, 2, 3) and str(policy.dtype).endswith(dtype)
        assert type(policy) is type(laws)
    found = bounds.group_normalized_success(success, 8, beta)
    assert tuple(found.stationary.shape) == (4, 2) and "bool" in str(found.stationary.dtype)
    for number in (
        found.success,
        bounds.group_normalized_success(success, 8, beta, "forward").success,
        bounds.group_advantage_factor(success, 8),
        bounds.critical_beta(success),
        bounds.noisy_beta(beta, success, 0.1),
        bounds.forward_regularized_reward(laws, laws, reward, beta),
    ):
        assert tuple(number.shape) == (4, 2) and str(number.dtype).endswith(dtype)
        assert type(number) is type(laws)


def test_a_batch_gives_what_each_world_gives():
    """Also where rows are worked through in blocks: 10^4 numbers a row."""
    rng = np.random.default_rng(0)
    starts, betas = rng.uniform(0.05, 0.9, 4), rng.uniform(0.5, 3, 4)
    for leash in ("reverse", "forward"):
        together = bounds.group_normalized_success(starts, 10_000, betas, leash)
        for i in range(4):
            alone = bounds.group_normalized_success(starts[i], 10_000, betas[i], leash)
            assert alone.success == pytest.approx(together.success[i], rel=1e-13)
    mixed = bounds.group_normalized_success(0.2, None, [0.8, 0.9, 2.0])
    assert mixed.stationary.tolist() == [False, True, True]
    assert mixed.success[0] == 1 > mixed.success[1] > mixed.success[2] > 0.2


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("leash", ["reverse", "forward"])
@pytest.mark.parametrize("size", [2, pytest.param(8, marks=pytest.mark.slow), None])
def test_gradcheck_of_success(leash, size):
    def success(ref_success, beta, eps):
        return bounds.group_normalized_success(
            ref_success, size, beta, leash, "sample", eps
        ).success

    arguments = leaf(0.1, 0.3, 0.6), leaf(1.5, 2.0, 3.0), leaf(0.01, 0.1, 0.2)
    assert torch.autograd.gradcheck(success, arguments)


def test_gradcheck_of_numbers():
    assert torch.autograd.gradcheck(bounds.critical_beta, leaf(0.01, 0.3, 0.9))
    factor = lambda c, eps: bounds.group_advantage_factor(c, 8, "sample", eps)  # noqa: E731
    assert torch.autograd.gradcheck(factor, (leaf(0.01, 0.3, 0.9), leaf(0.01, 0.1, 0.2)))
    assert torch.autograd.gradcheck(bounds.noisy_beta, (leaf(1.0), leaf(0.1), leaf(0.2)))


@pytest.mark.slow  # a root at each of hundreds of points
def test_gradcheck_of_policies():
    generator = torch.Generator().manual_seed(0)
    logits, reward = (
        torch.randn(2, 3, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(2)
    )

    def of(function):
        return lambda x, r, beta: function(torch.log_softmax(x, -1), r, beta)

    for policy in (
        of(bounds.forward_leash_optimum),
        of(lambda ref, r, b: bounds.per_token_optimum(ref, r, b, TREE, "k2")),
        of(lambda ref, r, b: bounds.per_token_optimum(ref, r, b, TREE, "k3")),
        of(lambda ref, r, b: bounds.entropy_bonus_optimum(ref, r, b, 0.3)),
        of(lambda ref, r, b: bounds.forward_regularized_reward(ref, ref.flip(-1), r, b)),
    ):
        assert torch.autograd.gradcheck(policy, (logits, reward, leaf(0.7, 2.0)))


def test_the_longer_the_leash_the_more_success():
    betas = np.logspace(-1, 3, 60)
    for leash in ("reverse", "forward"):
        success = bounds.group_normalized_success(0.2, 8, betas, leash).success
        assert (np.diff(success) <= 0).all() and success[-1] == pytest.approx(0.2, rel=0.01)


def test_a_tree_of_one_token_is_the_law_itself():
    tree = TokenTree(((0,), (1,), (2,)))
    ref, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    np.testing.assert_allclose(
        bounds.per_token_optimum(ref, reward, 0.7, tree, "k2"), bounds.gibbs_tilt(ref, reward, 0.7)
    )
    np.testing.assert_allclose(
        bounds.per_token_optimum(ref, reward, 0.7, tree, "k3"),
        bounds.forward_leash_optimum(ref, reward, 0.7),
    )


def test_an_entropy_bonus_of_a_long_run_in_single_precision():
    """Rewards over beta up to 1e20, whose squares a float32 does not hold: log p falls by r/(beta + bonus)."""
    reward = np.array([0.0, 100.0], np.float32)
    found = bounds.entropy_bonus_optimum(np.log([0.5, 0.5]).astype(np.float32), reward, 1e-18, 0.0)
    np.testing.assert_allclose(found, [-1e20, 0.0], rtol=1e-6)
