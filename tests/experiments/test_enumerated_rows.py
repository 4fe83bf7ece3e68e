"""Both sides of every inequality of a run, against the statements' definitions: no row is weaker than its statement.

Here laws are probabilities, [prompts, responses], and every quantity is a plain sum.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from validate.enumerated.checks import checks_of
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.facts import embedded_task
from validate.enumerated.means import PromptMeans

from nondecoupling.deciding.verdict import Status

TASK = embedded_task(4)
BETA, WEIGHT, REWARD = 0.2, 0.05, TASK.reward
# Prompts whose rewards have different ranges.
REWARD = REWARD * np.array([[1.0], [0.5], [1.0], [0.25]])
MEAN = PromptMeans(TASK.log_d, REWARD, BETA, WEIGHT)
D = np.exp(TASK.log_d)


def expected(p, values):
    return (p * values).sum(axis=1).mean()


def loss(d, p):
    return expected(d, -np.log(np.where(d > 0, p, 1.0)))


def divergence(p, q):
    return loss(p, q) - loss(p, p)


def tilted(ref):
    weights = ref * np.exp(REWARD / BETA)
    return weights / weights.sum(axis=1, keepdims=True)


def regularized(p, ref):
    return expected(p, REWARD) - BETA * divergence(p, ref)


def price(d, p):
    """E_q max over l of E_d log(1 - l (r - c)/(M - c)), c = J(p); 0 for rewards that d has already."""

    def of_prompt(d, p, r):
        top, c = r.max(), p @ r
        if c <= d @ r:
            return 0.0

        def dual(share):
            return -(d * np.log1p(-share * (r - c) / (top - c)))[d > 0].sum()

        options = {"xatol": 1e-12}
        return -minimize_scalar(dual, bounds=(0, 1 - 1e-9), method="bounded", options=options).fun

    return np.mean([of_prompt(*row) for row in zip(d, p, REWARD, strict=True)])


def gap_bounds(d):
    """S3's two values, from mean, variance and range on the support."""
    found = []
    for law, reward in zip(d, REWARD, strict=True):
        x = ((reward - law @ reward) / BETA)[law > 0]
        v, a, b = law[law > 0] @ x**2, -x.min(), x.max()
        lower = np.log((a**2 * np.exp(v / a) + v * np.exp(-a)) / (a**2 + v))
        upper = np.log((b**2 * np.exp(-v / b) + v * np.exp(b)) / (b**2 + v))
        found.append((lower, upper))
    return np.mean(found, axis=0)


def chi_squared(d, p):
    return (d**2 / p).sum(axis=1) - 1


