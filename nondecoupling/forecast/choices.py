"""Exact RL on the samples: when it lowers the SFT loss on expert data (S6), how long to run it (P5), with SFT (J1)."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from nondecoupling import bounds
from nondecoupling.estimate import mean_interval
from nondecoupling.forecast.answers import Estimate, Joint, Threshold
from nondecoupling.forecast.curves import Path
from nondecoupling.forecast.samples import Samples
from nondecoupling.forecast.tilts import Tilts
from nondecoupling.formulas import averages


def threshold_at(samples: Samples, beta: float, delta: float) -> Threshold:
    """At a beta that the samples support; see ``Threshold``."""
    tilt = Tilts(samples, np.array([beta]))
    level, nats, experts = 1 - delta, tilt.own_loss_changes(delta), tilt.expert_loss_changes(delta)
    margin, lowers = None, None
    if experts is not None:
        change = Estimate.of(experts, tilt.how("expert_loss_change"))
        ends = -beta * change.value, -beta * change.high, -beta * change.low
        margin = Estimate(*ends, level=level, how=change.how)
        lowers = True if margin.low > 0 else False if margin.high < 0 else None

    ends_of_gap = (float(np.reshape(x, ())) for x in (nats.estimate, nats.low, nats.high))
    value, low, high = (
        float(averages.pinsker_radius(gap, samples.spread, beta)) for gap in ends_of_gap
    )
    weaker = Estimate(value, low, high, level=level, how=tilt.how("own_loss_change"))
    how = "value: plug-in; ends: Pinsker's radius and KL(tilt||ref)"
    radius = Estimate(
        _exact_radius(samples, beta),
        weaker.low,
        float(np.reshape(tilt.kl(delta).high, ())),
        level=level,
        how=how,
    )
    needed = Estimate.of(tilt.soft_values(delta), tilt.how("soft_value"))
    return Threshold(beta, needed, margin, lowers, radius, weaker)


def _exact_radius(samples: Samples, beta: float) -> float:
    """E_q KL(tilt_t||ref) at the one t in (0, 1/beta) with J(tilt_t) = beta E_q log Z, by the sampled laws."""
    soft = float(np.reshape(Tilts(samples, np.array([beta])).soft_values(0.5).estimate, ()))

    def too_much(log_t: float) -> float:
        tilt = Tilts(samples, np.array([math.exp(-log_t)]))
        return float(tilt.plug_in_rewards()[0]) - soft

    most = -math.log(beta)
    least = most - 30.0
    if too_much(least) >= 0:
        return 0.0
    t = math.exp(brentq(too_much, least, most))
    return float(Tilts(samples, np.array([1 / t])).plug_in_kl()[0])


def best_beta(path: Path, weight: float) -> float:
    """Which supported beta makes J - weight * own loss change largest, by the sampled laws; one at least is supported.

    The best place of the path's grid, refined between its neighbours: another peak between places is not seen.
    With s = 1/beta the worth changes at Var_s r - weight * (J_s - J_0), where J rises at Var and log Var changes at
    most at R, the range of the reward. So the best beta lies within R/log(1 +- R/weight), about weight +- R/2.
    """
    supported, reach = path.betas[: path.supported], path.trainer.samples.spread
    most = reach / math.log1p(reach / weight)
    if most > supported[0]:
        least = -reach / math.log1p(-reach / weight)
        between = max(least, float(supported[-1])), most
    else:
        ends = path.trainer.ends(supported)
        worth = ends.plug_in_rewards() - weight * ends.plug_in_losses()
        best = int(np.argmax(worth))
        if best == len(supported) - 1:
            return float(supported[best])
        between = float(supported[best + 1]), float(supported[max(best - 1, 0)])

    def paid(log_beta: float) -> float:
        at = path.trainer.ends(np.array([math.exp(log_beta)]))
        return float(weight * at.plug_in_losses()[0] - at.plug_in_rewards()[0])

    return math.exp(minimize_scalar(paid, bounds=np.log(between), method="bounded").x)


def joint_at(samples: Samples, beta: float, weight: float, delta: float) -> Joint:
    """At a beta that the samples support; see ``Joint``.

    Being better than the tilt and than ref for J_b - weight * CE, the optimum has at most the tilt's SFT loss and at
    least ref's reward: the ends.
    """
    drawn = samples.drawn
    law, reward = drawn.law()
    optimum = bounds.joint_optimum(law, law, reward, beta, weight)
    tilt = Tilts(samples, np.array([beta]))
    gained, loss = (
        float(drawn.average(np.asarray(each, np.float64)))
        for each in (
            bounds.expected_reward(optimum, reward),
            bounds.kl_divergence(law, optimum),
        )
    )
    start = mean_interval(drawn.mean(), samples.reward_bounds, delta, weights=samples.weights)
    most = float(np.reshape(tilt.own_loss_changes(delta).high, ()))
    level, how = 1 - delta, "value: plug-in; ends: those of ref and the tilt"
    _, high = samples.reward_bounds
    tilted_loss, tilted_reward = float(tilt.plug_in_losses()[0]), float(tilt.plug_in_rewards()[0])
    return Joint(
        beta,
        weight,
        reward=Estimate(gained, float(start.low), high, level, how),
        own_loss_change=Estimate(loss, 0.0, most, level, how),
        saved=Estimate(tilted_loss - loss, 0.0, most, level, how),
        reward_lost=Estimate(tilted_reward - gained, -math.inf, math.inf, level, "plug-in"),
    )
