"""What ``bounds`` finds by a root or a spectrum, against the definitions in balls of 1000 bits.

An error is judged by what no algorithm can avoid: the largest change of the exact value when every input
number moves by one relative unit of roundoff. As many as ``accuracy.ROOTS`` says of these, and of the value's own
rounding, are allowed, in float64 and float32, over laws down to e^-300, offsets of 1e9 and rewards of 1e-3
to 1e6.
"""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest
from flint import arb

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from nondecoupling.formulas.trees import TokenTree
from tests import exact_definitions as exact_of
from tests.test_accuracy import exact_law

BITS = 1000
TREE = TokenTree(((0,), (1, 0), (1, 1, 0), (1, 1, 1)))

# name -> (arguments of bounds, the exact values). Laws come normalised, numbers as balls.
CASES = {
    "price_of_reward": ("log_d reward target", lambda d, r, c: [exact_of.best_dual(d, r, c)]),
    "approximate_price_of_reward": (
        "log_d reward target eps", lambda d, r, c, e: [exact_of.best_dual(d, r, c) - e],
    ),
    "price_of_policy": ("log_d log_p reward", lambda d, p, r: [exact_of.best_dual(d, r, exact_of.mean(p, r))]),
    "price_of_average_reward": (
        "log_d reward target", lambda *w: [exact_of.average_price(*w)],
    ),
    "frontier_rate": ("log_d reward target", lambda *w: [exact_of.average_rate(*w)]),
    "frontier_policy": ("log_d reward rate", lambda *w: exact_of.line_and_policy(*w)),
    "decoupling_threshold": (
        "log_ref reward beta", lambda *w: [exact_of.pinsker(*w), exact_of.radius(*w)],
    ),
    "best_early_stop": ("log_d log_ref reward", lambda *w: exact_of.early_stop(*w)),
    "reward_change_bounds": ("log_tilt reward kl", lambda *w: exact_of.change_bounds(*w)),
    "reward_change_extremes": ("log_tilt reward kl", lambda *w: exact_of.largest_changes(*w)),
    "joint_optimum": (
        "log_d log_ref reward beta weight", lambda *w: [x.log() for x in exact_of.joint(*w)],
    ),
    "joint_gap": ("log_p log_d log_ref reward beta weight", lambda *w: [exact_of.joint_gap(*w)]),
    "joint_path": (
        "log_d log_ref reward beta",
        lambda d, ref, r, beta: [x.log() for x in exact_of.joint(d, ref, r, beta, beta)],
    ),
    "joint_saving_bounds": (
        "log_d log_ref reward beta weight", lambda *w: exact_of.saving_bounds(*w),
    ),
    "rl_improves_sft_threshold": (
        "log_d log_p direction step", lambda *w: [exact_of.step_change(*w)],
    ),
    "optimal_rl_duration": ("log_d reward weight", lambda *w: [exact_of.duration(*w)]),
    "kernel_cosine": ("kernel u v", lambda *w: [exact_of.cosine(*w)]),
    "spectral_misalignment_bound": ("kernel u v k", lambda *w: [exact_of.spectral_bound(*w)]),
    "shared_prompt_loss_increase": (
        "log_sft log_rl log_d reward beta", lambda *w: [exact_of.loss_increase(*w)],
    ),
    "token_kl_divergence": ("log_p log_q tree", lambda *w: [exact_of.token_divergence(*w)]),
}  # fmt: skip
# Where the exact values belong to numbers that the function chose, they come as the last argument.
AT_FOUND = {
    "pareto_frontier": (
        "log_d reward", lambda d, r, found: exact_of.frontier_losses(d, r, found[1][1:-1]),
    ),
}  # fmt: skip
# Their exact values take seconds each.
OF_NESTED_ROOTS = {"price_of_average_reward", "frontier_rate", "pareto_frontier"}
PROMPTS = {"price_of_average_reward", "frontier_rate", "shared_prompt_loss_increase"}
# Places of the result that are compared with the exact values, in their order.
RESULTS = {
    "frontier_policy": lambda found: [found[1], *found[0]],
    "rl_improves_sft_threshold": lambda found: [found[0]],
    "optimal_rl_duration": lambda found: [found[0]],
    "pareto_frontier": lambda found: found[0][1:-1],
    "joint_path": lambda found: found[1],
}
OPTIONS = {"joint_path": {"points": 3}, "pareto_frontier": {"points": 6}}
# What else an error is relative to: one for log-probabilities, the terms of a difference that may cancel.
SIZES = {
    "frontier_policy": lambda given: (
        1 + float(given["rate"]) * float(np.abs(given["reward"]).max())
    ),
    "joint_optimum": lambda given: 1.0,
    "joint_path": lambda given: 1.0,
    # The entropy is of the law as given, whose mass is one within eps.
    "pareto_frontier": lambda given: 1.0,
    "rl_improves_sft_threshold": lambda given: (
        float(given["step"]) * float(np.ptp(given["direction"]))
    ),
}
LAWS = {"log_d", "log_ref", "log_p", "log_q", "log_tilt", "log_sft", "log_rl"}