def inequalities(ref, p, after):
    """(statement, words of the claim, place) -> lhs, rhs and whether the assumption holds."""
    tilt, joint = tilted(ref), np.exp(MEAN.joint_optimum(np.log(ref)))
    width = np.ptp(REWARD, axis=1).max()
    eps = divergence(D, ref)
    gap = np.log((ref * np.exp(REWARD / BETA)).sum(axis=1)).mean() - expected(ref, REWARD) / BETA
    moved = divergence(ref, tilt)
    near = gap - width / BETA * np.sqrt(eps / 2)
    radius = 2 * (BETA * moved / width) ** 2
    rise = loss(D, tilt) - loss(D, ref)
    at = "tilt of sft 1"
    found = {
        ("S5", "CE(d,p) - H(d)", "sft 1"): (divergence(D, ref), price(D, ref), True),
        ("S2", "near SFT", at): (rise, near, eps < 1e-2),
        ("S6", "below the threshold", at): (rise, 0.0, eps < radius),
    }
    for place, d in (("data law", D), (at, ref)):
        rises, (lower, upper) = loss(d, tilted(d)) - loss(d, d), gap_bounds(d)
        found["S2", "RL to its optimum", place] = (rises, 0.0, True)
        found["S3", "DeltaL(tilt) >= lower", place] = (rises, lower, True)
        found["S3", "upper bound >=", place] = (upper, rises, True)
    saved, cost = (
        loss(D, tilt) - loss(D, joint),
        regularized(tilt, ref) - regularized(joint, ref),
    )
    largest = (D / joint).max(axis=1)
    least = (WEIGHT * chi_squared(D, joint) / (BETA + WEIGHT * largest)).mean()
    most = (WEIGHT / BETA * chi_squared(D, tilt)).mean()
    at = "joint optimum of sft 1"
    found["J3", "CE(d,joint) >= lower", at] = (saved, least, True)
    found["J3", "(lambda/beta) chi2(d||tilt) >= CE", at] = (most, saved, True)
    found["J3", "J_b(joint) >= lambda/2", at] = (cost, WEIGHT / 2 * least, True)
    found["J3", "lambda/2 (lambda/beta)", at] = (WEIGHT / 2 * most, cost, True)
    for at, law in (("rl 1", p), ("sft-again 1", after)):
        change = loss(D, law) - loss(D, ref)
        ceiling = expected(D, REWARD) + width * np.sqrt((eps + change) / 2)
        drop = expected(tilt, REWARD) - expected(law, REWARD)
        found["S7", "DeltaL(p) >= K_inf", at] = (change, price(D, law) - eps, True)
        found["S7", "J(d) + R sqrt", at] = (ceiling, expected(law, REWARD), True)
        found["S5", "d := ref", at] = (divergence(ref, law), price(ref, law), True)
        found["J2", "lambda (CE(d,p)", at] = (
            WEIGHT * (loss(D, law) - loss(D, joint)),
            regularized(law, ref) - regularized(joint, ref),
            True,
        )
        inside = divergence(law, ref) <= divergence(tilt, ref)
        found["R3", "inside the KL ball", at] = (drop, BETA * divergence(law, tilt), inside)
    far, near = divergence(after, tilt), divergence(p, tilt)
    outward = divergence(after, ref) - divergence(p, ref)
    fell = regularized(p, ref) - regularized(after, ref)
    found["R8", "lowered J_b", "sft-again 1"] = (fell, 0.0, far > near)
    fell = expected(p, REWARD) - expected(after, REWARD)
    found["R8", "lowered the raw reward", "sft-again 1"] = (fell, 0.0, far - near > outward)
    return found


def laws(kind):
    """ref, the result of RL and that of SFT after it: near what they should be, or anything."""
    rng = np.random.default_rng(3)
    if kind == "anything":
        return rng.dirichlet(np.full(REWARD.shape[1], 0.5), size=(3, len(REWARD))) * 0.99 + 1e-3
    ref = 0.9999 * D + 1e-4 / D.shape[1]
    tilt = tilted(ref)
    p, after = 0.9 * tilt + 0.1 * ref, 0.99 * D + 0.01 / D.shape[1]
    return (ref, after, p) if kind == "towards the tilt" else (ref, p, after)


@pytest.mark.parametrize("kind", ["typical", "towards the tilt", "anything"])
def test_both_sides_of_each_inequality_are_those_of_its_statement(kind):
    ref, p, after = (law / law.sum(axis=1, keepdims=True) for law in laws(kind))
    episode = Episode(
        MEAN,
        [Checkpoint("sft", 1, np.log(ref))],
        [Checkpoint("rl", 1, np.log(p))],
        [Checkpoint("sft-again", 1, np.log(after))],
    )
    rows = [row for row in checks_of(MEAN, [episode]) if row.relation == ">="]
    wanted = inequalities(ref, p, after)
    for (statement, words, place), (lhs, rhs, in_scope) in wanted.items():
        (row,) = [
            r for r in rows if (r.statement, r.place) == (statement, place) and words in r.claim
        ]
        assert row.lhs == pytest.approx(lhs, rel=1e-6, abs=1e-9), f"{statement} {words} {place}"
        assert row.rhs == pytest.approx(rhs, rel=1e-6, abs=1e-9), f"{statement} {words} {place}"
        assert (row.status is not Status.OUT_OF_SCOPE) == in_scope, f"{statement} {words} {place}"
    assert len(rows) == len(wanted)
