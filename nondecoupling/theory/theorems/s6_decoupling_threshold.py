"""S6: Non-decoupling threshold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import (
    cross_entropy,
    expected_reward,
    kl_by_definition,
    kl_divergence,
)
from nondecoupling.formulas.sft_then_rl import (
    decoupling_radius_dual,
    pinsker_decoupling_radius,
    sft_loss_increase,
)
from nondecoupling.formulas.tilt import gibbs_tilt, log_partition
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class DecouplingThreshold(Statement):
    """Non-decoupling threshold.

    Statement: DeltaL(tilt) = KL(ref||tilt) - (E_d r - E_ref r)/beta = (beta log Z - E_d r)/beta: RL
        lowers the SFT loss iff E_d r > beta log Z. With eps = KL(d||ref): t beta DeltaL(tilt) >= t
        beta log Z - log Z_t - eps for every t > 0, so DeltaL > 0 whenever eps is below the largest
        of these, the exact radius KL(tilt_t||ref) at J(tilt_t) = beta log Z, 0 < t < 1/beta.
        Weaker: eps < 2 (beta KL(ref||tilt)/R)^2. Early stop: DeltaL(tilt_t) = -KL(tilt_t||ref) + t
        (J(tilt_t) - J(d)) is convex in t with slope J(tilt_t) - J(d), so its smallest value is
        -KL(tilt_t||ref) at J(tilt_t) = J(d).

    Assumptions: ref has full support; beta > 0; one prompt.

    Side: identities and lower bounds.

    Equality when: d = tilt_t attains the exact radius. Pinsker: only in the limit of small radii
        with two responses of mass 1/2.

    Units: nats per response.

    Source: [NBHZ] v2 names a threshold; this form is ours. [NBHZ] = arXiv:2601.07389, known here
        by its abstract.

    Proof idea: S1; then E_d r <= (KL(d||ref) + log Z_t)/t, the Gibbs variational principle at
        time t.

    Example:
    >>> from nondecoupling.bounds import decoupling_threshold
    >>> import numpy as np
    >>> pinsker, exact = decoupling_threshold(np.log([0.9, 0.1]), np.array([0.0, 1.0]), 0.5)
    >>> bool(0 < pinsker < exact)
    True
    """

    id = "S6"
    title = "Non-decoupling threshold"
    depends = ("S1", "F3")
    world = dict(
        log_d=Law(),
        log_ref=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
        time=Positive(),
        longer=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        start = cross_entropy(xp, w.log_d, w.log_ref)
        increase = cross_entropy(xp, w.log_d, tilt) - start
        at_data = expected_reward(xp, w.log_d, w.reward)
        at_ref = expected_reward(xp, w.log_ref, w.reward)
        moved = kl_by_definition(xp, w.log_ref, tilt)
        yield Claim("threshold form", increase, "==", moved - (at_data - at_ref) / w.beta)
        soft_value = w.beta * log_partition(xp, w.log_ref, w.reward, w.beta)
        yield Claim("sign of the change", w.beta * increase, "==", soft_value - at_data)

        spread = xp.max(w.reward) - xp.min(w.reward)
        eps = kl_divergence(xp, w.log_d, w.log_ref)
        helped = spread * xp.sqrt(eps / 2) / w.beta
        yield Claim("Pinsker radius", increase + helped, ">=", moved)
        radius = decoupling_radius_dual(xp, w.log_ref, w.reward, w.beta, w.time)
        reached = w.time * w.beta * increase + eps
        yield Claim("exact radius", reached, ">=", radius)
        stop = gibbs_tilt(xp, w.log_ref, w.reward, 1 / w.time)
        eps_at_stop = kl_by_definition(xp, stop, w.log_ref)
        change_at_stop = sft_loss_increase(xp, stop, w.log_ref, w.reward, w.beta)
        attained = w.time * w.beta * change_at_stop + eps_at_stop
        yield Claim("the exact radius is attained", attained, "==", radius)
        # The bracket of the root, and why its radius is never below Pinsker's.
        yield Claim("the root lies after 0", soft_value, ">=", at_ref)
        yield Claim(
            "the root lies before 1/beta", expected_reward(xp, tilt, w.reward), ">=", soft_value
        )
        pinsker = pinsker_decoupling_radius(xp, w.log_ref, w.reward, w.beta)
        best_time = 4 * kl_divergence(xp, w.log_ref, tilt) * w.beta / _squared_range(xp, spread)
        best = decoupling_radius_dual(xp, w.log_ref, w.reward, w.beta, best_time)
        yield Claim("Pinsker's is the smaller radius", pinsker, "<=", best)

        change = cross_entropy(xp, w.log_d, stop) - start
        excess_reward = expected_reward(xp, stop, w.reward) - at_data
        predicted = w.time * excess_reward - eps_at_stop
        yield Claim("change at an early stop", change, "==", predicted)
        later = gibbs_tilt(xp, w.log_ref, w.reward, 1 / (w.time + w.longer))
        rise = cross_entropy(xp, w.log_d, later) - cross_entropy(xp, w.log_d, stop)
        yield Claim("convex after the stop", rise, ">=", w.longer * excess_reward)
        later_excess = expected_reward(xp, later, w.reward) - at_data
        yield Claim("convex before the stop", rise, "<=", w.longer * later_excess)


def _squared_range(xp: NumberSystem, spread: Any) -> Any:
    """R^2, or one where the reward is constant."""
    return xp.where(xp.positive(spread), xp.square(spread), 1.0)
