"""T7: Best of n: what it costs, for any reward."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import (
    INF,
    chi_squared,
    cross_entropy,
    expectation,
    kl_by_definition,
    log_softmax,
    log_sum_exp,
)
from nondecoupling.formulas.levels import levels_by_comparison, log_one_plus_ratio
from nondecoupling.formulas.schedules import best_of_n, best_of_n_bounds
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Reward, Whole
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class BestOfN(Statement):
    """Best of n: what it costs, for any reward.

    Statement: pi_n is the law of the best of n draws from ref; of draws that tie, the first wins.
        KL(pi_n||ref) <= log n - (n-1)/n, and KL(ref||pi_n) <= n - 1 - log n, whatever the reward: from
        ref = d, SFT on the best of n raises the SFT loss by at most that. In general D_f(pi_n||ref) <=
        int_0^1 f(n u^{n-1}) du; chi2(pi_n||ref) <= (n-1)^2/(2n-1). Best of m of best of n is best of
        mn. Success: pi_n(A) = 1 - (1 - ref(A))^n for A = argmax r; for the binary reward 1_A best
        of n is a tilt of ref.

    Assumptions: ref has full support; r is not constant; n >= 1. A tie-break by a fixed order of the
        responses is best of n for a reward without ties, so the bounds hold for it too; the tilt
        does not: it wants the law within a level of the reward unchanged.

    Side: upper bounds and identities.

    Equality when: n = 1. For n > 1 never; both bounds are approached by many responses of
        vanishing probability and distinct rewards.

    Units: nats per response.

    Source: the bound on KL(pi_n||ref): Beirami et al. 2024. The rest is ours in this form.

    Proof idea: with U uniform and y the quantile of U in the order of the rewards, pi_n/ref is the mean
        of n U^{n-1} given y; Jensen for the convex f.

    Example:
    >>> from nondecoupling.bounds import best_of_n_policy
    >>> import numpy as np
    >>> np.exp(best_of_n_policy(np.log([0.5, 0.25, 0.25]), np.array([0.0, 1.0, 1.0]), 2)).round(6).tolist()
    [0.25, 0.375, 0.375]
    """

    id = "T7"
    title = "Best of n: what it costs, for any reward"
    depends = ("F1",)
    world = dict(
        log_law=Law(), log_ref=Law(full_support=True), reward=Reward(), draws=Whole(), again=Whole()
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        best = best_of(xp, w.log_ref, w.reward, w.draws)
        to_ref, from_ref = best_of_n_bounds(xp, w.draws)
        yield Claim("KL to ref", kl_by_definition(xp, best, w.log_ref), "<=", to_ref)
        yield Claim("KL from ref", kl_by_definition(xp, w.log_ref, best), "<=", from_ref)
        spread = xp.square(w.draws - 1) / (2 * w.draws - 1)
        yield Claim("chi-squared", chi_squared(xp, best, w.log_ref), "<=", spread)
        # Two policies are the same iff every law has the same loss on both.
        twice = cross_entropy(xp, w.log_law, best_of(xp, best, w.reward, w.again))
        at_once = best_of(xp, w.log_ref, w.reward, w.draws * w.again)
        yield Claim("best of best", twice, "==", cross_entropy(xp, w.log_law, at_once))
        solved = is_best(xp, w.reward)
        succeeds = log_sum_exp(xp, xp.where(solved > 0, w.log_ref, -INF))
        others = log_sum_exp(xp, xp.where(solved > 0, -INF, w.log_ref))
        fails = -log_one_plus_ratio(xp, succeeds, others)
        log_failure = w.draws * fails
        now = expectation(xp, best, solved)
        yield Claim("success", now, "==", -xp.expm1(log_failure))
        binary = best_of(xp, w.log_ref, solved, w.draws)
        rise = xp.log(-xp.expm1(log_failure)) - log_failure - succeeds + fails
        tilt = log_softmax(xp, w.log_ref + rise * solved)
        lhs, rhs = (cross_entropy(xp, w.log_law, p) for p in (binary, tilt))
        yield Claim("a tilt for binary rewards", lhs, "==", rhs)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = xp.max(w.reward) - xp.min(w.reward)
        yield Claim("the reward is not constant", spread, ">", xp.full_like(spread, 0.0))


def best_of(xp: NumberSystem, log_ref: Array, reward: Array, draws: Array) -> Array:
    """log of the law of the best of ``draws`` draws."""
    return best_of_n(xp, log_ref, draws, levels_by_comparison(xp, log_ref, reward))


def is_best(xp: NumberSystem, reward: Array) -> Array:
    """One on argmax r, zero elsewhere."""
    return xp.where(reward < xp.max(reward), 0.0, xp.full_like(reward, 1.0))
