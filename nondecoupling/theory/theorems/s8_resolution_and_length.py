"""S8: Resolution and length: what it takes to see the coupling."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expectation, variance
from nondecoupling.formulas.sft_then_rl import coupling_gap, coupling_gap_bounds, samples_to_detect
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Same
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ResolutionAndLength(Statement):
    """Resolution and length: what it takes to see the coupling.

    Statement: ref = d, y ~ d: the paired change of loss log d(y) - log tilt(y) = log Z - s r(y) has
        mean DeltaL and variance s^2 Var_d(r). Its mean is z standard errors from zero after n =
        z^2 s^2 Var_d(r)/DeltaL^2 samples, about 4 z^2/(s^2 Var_d r) for small s, and never below
        64 z^2 Var_d(r)/(s^2 R^4). Per token the change is DeltaL/E_d[T] <= s^2 R^2/(8 E_d[T]): for
        bounded rewards it vanishes with length.

    Assumptions: ref = d; r is not constant on supp d; independent samples from d. The per-token
        change is total loss over total tokens.

    Side: identities, a lower bound on n and an upper bound on the change per token.

    Equality when: the bounds only in the limit s -> 0 with two responses of mass 1/2.

    Units: nats per response, or per token where said; n in samples.

    Source: ours; Hoeffding's lemma for the bounds.

    Proof idea: S2 for the mean, a constant shift for the variance, S3 for the bounds.

    Example:
    >>> from nondecoupling.bounds import samples_to_detect
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(samples_to_detect(d, r, beta=10.0, z=1.96)) > 16 * (1.96 * 10) ** 2
    True
    """

    id = "S8"
    title = "Resolution and length: what it takes to see the coupling"
    depends = ("S2", "S3")
    world = dict(
        log_d=Law(),
        log_ref=Same("log_d"),
        reward=Reward(),
        beta=Positive(),
        z=Positive(),
        mean_length=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        on = xp.support(w.log_d)
        paired = xp.where(on, w.log_ref, 0.0) - xp.where(on, tilt, 0.0)
        mean, spread = expectation(xp, w.log_d, paired), variance(xp, w.log_d, paired)
        yield Claim("mean", mean, "==", coupling_gap(xp, w.log_d, w.reward, w.beta))
        of_reward = variance(xp, w.log_d, w.reward)
        yield Claim("variance", spread, "==", of_reward / xp.square(w.beta))
        samples = samples_to_detect(xp, w.log_d, w.reward, w.beta, w.z)
        squared = samples * xp.square(mean) / spread
        yield Claim("squared standard errors", squared, "==", xp.square(w.z))
        *_, hoeffding = coupling_gap_bounds(xp, w.log_d, w.reward, w.beta)
        least = xp.square(w.z) * of_reward / xp.square(w.beta * hoeffding)
        yield Claim("samples needed at least", samples, ">=", least)
        yield Claim("change per token", mean / w.mean_length, "<=", hoeffding / w.mean_length)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = variance(xp, w.log_d, w.reward)
        yield Claim("the reward varies under d", spread, ">", xp.full_like(spread, 0.0))