def random_law(rng, n, dtype):
    logits = rng.choice([1.0, 10.0, 150.0 if dtype == np.float64 else 30.0]) * rng.uniform(-1, 0, n)
    return (logits - np.logaddexp.reduce(logits)).astype(dtype)


def random_inputs(rng, function, dtype):
    """Inputs of one call inside the domain of the root: targets between the data and the best reward."""
    names = {**CASES, **AT_FOUND}[function][0].split()
    n = len(TREE.sequences) if "tree" in names else int(rng.integers(2, 5))
    prompts = 2 if function in PROMPTS else 1
    offset = 0.0 if dtype == np.float32 or rng.random() < 0.7 else 1e9
    given = {}
    for name in names:
        if name in ("log_sft", "log_rl"):
            given[name] = random_law(rng, prompts, dtype)
        elif name in LAWS:
            given[name] = np.stack([random_law(rng, n, dtype) for _ in range(prompts)])
        elif name in ("reward", "direction", "u", "v"):
            scale = 10.0 ** rng.uniform(-3, 6 if offset == 0 else 3)
            shift = offset if name in ("reward", "direction") else 0.0
            given[name] = (shift + scale * rng.standard_normal((prompts, n))).astype(dtype)
        elif name == "kernel":
            root = (10.0 ** rng.uniform(-3, 3) * rng.standard_normal((n, n))).astype(dtype)
            given[name] = root @ root.T
        elif name == "k":
            given[name] = int(rng.integers(0, n + 1))
        elif name == "tree":
            given[name] = TREE
        else:
            given[name] = dtype(10.0 ** rng.uniform(-2, 2))
        if prompts == 1 and name != "kernel" and np.ndim(given[name]) == 2:
            given[name] = given[name][0]
    spread = float(np.ptp(given["reward"].astype(float))) if "reward" in given else 1.0
    if "target" in given:
        d, r = np.exp(given["log_d"].astype(float)), given["reward"].astype(float)
        low = float(np.mean((d * r).sum(-1) / d.sum(-1)))
        share = float(rng.choice([rng.uniform(), 10.0 ** rng.uniform(-4, 0)]))
        top = float(np.mean(r.max(-1)))
        given["target"] = dtype(low + (top - low) * rng.choice([share, 1 - share]))
    for name in ("beta", "weight", "kl", "rate", "step"):
        if name in given:
            factor = {"beta": spread, "weight": spread, "rate": 1 / spread}.get(name, 1.0)
            given[name] = dtype(given[name] * factor)
    return given


def exact(name, given, found):
    names, reference = {**CASES, **AT_FOUND}[name]
    arguments = []
    for key in names.split():
        value = given[key]
        if isinstance(value, TokenTree | int):
            arguments.append(value)
        elif key in LAWS and np.ndim(value) == 2:
            arguments.append([exact_law(row) for row in value])
        elif key in LAWS:
            arguments.append(exact_law(value))
        elif np.ndim(value) == 2:
            arguments.append([[arb(float(x)) for x in row] for row in value])
        elif np.ndim(value):
            arguments.append([arb(float(x)) for x in value])
        else:
            arguments.append(arb(float(value)))
    if name in AT_FOUND:
        arguments.append([[arb(float(x)) for x in part] for part in found])
    return reference(*arguments)


def moved(rng, given, eps):
    """Every number by a unit of its last place, up or down; a kernel stays symmetric."""
    near = {}
    for key, value in given.items():
        if isinstance(value, TokenTree | int):
            near[key] = value
            continue
        steps = rng.choice([-1, 1], np.shape(value))
        if key == "kernel":
            steps = np.sign(steps + steps.T + 0.5)
        near[key] = np.asarray(value, dtype=np.float64) * (1 + eps * steps)
    return near


