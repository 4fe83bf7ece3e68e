"""``verifiable_beta`` and ``verifiable_cost`` against Arb at the float success rates given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flint import arb

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from tests.test_accuracy import certain

NEAR_ONE = {np.float64: (1e-15, 3e-16), np.float32: (1e-6, 1.2e-7)}


def pairs(dtype):
    """(ref_success, target) far apart and close, near 0, near 1, and across the whole range."""
    rng, eps = np.random.default_rng(0), float(np.finfo(dtype).eps)
    ends = [1 - gap for gap in NEAR_ONE[dtype]]
    starts = [1e-30, 1e-6, 0.01, 0.3, 0.5, 0.9, *ends]
    for a in [*starts, *rng.uniform(0, 1, 20)]:
        for c in [
            a * (1 + 2 * eps),
            a * 1.0001,
            a * 1.5,
            a + (1 - a) / 3,
            a + (1 - a) * (1 - 1e-6),
            *ends,
        ]:
            a, c = dtype(a), dtype(c)
            if 0 < a < c < 1:
                yield a, c
    for a in (np.finfo(dtype).tiny, dtype(1e-37)):
        for c in (2 * a, dtype(0.5), dtype(ends[0])):
            yield dtype(a), dtype(c)


def exact_time(a, c):
    a, c = arb(float(a)), arb(float(c))
    return (c / (1 - c)).log() - (a / (1 - a)).log()


def exact_cost(a, c):
    a, c = arb(float(a)), arb(float(c))
    return a * (a / c).log() + (1 - a) * ((1 - a) / (1 - c)).log()


def check_pair(name, got, want, dtype, context):
    want = float(want)
    allowed = accuracy.RELATIVE_UNITS * float(np.finfo(dtype).eps) * want + float(
        np.finfo(dtype).tiny
    )
    assert abs(float(got) - want) <= allowed, f"{name}: {got} against {want}; {context}"


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_relative_accuracy(dtype, library):
    lift = torch.tensor if library == "torch" else np.asarray
    cases = list(pairs(dtype))
    assert len(cases) > 100
    a, c = (lift(np.array(column, dtype=dtype)) for column in zip(*cases, strict=True))
    beta, cost = bounds.verifiable_beta(a, c), bounds.verifiable_cost(a, c)
    for k, (x, y) in enumerate(cases):
        context = f"ref_success={x!r}, target={y!r}"
        time = certain(lambda x=x, y=y: exact_time(x, y))
        check_pair("verifiable_beta", beta[k], 1 / time, dtype, context)
        want = certain(lambda x=x, y=y: exact_cost(x, y))
        check_pair("verifiable_cost", cost[k], want, dtype, context)


def test_the_check_refuses_the_plain_formulas():
    """Differences of logits, and kl by definition, lose the digits of rates close to each other."""
    a, c = 0.3, 0.3 * (1 + 1e-9)
    plain_time = math.log(c / (1 - c)) - math.log(a / (1 - a))
    with pytest.raises(AssertionError, match="verifiable_beta"):
        check_pair("verifiable_beta", 1 / plain_time, 1 / exact_time(a, c), np.float64, "")
    plain = a * math.log(a / c) + (1 - a) * math.log((1 - a) / (1 - c))
    with pytest.raises(AssertionError, match="verifiable_cost"):
        check_pair("verifiable_cost", plain, certain(lambda: exact_cost(a, c)), np.float64, "")
