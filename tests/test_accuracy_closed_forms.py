"""Every closed form in ``bounds`` stays within its derived error bound of the exact value.

The formula is evaluated three times: by ``bounds`` on float inputs, in Arb (the exact value at the
laws' exact normalisations), and in the running error analysis of ``roundoff``, which says how far
the two may be apart.
Functions that need a root are compared in ``test_accuracy.py`` and in the proofs.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from flint import arb as ball
from flint import ctx

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from nondecoupling.formulas import laws, logits, price, rl_then_sft, sft_then_rl, tilt
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.roundoff import ROUNDOFF, Bounded, law
from tests.public_functions import PUBLIC

LAWS = {"log_p", "log_q", "log_d", "log_ref", "log_tilt"}
POSITIVE = {"beta", "step", "kl", "z", "rate", "offset", "reward_gain", "excess"}
CASES = {
    "kl_divergence": (laws.kl_divergence, "log_p log_q"),
    "cross_entropy": (laws.cross_entropy, "log_d log_p"),
    "entropy": (laws.entropy, "log_p"),
    "log_partition": (tilt.log_partition, "log_ref reward beta"),
    "gibbs_tilt": (tilt.gibbs_tilt, "log_ref reward beta"),
    "expected_reward": (laws.expected_reward, "log_p reward"),
    "regularized_reward": (tilt.regularized_reward, "log_p log_ref reward beta"),
    "sft_loss_increase": (sft_then_rl.sft_loss_increase, "log_d log_ref reward beta"),
    "sft_loss_change": (sft_then_rl.sft_loss_change, "log_d log_ref log_p"),
    "sft_loss_gradient": (logits.sft_loss_gradient, "log_p log_d"),
    "reward_gradient": (logits.reward_gradient, "log_p reward"),
    "implicit_reward": (tilt.implicit_reward, "log_p log_ref beta"),
    "coupling_from_run": (sft_then_rl.coupling_from_run, "reward_gain kl beta"),
    "coupling_gap": (sft_then_rl.coupling_gap, "log_d reward beta"),
    "samples_to_detect": (sft_then_rl.samples_to_detect, "log_d reward beta z"),
    "regularized_reward_drop": (rl_then_sft.regularized_reward_drop, "log_p log_ref reward beta"),
    "reward_drop": (rl_then_sft.reward_drop, "log_p log_ref reward beta"),
    "cycle_loss": (rl_then_sft.cycle_loss, "log_d reward beta"),
    "sft_step_reward_slope": (rl_then_sft.sft_step_reward_slope, "log_p log_d reward"),
    "supporting_line": (price.supporting_line, "log_d reward rate offset"),
    "highest_reward": (price.highest_reward, "log_d reward excess"),
    "pl_sft_bound": (logits.pl_sft_bound, "log_d log_p"),
    "pl_reward_bound": (logits.pl_reward_bound, "log_p log_ref reward beta"),
    "logit_sandwich": (logits.logit_sandwich, "theta theta_prime"),
}
# First-order error bounds in units of the dtype; float32 is held to the float64 bound, rescaled.
UNITS = {np.float64: 1.0, np.float32: 2.0**29}


def draw(rng, name, n, dtype):
    if name in LAWS:
        logits = 10.0 ** rng.uniform(-1, 1.3) * rng.standard_normal(n)
        return (logits - np.logaddexp.reduce(logits)).astype(dtype)
    if name in POSITIVE:
        return np.array([10.0 ** rng.uniform(-2, 2)], dtype=dtype)
    return (10.0 ** rng.uniform(-2, 2) * rng.standard_normal(n)).astype(dtype)


def exactly(name, values):
    """Balls; a float law stands for the exactly normalised law next to it."""
    xp = arb()
    x = xp.array(values.astype(float))
    return x - laws.log_sum_exp(xp, x) if name in LAWS else x


def bounded(name, values):
    return law(values) if name in LAWS else Bounded(values.astype(float))


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def test_every_public_function_has_a_line_in_the_table_of_tolerances():
    promised = {*accuracy.RELATIVE, *accuracy.SIGNED, *accuracy.THROUGH_A_TILT, *accuracy.DERIVED}
    promised_elsewhere = {
        *accuracy.THROUGH_A_FRONTIER,
        *accuracy.OF_SUCCESS_RATES,
        *accuracy.SIGNED_ROOTS,
        *accuracy.SCHEDULES,
        *accuracy.TRAINERS,
    }
    assert set(PUBLIC) == promised | promised_elsewhere | {*accuracy.ROOTS, *accuracy.EXACT}
    assert promised - {"coupling_gap_bounds", "reward_drop_in_kl_ball"} == set(CASES)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_within_the_derived_error_bound(name, dtype):
    formula, names = CASES[name]
    rng = np.random.default_rng(0)
    saved, ctx.prec = ctx.prec, 400
    decided = 0
    try:
        for trial in range(40):
            n = 2 + trial % 5
            inputs = {k: draw(rng, k, n, dtype) for k in names.split()}
            public = {k: v[0] if k in POSITIVE else v for k, v in inputs.items()}
            got = as_tuple(getattr(bounds, name)(**public))
            exact = as_tuple(formula(arb(), **{k: exactly(k, v) for k, v in inputs.items()}))
            tracked = as_tuple(formula(ROUNDOFF, **{k: bounded(k, v) for k, v in inputs.items()}))
            for mine, true, bound in zip(got, exact, tracked, strict=True):
                allowed = UNITS[dtype] * np.broadcast_to(bound.error, np.shape(true)).ravel()
                for value, truth, error in zip(np.ravel(mine), true.ravel(), allowed, strict=True):
                    if not math.isfinite(error):
                        continue
                    decided += 1
                    distance = abs(float(ball(float(value)) - truth))
                    assert distance <= 2 * error + 1e-307, f"{name} {inputs}: off by {distance}"
    finally:
        ctx.prec = saved
    assert decided >= 30


def test_the_bounds_are_small_enough_to_mean_something():
    rng = np.random.default_rng(1)
    for name, (formula, names) in CASES.items():
        inputs = {k: bounded(k, draw(rng, k, 4, np.float64)) for k in names.split()}
        for result in as_tuple(formula(ROUNDOFF, **inputs)):
            size = np.abs(result.value).max() + sum(np.abs(v.value).max() for v in inputs.values())
            assert np.min(result.error) < 1e-10 * (1 + size) ** 2, name