def in_scope(name, given):
    """Where the exact value is the root of a condition, not an end that the docs name."""
    r = given.get("reward")
    if r is not None and np.ptp(r.astype(float)) < 1e3 * np.spacing(np.abs(r).max()):
        return False
    if "target" in given or name == "price_of_policy":
        d, r = np.exp(given["log_d"].astype(float)), r.astype(float)
        p = np.exp(given["log_p"].astype(float)) if "log_p" in given else d
        target = float(given["target"]) if "target" in given else float(p @ r / p.sum())
        low = float(np.mean((d * r).sum(-1) / d.sum(-1)))
        room = 1e3 * float(np.spacing(np.abs(given["reward"]).max()))
        return low + room < target < float(np.mean(r.max(-1))) - room
    if name == "pareto_frontier":
        d, room = np.exp(given["log_d"].astype(float)), float(np.spacing(np.abs(r).max()))
        return float(r.max() - d @ r.astype(float)) > 1e5 * room
    if name == "best_early_stop":
        p, q = (np.exp(given[k].astype(float)) for k in ("log_d", "log_ref"))
        s = r.astype(float) - r.astype(float).max()
        return bool(p @ s > q @ s * (1 - 1e-3)) and bool(-(p @ s) > 1e-250)
    if name == "reward_change_extremes":
        law = given["log_tilt"].astype(float)
        ends = law[[int(np.argmax(r)), int(np.argmin(r))]]
        return float(given["kl"]) < 0.9 * float((-ends).min())
    return True


def largest_error(name, dtype, trials, seed):
    """The largest error in units of what rounding of the inputs must cost, and how many were compared."""
    rng = np.random.default_rng(seed)
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    eps = float(np.finfo(dtype).eps)
    worst, compared = 0.0, 0
    try:
        for _ in range(trials):
            given = random_inputs(rng, name, dtype)
            if not in_scope(name, given):
                continue
            found = getattr(bounds, name)(**given, **OPTIONS.get(name, {}))
            chosen = RESULTS.get(name, lambda x: x if isinstance(x, tuple) else np.atleast_1d(x))
            wanted = exact(name, given, found)
            nearby = [exact(name, moved(rng, given, eps), found) for _ in range(3)]
            for k, (got, want) in enumerate(zip(chosen(found), wanted, strict=True)):
                if abs(want) < arb(float(np.finfo(dtype).tiny)) * 1e6:
                    continue
                assert want.rad() < 1e-3 * eps * abs(want), f"the reference is blurred: {want}"
                if abs(want) > arb(float(np.finfo(dtype).max)):
                    assert math.isinf(float(got)), f"{name}: {got} where {want}; {given}"
                    continue
                change = max(abs(float(near[k] - want)) for near in nearby)
                unit = change + eps * (abs(float(want)) + SIZES.get(name, lambda _: 0.0)(given))
                error = abs(float(arb(float(got)) - want))
                assert math.isfinite(error), f"{name}: {got} where {want}; {given}"
                compared += 1
                if error / unit > worst:
                    worst = error / unit
                    assert worst <= accuracy.ROOTS[name], (
                        f"{name}: {float(got)!r} against {float(want)!r}, {worst:.3g} units; {given}"
                    )
    finally:
        flint.ctx.prec = saved
    return worst, compared


def test_a_root_that_is_not_found_is_no_reference():
    with pytest.raises(ArithmeticError, match="not found in 9 steps"):
        exact_of.root(lambda x: (x - arb(1) / 3) ** 3, 0, 1, steps=9)
    found = exact_of.root(lambda x: (x - arb(1) / 3) ** 3, 0, 1)
    assert abs(found - arb(1) / 3) < arb(2) ** -40


def test_every_promise_of_a_root_is_measured():
    assert set(accuracy.ROOTS) == {*CASES, *AT_FOUND}


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [n for n in (*CASES, *AT_FOUND) if n not in OF_NESTED_ROOTS])
def test_some_worlds(name, dtype):
    _, compared = largest_error(name, dtype, trials=12, seed=0)
    assert compared >= 4


@pytest.mark.slow  # a minute and more
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", [*CASES, *AT_FOUND])
def test_many_worlds(name, dtype):
    trials = 30 if name in OF_NESTED_ROOTS else 200
    _, compared = largest_error(name, dtype, trials, seed=1)
    assert compared >= trials / 4
