"""Verifiable rewards (V1): a response is correct or not, so the tilt is one number.

``correct`` is one on the event A of correct responses and zero elsewhere; both occur.
"""

from __future__ import annotations

from nondecoupling.formulas.laws import INF, expectation
from nondecoupling.numbers.number_system import Array, Mask, NumberSystem


def log_odds(xp: NumberSystem, log_p: Array, correct: Array) -> Array:
    """logit p(A) = log p(A) - log p(A^c), each mass summed by itself."""
    right, wrong = (expectation(xp, log_p, event) for event in (correct, 1 - correct))
    return xp.log(right) - xp.log(wrong)


def log_given(xp: NumberSystem, log_p: Array, event: Mask) -> Array:
    """log p(. | event); the event has mass."""
    mass = xp.sum(xp.where(event, xp.exp(log_p), 0.0))
    return xp.where(event, log_p - xp.log(mass), -INF)


def two_outcome_kl(
    xp: NumberSystem, right: Array, wrong: Array, ref_right: Array, ref_wrong: Array
) -> Array:
    """kl(p(A), q(A)) by definition, from both masses of both laws."""
    return right * xp.log(right / ref_right) + wrong * xp.log(wrong / ref_wrong)


def odds_rise(
    xp: NumberSystem, right: Array, still_wrong: Array, rise: Array
) -> tuple[Array, Array]:
    """V1: log c/a and log (1-a)/(1-c) from a, 1 - c and the rise c - a: none of them cancels."""
    return xp.log1p(rise / right), xp.log1p(rise / still_wrong)


def verifiable_beta(xp: NumberSystem, right: Array, still_wrong: Array, rise: Array) -> Array:
    """V1: the beta whose tilt has success c, 1/(logit c - logit a); arguments a, 1 - c, c - a."""
    more_right, less_wrong = odds_rise(xp, right, still_wrong, rise)
    return 1 / (more_right + less_wrong)


def verifiable_cost(
    xp: NumberSystem, right: Array, wrong: Array, still_wrong: Array, rise: Array
) -> Array:
    """V1: kl(a, c) for c > a as a sum of two excesses; arguments a, 1 - a, 1 - c, c - a."""
    more_right, less_wrong = odds_rise(xp, right, still_wrong, rise)
    return xp.excess(xp.log(right), more_right) + xp.excess(xp.log(wrong), -less_wrong)


def one_wrong_response_on_the_path(
    xp: NumberSystem, log_inside: Array, ref_success: Array, drive: Array
) -> tuple[Array, Array]:
    """V1: (p on A, p(A^c)) where policy gradient without a leash passes, if one response is wrong.

    The path is p prop. to 1/(1/ref + sigma - tau r) with prod (1 + ref (sigma - tau r)) = 1. On A,
    ref = a inside, and ``drive`` = a (tau - sigma) in (0, 1) is the parameter; the wrong response's
    factor is what makes the product one.
    """
    inside = xp.exp(log_inside)
    right = ref_success * inside / (1 - drive * inside)
    wrong = (1 - ref_success) * xp.exp(xp.sum(xp.log1p(-drive * inside)))
    total = xp.sum(right) + wrong
    return right / total, wrong / total
