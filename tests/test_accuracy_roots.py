"""What ``bounds`` finds by a root or a spectrum, against the definitions in balls of 1000 bits.

An error is judged by what no algorithm can avoid: the largest change of the exact value when every input
number moves by one relative unit of roundoff. ``accuracy.ROOT_UNITS`` of these, and of the value's own
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
from tests.test_accuracy import best_dual, exact_law, mean, total

BITS = 1000


def root(increasing, low, high):
    """The root of an increasing function in [low, high], by regula falsi with bisection."""
    low, high = arb(low), arb(high)
    at_low, at_high = increasing(low), increasing(high)
    for step in range(400):
        if at_low >= 0:
            return low
        if at_high <= 0:
            return high
        middle = (low + high) / 2
        if step % 3 and at_low.is_finite() and at_high.is_finite():
            middle = high - at_high * (high - low) / (at_high - at_low)
        middle = arb(middle.mid())
        value = increasing(middle)
        if value > 0:
            high, at_high = middle, value
        elif value < 0:
            low, at_low = middle, value
        else:
            return middle
        if abs(high - low) <= abs(high) * arb(2) ** -400:
            break
    return middle


def kl(p, q):
    return mean(
        p, [a.log() - b.log() if not a.is_zero() else arb(0) for a, b in zip(p, q, strict=True)]
    )


def ce(d, p):
    return -mean(d, [x.log() if not m.is_zero() else arb(0) for m, x in zip(d, p, strict=True)])


def tilt(ref, r, time):
    top = max(r, key=float)
    weights = [m * (time * (x - top)).exp() for m, x in zip(ref, r, strict=True)]
    return [w / total(weights) for w in weights]


def log_z(ref, r, time):
    top = max(r, key=float)
    return (
        total(m * (time * (x - top)).exp() for m, x in zip(ref, r, strict=True)).log() + time * top
    )


def frontier(d, r, rate):
    """(p, h, offset) from the condition that d/(offset + rate (M - r)) sums to one."""
    top = max(r, key=float)
    rooms = [rate * (top - x) for x in r]
    on_top = total(m for m, room in zip(d, rooms, strict=True) if room.is_zero())
    at_zero = total(m / room for m, room in zip(d, rooms, strict=True) if not room.is_zero())
    if on_top.is_zero() and at_zero <= 1:
        best = [room.is_zero() for room in rooms]
        share = (1 - at_zero) / sum(best)
        p = [share if b else m / room for b, m, room in zip(best, d, rooms, strict=True)]
        h = (
            1
            + total(m * x.log() for m, x in zip(d, rooms, strict=True) if not m.is_zero())
            - rate * top
        )
        return p, h, arb(0)

    def missing(log_t):
        return 1 - total(m / (log_t.exp() + room) for m, room in zip(d, rooms, strict=True))

    t = root(missing, on_top.log() if not on_top.is_zero() else arb(-2000), arb(0)).exp()
    b = [t + room for room in rooms]
    h = 1 + mean(d, [x.log() if not m.is_zero() else arb(0) for m, x in zip(d, b, strict=True)]) - t
    return [m / x for m, x in zip(d, b, strict=True)], h - rate * top, t


def average_rate(laws, rewards, target):
    def beyond(log_rate):
        rate = log_rate.exp()
        reached = [mean(frontier(d, r, rate)[0], r) for d, r in zip(laws, rewards, strict=True)]
        return total(reached) / len(laws) - target

    return root(beyond, arb(-60), arb(60)).exp()


def average_price(laws, rewards, target):
    rate = average_rate(laws, rewards, target)
    lines = [frontier(d, r, rate)[1] for d, r in zip(laws, rewards, strict=True)]
    return rate * target + total(lines) / len(laws)


def radius(ref, r, beta):
    level = beta * log_z(ref, r, 1 / beta)
    time = root(lambda t: mean(tilt(ref, r, t), r) - level, arb(0), 1 / beta)
    return kl(tilt(ref, r, time), ref)


def pinsker(ref, r, beta):
    spread = max(r, key=float) - min(r, key=float)
    return 2 * (beta * kl(ref, tilt(ref, r, 1 / beta)) / spread) ** 2


def early_stop(d, ref, r):
    goal = mean(d, r)
    late = 1 / (max(r, key=float) - min(r, key=float))
    while mean(tilt(ref, r, late), r) < goal:
        late *= 2
    return root(lambda t: mean(tilt(ref, r, t), r) - goal, arb(0), late)


def largest_rise(law, r, divergence):
    spread = max(r, key=float) - min(r, key=float)
    time = root(lambda t: kl(tilt(law, r, t), law) - divergence, arb(0), 10_000 / spread)
    return mean(tilt(law, r, time), r) - mean(law, r)


def joint(d, ref, r, beta, weight):
    """The maximiser of J_b - weight CE(d, .): beta log(p/ref) + beta - weight d/p = r - mu, p sums to one."""
    soft = beta * log_z(ref, r, 1 / beta)

    def policy(offset):
        p = []
        for m, q, x in zip(d, ref, r, strict=True):
            base = q * ((x - soft) / beta - offset).exp()
            if m.is_zero():
                p.append(base)
                continue
            u = (weight * m / (beta * base)).lambertw()
            p.append(weight * m / (beta * u))
        return p

    offset = root(lambda x: 1 - total(policy(x)), arb(0), weight / beta)
    return policy(offset)


def objective(p, d, ref, r, beta, weight):
    return mean(p, r) - beta * kl(p, ref) - weight * ce(d, p)


def joint_gap(p, d, ref, r, beta, weight):
    best = joint(d, ref, r, beta, weight)
    return objective(best, d, ref, r, beta, weight) - objective(p, d, ref, r, beta, weight)


def step_change(d, p, g, step):
    return ce(d, tilt(p, g, step)) - ce(d, p)


def duration(d, r, weight, near):
    """The stationary point of U next to a float."""

    def falling(s):
        p = tilt(d, r, s)
        m = mean(p, r)
        variance = mean(p, [(x - m) ** 2 for x in r])
        return weight * (m - mean(d, r)) - variance

    return root(falling, near * (1 - arb("0.001")), near * (1 + arb("0.001")))


# name -> (arguments of bounds, the exact values). Laws come normalised, numbers as balls.
CASES = {
    "price_of_reward": ("log_d reward target", lambda d, r, c: [best_dual(d, r, c)]),
    "approximate_price_of_reward": (
        "log_d reward target eps", lambda d, r, c, e: [best_dual(d, r, c) - e],
    ),
    "frontier_policy": (
        "log_d reward rate",
        lambda d, r, rate: [frontier(d, r, rate)[1], *(x.log() for x in frontier(d, r, rate)[0])],
    ),
    "decoupling_threshold": (
        "log_ref reward beta", lambda ref, r, beta: [pinsker(ref, r, beta), radius(ref, r, beta)],
    ),
    "best_early_stop": (
        "log_d log_ref reward",
        lambda d, ref, r: [early_stop(d, ref, r), -kl(tilt(ref, r, early_stop(d, ref, r)), ref)],
    ),
    "reward_change_extremes": (
        "log_tilt reward kl",
        lambda law, r, a: [-largest_rise(law, [-x for x in r], a), largest_rise(law, r, a)],
    ),
    "joint_optimum": (
        "log_d log_ref reward beta weight", lambda *w: [x.log() for x in joint(*w)],
    ),
    "joint_gap": ("log_p log_d log_ref reward beta weight", lambda *w: [joint_gap(*w)]),
    "rl_improves_sft_threshold": ("log_d log_p direction step", lambda *w: [step_change(*w)]),
}  # fmt: skip
# Places of the result that are compared with the exact values, in their order.
RESULTS = {
    "frontier_policy": lambda found: [found[1], *found[0]],
    "rl_improves_sft_threshold": lambda found: [found[0]],
}
# What else an error is relative to: one for log-probabilities, the terms of a difference that may cancel.
SIZES = {
    "frontier_policy": lambda given: (
        1 + float(given["rate"]) * float(np.abs(given["reward"]).max())
    ),
    "joint_optimum": lambda given: 1.0,
    "rl_improves_sft_threshold": lambda given: (
        float(given["step"]) * float(np.ptp(given["direction"]))
    ),
}
LAWS = {"log_d", "log_ref", "log_p", "log_tilt"}


def random_law(rng, n, dtype):
    logits = rng.choice([1.0, 10.0, 150.0 if dtype == np.float64 else 30.0]) * rng.uniform(-1, 0, n)
    return (logits - np.logaddexp.reduce(logits)).astype(dtype)


def random_inputs(rng, names, dtype):
    """Inputs of one call inside the domain of the root: targets between the data and the best reward."""
    n = int(rng.integers(2, 5))
    offset = 0.0 if dtype == np.float32 or rng.random() < 0.7 else 1e9
    given = {}
    for name in names:
        if name in LAWS:
            given[name] = random_law(rng, n, dtype)
        elif name in ("reward", "direction"):
            scale = 10.0 ** rng.uniform(-3, 6 if offset == 0 else 3)
            given[name] = (offset + scale * rng.standard_normal(n)).astype(dtype)
        else:
            given[name] = dtype(10.0 ** rng.uniform(-2, 2))
    spread = float(np.ptp(given["reward"].astype(float))) if "reward" in given else 1.0
    if "target" in given:
        d, r = np.exp(given["log_d"].astype(float)), given["reward"].astype(float)
        low = float(d @ r / d.sum())
        share = float(rng.choice([rng.uniform(), 10.0 ** rng.uniform(-4, 0)]))
        given["target"] = dtype(low + (r.max() - low) * rng.choice([share, 1 - share]))
    for name in ("beta", "weight", "kl", "rate", "step"):
        if name in given:
            factor = {"beta": spread, "weight": spread, "rate": 1 / spread}.get(name, 1.0)
            given[name] = dtype(given[name] * factor)
    return given


def exact(name, given):
    names, reference = CASES[name]
    arguments = []
    for key in names.split():
        value = given[key]
        if key in LAWS:
            arguments.append(exact_law(value))
        elif np.ndim(value):
            arguments.append([arb(float(x)) for x in value])
        else:
            arguments.append(arb(float(value)))
    return reference(*arguments)


def moved(rng, given, eps):
    """Every number by a unit of its last place, up or down."""
    return {
        key: np.asarray(value, dtype=np.float64) * (1 + eps * rng.choice([-1, 1], np.shape(value)))
        for key, value in given.items()
    }


def in_scope(name, given):
    """Where the exact value is the root of a condition, not an end that the docs name."""
    r = given.get("reward")
    if r is not None and np.ptp(r.astype(float)) < 1e3 * np.spacing(np.abs(r).max()):
        return False
    if name in ("price_of_reward", "approximate_price_of_reward"):
        d = np.exp(given["log_d"].astype(float))
        low, top = float(d @ r.astype(float) / d.sum()), float(r.max())
        room = 1e3 * float(np.spacing(np.abs(r).max()))
        return low + room < float(given["target"]) < top - room
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
            given = random_inputs(rng, CASES[name][0].split(), dtype)
            if not in_scope(name, given):
                continue
            found = getattr(bounds, name)(**given)
            found = RESULTS.get(name, lambda x: x if isinstance(x, tuple) else np.atleast_1d(x))(
                found
            )
            wanted = exact(name, given)
            nearby = [exact(name, moved(rng, given, eps)) for _ in range(3)]
            for k, (got, want) in enumerate(zip(found, wanted, strict=True)):
                if abs(want) < arb(float(np.finfo(dtype).tiny)) * 1e6:
                    continue
                assert want.rad() < 1e-3 * eps * abs(want), f"the reference is blurred: {want}"
                change = max(abs(float(near[k] - want)) for near in nearby)
                unit = change + eps * (abs(float(want)) + SIZES.get(name, lambda _: 0.0)(given))
                error = abs(float(arb(float(got)) - want))
                assert math.isfinite(error), f"{name}: {got} where {want}; {given}"
                compared += 1
                if error / unit > worst:
                    worst = error / unit
                    assert worst <= accuracy.ROOT_UNITS, (
                        f"{name}: {float(got)!r} against {float(want)!r}, {worst:.3g} units; {given}"
                    )
    finally:
        flint.ctx.prec = saved
    return worst, compared


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_some_worlds(name, dtype):
    _, compared = largest_error(name, dtype, trials=12, seed=0)
    assert compared >= 8


@pytest.mark.slow  # a minute and more
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_many_worlds(name, dtype):
    _, compared = largest_error(name, dtype, trials=200, seed=1)
    assert compared >= 100
