"""T9: Weighted SFT: where each weight ends."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import (
    cross_entropy,
    entropy,
    expectation,
    expected_reward,
    kl_by_definition,
    kl_divergence,
    log_softmax,
    log_sum_exp,
)
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.schedules import sharpened
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class WeightedSft(Statement):
    """Weighted SFT: where each weight ends.

    Statement: SFT with the weight p^a, held fixed, has the gradient of -E_d[p^a]/a. For a < 1, a != 0,
        q = 1/(1-a), the only optimum is d^q/sum d^q, the tilt of d by log d at time q - 1 = a/(1-a); it
        costs log sum d^q + (q - 1) H(d). a = 1 is policy gradient on E_p d and a > 1 ends at one response,
        which the start decides. SFT with a weight w(y) of the response ends at d w/E_d w: for w =
        beta/(mu - r) that is S5's frontier policy, for w = e^{r/beta} the tilt. Data with a share v of
        its own successes, (1-v) d + v d_A, is the tilt of d for the reward 1_A with 1/beta =
        logit((1-v) a + v) - logit a, a = d(A): so success c needs v = (c - a)/(1 - a).

    Assumptions: d has full support; r is not constant; A = argmax r; the weights are exact.

    Side: identities and a lower bound.

    Equality when: identities always; the bound iff p = d^q/sum d^q.

    Units: nats per response.

    Source: ours in this form; a = 1 is dynamic fine-tuning, e^{r/beta} advantage-weighted regression.

    Proof idea: with x = p/p*, d p^a is sum(d^q)^{1-a} p* x^a, and x^a has the tangent 1 + a (x - 1).

    Example:
    >>> from nondecoupling.bounds import weighted_sft_optimum
    >>> import numpy as np
    >>> np.exp(weighted_sft_optimum(np.log([0.6, 0.4]), 0.5)).round(4).tolist()
    [0.6923, 0.3077]
    """

    id = "T9"
    title = "Weighted SFT: where each weight ends"
    depends = ("F1", "S5")
    world = dict(
        log_law=Law(),
        log_d=Law(full_support=True),
        log_p=Law(full_support=True),
        reward=Reward(),
        sharpness=Positive(),
        beta=Positive(),
        room=Positive(),
        share=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        yield from _weight_of_the_policy(xp, w)
        yield from _weight_of_the_response(xp, w)
        yield from _filtered(xp, w)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = xp.max(w.reward) - xp.min(w.reward)
        yield Claim("the reward is not constant", spread, ">", xp.full_like(spread, 0.0))
        power = xp.square(1 - 1 / w.sharpness)
        yield Claim("the power is not zero", power, ">", xp.full_like(power, 0.0))


def _weight_of_the_policy(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
    power = 1 - 1 / w.sharpness
    best = sharpened(xp, w.log_d, w.sharpness)
    log_unit = log_sum_exp(xp, w.sharpness * w.log_d) / w.sharpness

    def pull(log_p: Array) -> Array:
        """d p^a, with which SFT pulls each logit up, in units of (sum d^q)^{1-a}."""
        return xp.exp(w.log_d + power * log_p - log_unit)

    gap = (xp.sum(pull(best)) - xp.sum(pull(w.log_p))) / power
    ratio = w.log_p - best
    terms = xp.exp(best) * (1 + power * xp.expm1(ratio) - xp.exp(power * ratio))
    yield Claim("what every policy misses", gap, "==", xp.sum(terms) / power)
    # Both sides positive, whatever the sign of the power: (sum d p*^a / sum d p^a)^{1/a} >= 1.
    advance = (xp.log(xp.sum(pull(best))) - xp.log(xp.sum(pull(w.log_p)))) / power
    yield Claim("the only optimum", xp.exp(advance), ">=", xp.full_like(gap, 1.0))
    force = pull(best) - xp.exp(best) * xp.sum(pull(best))
    still = xp.sum(xp.square(force))
    yield Claim("the optimum is stationary", still, "==", xp.full_like(still, 0.0))
    cost = log_sum_exp(xp, w.sharpness * w.log_d) + (w.sharpness - 1) * entropy(xp, w.log_d)
    yield Claim("its cost", kl_by_definition(xp, w.log_d, best), "==", cost)


def _weight_of_the_response(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
    # mu = M + room; beta is what makes the mean weight one.
    mu = xp.max(w.reward) + w.room
    log_beta = -log_sum_exp(xp, w.log_d - xp.log(mu - w.reward))
    weight = log_beta - xp.log(mu - w.reward)
    end = w.log_d + weight
    lhs, rhs = _loss_above(xp, w, weight, end), kl_divergence(xp, end, w.log_p)
    yield Claim("frontier weights end at beta d/(mu - r)", lhs, "==", rhs)
    rate = xp.exp(-log_beta)
    line = supporting_line(xp, w.log_d, w.reward, rate, w.room * rate)
    bought = rate * expected_reward(xp, end, w.reward) + line
    yield Claim("which pays the price", kl_by_definition(xp, w.log_d, end), "==", bought)
    tilt = gibbs_tilt(xp, w.log_d, w.reward, w.beta)
    advantage = w.reward / w.beta - log_sum_exp(xp, w.log_d + w.reward / w.beta)
    lhs, rhs = _loss_above(xp, w, advantage, tilt), kl_divergence(xp, tilt, w.log_p)
    yield Claim("exponential weights end at the tilt", lhs, "==", rhs)


def _loss_above(xp: NumberSystem, w: WorldValues[Array], log_weight: Array, end: Array) -> Array:
    """By how much the weighted SFT loss of p exceeds that of the end."""
    return expectation(xp, w.log_d, xp.exp(log_weight) * (end - w.log_p))


def _filtered(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
    solved = xp.where(w.reward < xp.max(w.reward), 0.0, xp.full_like(w.reward, 1.0))
    before = expectation(xp, w.log_d, solved)
    log_mixed = w.log_d + xp.log(1 - w.share + w.share * solved / before)
    after = before + w.share * (1 - before)
    odds = xp.log(after / before) - xp.log1p(-w.share)  # 1 - after = (1 - v)(1 - a)
    tilt = log_softmax(xp, w.log_d + odds * solved)
    lhs, rhs = (cross_entropy(xp, w.log_law, p) for p in (log_mixed, tilt))
    yield Claim("filtered SFT with replay is a tilt", lhs, "==", rhs)
