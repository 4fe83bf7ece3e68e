"""The public API: bad input, batches, dtypes, gradients, and how quantities change with the world."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nondecoupling import bounds

POINT = np.array([0.0, -math.inf])
EVEN = np.log([0.5, 0.5])
REWARD = np.array([0.0, 1.0])
SINGLE, REWARD32 = EVEN.astype(np.float32), REWARD.astype(np.float32)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.kl_divergence([math.nan, 0.0], EVEN), r"log_p\[0\] is NaN"),
        (lambda: bounds.kl_divergence([0.5, 0.5], EVEN), r"log_p: .*sum to 3\.297.*from_probs"),
        (lambda: bounds.kl_divergence(EVEN, [[0.0, -math.inf], [0.0, 0.0]]), r"log_q\[1\]: .*sum to 2"),
        (lambda: bounds.coupling_gap(EVEN, REWARD, 0.0), r"beta=0\.0: must be positive"),
        (lambda: bounds.coupling_gap([EVEN] * 3, [REWARD] * 3, [1, -2, 1]), r"beta\[1\]=-2\.0"),
        (lambda: bounds.coupling_gap(EVEN, REWARD, math.nan), r"beta=nan: must be a finite"),
        (lambda: bounds.coupling_gap(EVEN, [0.0, math.inf], 1.0), r"reward\[1\]=inf: must be a finite"),
        (lambda: bounds.coupling_gap(EVEN, [0.0, 1.0, 2.0], 1.0), r"log_d \(2,\), reward \(3,\).*agree"),
        (lambda: bounds.coupling_gap([EVEN] * 3, [REWARD] * 2, 1.0), r"must broadcast"),
        (lambda: bounds.coupling_gap([EVEN] * 3, [REWARD] * 3, [1.0, 2.0]), r"beta \(2,\).*broadcast"),
        (lambda: bounds.entropy(0.0), r"log_p: a scalar"),
        (lambda: bounds.entropy(np.zeros((3, 0))), r"at least one\s+response"),
        (lambda: bounds.kl_divergence(EVEN.astype(np.float32), EVEN), r"dtypes differ \(log_p: float32"),
        (lambda: bounds.entropy(np.float16([0.0])), r"convert to float32 or float64"),
        (lambda: bounds.entropy(["a"]), r"log_p: an array of <U1; give real numbers"),
        (lambda: bounds.frontier_policy(EVEN, REWARD, -1.0), r"rate=-1\.0: must be positive"),
        (lambda: bounds.price_of_average_reward(EVEN, REWARD, 0.7), r"give \[prompts, n\]"),
        (lambda: bounds.price_of_average_reward([EVEN], [REWARD], math.nan), r"target=nan: must be finite"),
        (lambda: bounds.price_of_average_reward([[0.5, 0.5]], [REWARD], 0.7), r"log_d\[0\]: .*sum to 3"),
        (lambda: bounds.pareto_frontier([[EVEN]], [[REWARD]]), r"one axis of prompts at most"),
        (lambda: bounds.implicit_reward(EVEN, POINT, 1.0), r"log_ref\[1\]=-inf: full support is assumed"),
        (lambda: bounds.pl_reward_bound(POINT, EVEN, REWARD, 1.0), r"log_p\[1\]=-inf: full support"),
        (lambda: bounds.rl_improves_sft_threshold(EVEN, POINT, REWARD, 1.0), r"log_p\[1\]=-inf: full"),
        (lambda: bounds.sft_loss_increase(EVEN, POINT, REWARD, 1.0), r"log_ref\[1\]=-inf: log_d has mass"),
        (lambda: bounds.sft_loss_change([EVEN] * 2, [EVEN, POINT], EVEN), r"log_ref\[1, 1\]=-inf: log_d"),
        (lambda: bounds.best_early_stop(EVEN, POINT, REWARD), r"log_d << log_ref is assumed"),
        (lambda: bounds.joint_optimum(EVEN, POINT, REWARD, 1.0, 1.0), r"leave such responses out, or give"),
        (lambda: bounds.reward_drop(EVEN, POINT, REWARD, 1.0), r"log_p << log_ref is assumed"),
        (lambda: bounds.pareto_frontier(EVEN, REWARD, points=3.7), r"points=3\.7: a whole number, at least 3"),
        (lambda: bounds.joint_path(EVEN, EVEN, REWARD, 1.0, points="5"), r"points='5': a whole number, at least 3"),
        (lambda: bounds.joint_path(EVEN, EVEN, REWARD, 1.0, points=2), r"points=2: a whole number, at least 3"),
        (lambda: bounds.spectral_misalignment_bound(np.eye(2), REWARD, REWARD, 1.5), r"k=1\.5: a whole number, at "),
        (lambda: bounds.spectral_misalignment_bound(np.eye(2), REWARD, REWARD, -1), r"k=-1: a whole number, at "),
        (lambda: bounds.spectral_misalignment_bound(np.eye(2), REWARD, REWARD, 3), r"k=3: more than the number of "),
    ],
)  # fmt: skip
def test_errors_name_the_argument_the_value_and_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.joint_optimum(EVEN, EVEN, REWARD, 0.04, 1e307), r"weight=1e\+307: it over beta is beyond"),
        (lambda: bounds.joint_gap(EVEN, EVEN, EVEN, 0 * REWARD, 1e-320, 1.0), r"weight=1: it over beta is beyond"),
        (lambda: bounds.joint_saving_bounds(SINGLE, SINGLE, REWARD32, 1e-3, 1e36), r"weight=1e\+36: it over beta is"),
        (lambda: bounds.joint_saving_bounds(EVEN, EVEN, REWARD, 1e-3, 1e-310), r"weight=1e-310: the range of reward"),
        (lambda: bounds.samples_to_detect(EVEN, REWARD, 1e-155, 2.0), r"beta=1e-155: the range of reward over it"),
        (lambda: bounds.samples_to_detect(SINGLE, REWARD32, 1e-20, 2.0), r"beta=1e-20: .* float32 overflows"),
        (lambda: bounds.frontier_policy(EVEN, 1e10 * REWARD, 1e300), r"rate=1e\+300: the range of reward times it"),
        (lambda: bounds.supporting_line(EVEN, 1e10 * REWARD, 1e300, 1.0), r"rate=1e\+300: the range of"),
        (lambda: bounds.optimal_rl_duration(EVEN, REWARD, 1e-200), r"weight=1e-200: the range of reward over it"),
        (lambda: bounds.optimal_rl_duration(EVEN, REWARD, 1e200), r"weight=1e\+200: it is beyond 1e\+154"),
        (lambda: bounds.pl_reward_bound(EVEN, EVEN, REWARD, 1e308), r"beta=1e\+308: it is beyond 1e\+154"),
        (lambda: bounds.pl_reward_bound([-300.0, 0.0], EVEN, REWARD, 1e153), r"beta=1e\+153: the range of log_p times"),
        (lambda: bounds.rl_improves_sft_threshold(EVEN, EVEN, 0 * REWARD, 1e155), r"step=1e\+155: it is beyond"),
    ],
)  # fmt: skip
def test_numbers_that_would_overflow_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_next_to_those_are_right():
    law, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    # RL to the end, from the top: eta sum d/(1 - k e^x) = 1 with e^x = 0 off the best response.
    slack = 0.5 * 0.2 / (1 - 0.5 * 0.8)
    assert bounds.alternation_rate(law, reward, 1e300, 0.5) == pytest.approx(1 - slack, rel=1e-14)
    # log lambda/beta is 705, of which a few roundings remain.
    np.testing.assert_allclose(
        bounds.joint_optimum(law, law, reward, 0.04, 1e305), law, atol=705 * 1e-15
    )
    # At a small beta DeltaL is the range of the reward from its mean: n = z^2 Var/(max - mean)^2.
    found = bounds.samples_to_detect(law, reward, 1e-153, 2.0)
    assert found == pytest.approx(4 * 1.29 / 2.1**2, rel=1e-14)
    np.testing.assert_array_equal(bounds.frontier_weights(law, np.ones(3), 1e-300), 1.0)
    assert bounds.frontier_policy(law, reward, 1e300).log_p[2] == pytest.approx(0.0, abs=1e-15)


def test_rows_are_checked_in_every_block():
    laws = np.tile(EVEN, (50_000, 1))
    laws[49_999, 0] = 0.0
    with pytest.raises(ValueError, match=r"log_p\[49999\]"):
        bounds.entropy(laws)


# --- zero mass --------------------------------------------------------------------------------


@pytest.mark.parametrize("lift", [np.array, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("d", "ref", "p"),
    [
        ([0.5, 0.5, 0.0], [0.3, 0.3, 0.4], [0.2, 0.8, 0.0]),
        ([0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.2, 0.7, 0.1]),
        ([0.5, 0.5, 0.0, 0.0], [0.3, 0.3, 0.4, 0.0], [0.2, 0.7, 0.0, 0.1]),
        ([0.5, 0.5], [0.3, 0.7], [1.0, 0.0]),
    ],
    ids=["p misses ref", "ref misses p", "both", "p misses d"],
)
def test_the_change_of_the_sft_loss_is_right_where_laws_have_no_mass(d, ref, p, lift):
    with np.errstate(divide="ignore"):
        d, ref, p = (np.log(law) for law in (d, ref, p))
    change = float(bounds.sft_loss_change(lift(d), lift(ref), lift(p)))
    expected = float(bounds.cross_entropy(d, p) - bounds.cross_entropy(d, ref))
    assert change == pytest.approx(expected, rel=1e-12)


# --- shapes and dtypes ------------------------------------------------------------------------


@pytest.mark.parametrize("lift", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shape_and_dtype_are_kept(lift, dtype):
    laws = lift(np.tile(EVEN, (4, 3, 1)).astype(dtype))
    reward = lift(np.tile(REWARD, (4, 3, 1)).astype(dtype))
    beta = lift(np.full((4, 3), 0.5).astype(dtype))
    gap = bounds.coupling_gap(laws, reward, beta)
    tilt = bounds.gibbs_tilt(laws, reward, beta)
    assert tuple(gap.shape) == (4, 3) and tuple(tilt.shape) == (4, 3, 2)
    assert str(gap.dtype).endswith(dtype) and str(tilt.dtype).endswith(dtype)
    assert type(gap) is type(laws)


def test_a_batch_gives_what_each_world_gives():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5, 4))
    laws = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    rewards, betas = rng.standard_normal((5, 4)), rng.uniform(0.1, 2, 5)
    batch = bounds.coupling_gap(laws, rewards, betas)
    single = [bounds.coupling_gap(*w) for w in zip(laws, rewards, betas, strict=True)]
    np.testing.assert_allclose(batch, single, rtol=1e-15)  # vectorised exp may differ by an ulp
    prices = bounds.price_of_reward(laws, rewards, rewards.max(-1) - 0.1)
    single = [
        bounds.price_of_reward(d, r, r.max() - 0.1) for d, r in zip(laws, rewards, strict=True)
    ]
    np.testing.assert_allclose(prices, single, rtol=1e-14)


def test_empty_batch():
    assert bounds.entropy(np.zeros((0, 3))).shape == (0,)


def test_numpy_and_torch_agree():
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((20, 5))
    d = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    r = rng.standard_normal((20, 5))
    for name in ("coupling_gap", "cycle_loss", "log_partition"):
        function = getattr(bounds, name)
        ours = function(d, r, 0.3)
        theirs = function(torch.tensor(d), torch.tensor(r), 0.3).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


# --- gradients --------------------------------------------------------------------------------


def on_the_simplex(function):
    """Gradients are meant along the simplex: differentiate through log_softmax of logits."""
    return lambda logits, *rest: function(torch.log_softmax(logits, -1), *rest)


def leaf(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize(
    "name",
    ["coupling_gap", "cycle_loss", "log_partition", "gibbs_tilt"],
)
def test_gradcheck_of_tilts(name):
    beta = torch.tensor([0.7, 2.0], dtype=torch.float64, requires_grad=True)
    function = on_the_simplex(getattr(bounds, name))
    assert torch.autograd.gradcheck(function, (leaf(2, 4), leaf(2, 4, seed=1), beta))


@pytest.mark.parametrize("name", ["reward_drop", "regularized_reward_drop", "regularized_reward"])
def test_gradcheck_of_drops(name):
    function = getattr(bounds, name)

    def composed(p, ref, r, beta):
        return function(torch.log_softmax(p, -1), torch.log_softmax(ref, -1), r, beta)

    beta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        composed, (leaf(2, 4), leaf(2, 4, seed=1), leaf(2, 4, seed=2), beta)
    )


def test_gradcheck_of_price_of_reward():
    def composed(logits, reward, share):
        log_d = torch.log_softmax(logits, -1)
        mean = bounds.expected_reward(log_d, reward)
        target = mean + torch.sigmoid(share) * (reward.max(-1).values - mean)
        return bounds.price_of_reward(log_d, reward, target)

    assert torch.autograd.gradcheck(composed, (leaf(3, 4), leaf(3, 4, seed=1), leaf(3, seed=2)))


def test_gradcheck_of_frontiers():
    def policy(logits, reward, log_rate):
        return bounds.frontier_policy(torch.log_softmax(logits, -1), reward, log_rate.exp())

    def average(logits, reward):
        log_d = torch.log_softmax(logits, -1)
        target = 0.5 * (bounds.expected_reward(log_d, reward) + reward.max(-1).values).mean()
        return bounds.price_of_average_reward(log_d, reward, target)

    assert torch.autograd.gradcheck(policy, (leaf(2, 3), leaf(2, 3, seed=1), leaf(2, seed=2)))
    assert torch.autograd.gradcheck(average, (leaf(2, 3), leaf(2, 3, seed=1)))


def test_frontiers_of_prompts_that_lack_the_best_response():
    """d(argmax r) = 0: at a high rate the mass that d/b leaves over goes to the best response."""
    data = np.log(
        [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]],
        where=[[1, 1, 0], [1, 1, 1]],
        out=np.full((2, 3), -math.inf),
    )
    reward = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    policy, line, offset = bounds.frontier_policy(data, reward, 10.0)
    reached = bounds.expected_reward(policy, reward)
    paid = bounds.kl_divergence(data, policy)
    close(paid, bounds.price_of_reward(data, reward, reached))
    close(paid - 10.0 * reached, line, 10)
    assert offset[0] == 0 < offset[1]
    assert policy[0, 2] > -math.inf
    loss, best = bounds.pareto_frontier(data, reward, points=9)
    assert (np.diff(loss) > 0).all() and (np.diff(best) > 0).all()
    assert loss[0] == bounds.entropy(data).mean()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_policy_costs_less_than_its_price(dtype):
    """RL so hard that its reward rounds to the highest one, where the price of that reward is infinite."""
    rng = np.random.default_rng(5)
    data = np.log(rng.dirichlet(np.ones(4), size=500)).astype(dtype)
    reward = (10 * rng.normal(size=(500, 4))).astype(dtype)
    for beta in 10.0 ** np.arange(-3, 2):
        policy = bounds.gibbs_tilt(data, reward, beta)
        paid = bounds.kl_divergence(data, policy)
        price = bounds.price_of_policy(data, policy, reward)
        assert (price <= paid * (1 + 100 * np.finfo(dtype).eps)).all()


def test_the_price_of_a_policy_is_that_of_its_reward():
    data, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    policy = bounds.gibbs_tilt(data, reward, 1.0)
    price = bounds.price_of_reward(data, reward, bounds.expected_reward(policy, reward))
    assert bounds.price_of_policy(data, policy, reward) == pytest.approx(price, rel=1e-13)


def test_the_joint_path_of_prompts_is_that_of_each():
    rng = np.random.default_rng(3)
    data, ref = np.log(rng.dirichlet(np.ones(4), size=(2, 3)))
    reward = rng.normal(size=(3, 4))
    together = bounds.joint_path(data, ref, reward, 0.5, points=5)
    for i in range(3):
        np.testing.assert_allclose(
            together[:, i], bounds.joint_path(data[i], ref[i], reward[i], 0.5, points=5)
        )
    loss, best = bounds.pareto_frontier(data, reward, log_ref=ref, beta=0.5, points=5)
    assert (np.diff(loss) < 0).all() and (np.diff(best) < 0).all()


def test_a_constant_average_reward_costs_nothing():
    data, reward = np.log([[0.5, 0.5], [0.9, 0.1]]), np.ones((2, 2))
    prices = bounds.price_of_average_reward(data, reward, [0.5, 1.0, 1.5])
    assert prices.tolist() == [0.0, 0.0, math.inf]
    with pytest.raises(ValueError, match=r"target=1\.0: choose above the data's reward 1"):
        bounds.frontier_rate(data, reward, 1.0)


def test_a_constant_reward_costs_nothing():
    law = np.log([0.155, 0.422, 0.423])
    constant = np.full(3, -2.0)
    assert bounds.expected_reward(law, constant) == -2.0
    assert bounds.price_of_reward(law, constant, bounds.expected_reward(law, constant)) == 0.0


@pytest.mark.parametrize(
    ("log_d", "reward"),
    [
        ([0.5, 0.5, -math.inf], [0.0, 1.0, 2.0]),
        ([1.0, 0.0, 0.0], [0.0, 1.0, 2.0]),
        ([1 / 3, 1 / 3, 1 / 3], [1.0, 1.0, 1.0]),
    ],
    ids=["zero mass", "point mass", "tied rewards"],
)
def test_gradients_are_finite_at_the_boundary(log_d, reward):
    mass = torch.tensor([max(x, 0.0) for x in log_d], dtype=torch.float64)
    law = torch.log(mass).requires_grad_()
    r = torch.tensor(reward, dtype=torch.float64, requires_grad=True)
    bounds.coupling_gap(law, r, 0.5).backward()
    assert torch.isfinite(law.grad).all() and torch.isfinite(r.grad).all()


# --- metamorphic: how each quantity changes with the world -------------------------------------

laws = st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(
    lambda v: np.array(v) - np.logaddexp.reduce(v)
)
values = st.lists(st.integers(-20, 20), min_size=3, max_size=3).map(lambda v: np.array(v) / 8)
betas = st.floats(0.1, 10)


def close(a, b, scale=1.0):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13 * scale)


@given(laws, laws, values, betas)
def test_splitting_a_response_in_two_equal_halves_changes_nothing(d, ref, r, beta):
    def split(x, shift):
        return np.concatenate([[x[0] - shift, x[0] - shift], x[1:]])

    d2, ref2, r2 = split(d, math.log(2)), split(ref, math.log(2)), split(r, 0.0)
    close(bounds.coupling_gap(d, r, beta), bounds.coupling_gap(d2, r2, beta))
    close(bounds.reward_drop(d, ref, r, beta), bounds.reward_drop(d2, ref2, r2, beta), 10)
    close(bounds.kl_divergence(d, ref), bounds.kl_divergence(d2, ref2))
    c = 0.5 * (r.max() + bounds.expected_reward(d, r))
    close(bounds.price_of_reward(d, r, c), bounds.price_of_reward(d2, r2, c))


@given(laws, laws, values, betas, st.permutations(range(3)))
def test_permuting_responses_changes_nothing(d, ref, r, beta, order):
    i = list(order)
    close(bounds.coupling_gap(d, r, beta), bounds.coupling_gap(d[i], r[i], beta))
    close(bounds.reward_drop(d, ref, r, beta), bounds.reward_drop(d[i], ref[i], r[i], beta), 10)
    close(bounds.gibbs_tilt(ref, r, beta)[i], bounds.gibbs_tilt(ref[i], r[i], beta), 100)


@given(laws, laws, values, betas, st.integers(-1000, 1000))
def test_adding_a_constant_to_the_reward(d, ref, r, beta, constant):
    close(bounds.coupling_gap(d, r, beta), bounds.coupling_gap(d, r + constant, beta))
    close(bounds.gibbs_tilt(ref, r, beta), bounds.gibbs_tilt(ref, r + constant, beta), 100)
    moved = bounds.log_partition(ref, r + constant, beta)
    close(moved, bounds.log_partition(ref, r, beta) + constant / beta, 1e5)


@given(laws, laws, values, betas, st.sampled_from([0.125, 4.0, 1024.0]))
def test_scaling_reward_and_beta_together(d, ref, r, beta, factor):
    close(bounds.coupling_gap(d, r, beta), bounds.coupling_gap(d, factor * r, factor * beta))
    drop = bounds.reward_drop(d, ref, r, beta)
    close(factor * drop, bounds.reward_drop(d, ref, factor * r, factor * beta), 1e5)
    close(
        factor * bounds.cycle_loss(d, r, beta), bounds.cycle_loss(d, factor * r, factor * beta), 1e5
    )


@given(laws, laws, values, betas, st.floats(0.1, 0.9))
def test_merging_prompts_averages(d, e, r, beta, share):
    """Two prompts with law q as one law on pairs, the tilt normalised per prompt: averages add."""
    weight = np.log([share, 1 - share])
    joint = np.concatenate([weight[0] + d, weight[1] + e])
    tilts = [bounds.gibbs_tilt(x, r, beta) for x in (d, e)]
    merged = np.concatenate([weight[0] + tilts[0], weight[1] + tilts[1]])
    apart = np.exp(weight) @ [bounds.kl_divergence(d, tilts[0]), bounds.kl_divergence(e, tilts[1])]
    close(bounds.kl_divergence(joint, merged), apart)


@pytest.mark.parametrize("beta", [1e-6, 1e-12, 1e-150])
def test_a_tilt_of_tied_best_rewards_is_ref_among_them(beta):
    tilt = bounds.gibbs_tilt(np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 1.0]), beta)
    assert np.exp(tilt) == pytest.approx([0.0, 0.6, 0.4], rel=1e-15)
