"""R8: Approximate RL optimum."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition, kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ApproximateRlOptimum(Statement):
    """Approximate RL optimum.

    Statement: For an RL result p1 and an SFT result p2, J_b(p1) - J_b(p2) = beta [KL(p2||tilt)
        - KL(p1||tilt)]. With the RL suboptimality delta = J_b(tilt) - J_b(p1) the drop is at
        least beta KL(p2||tilt) - delta. Without that condition "SFT lowers J_b" is false for a
        trained RL result.

    Assumptions: ref has full support; beta > 0. p1 is any policy, not the tilt.

    Side: identity, and a refuted claim.

    Equality when: always.

    Units: reward units.

    Source: ours, from F3.

    Proof idea: R1 at p2 minus R1 at p1.

    Example:
    >>> from nondecoupling.bounds import regularized_reward
    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> before = regularized_reward(np.log([0.4, 0.6]), ref, r, 1.0)
    >>> bool(regularized_reward(np.log([0.27, 0.73]), ref, r, 1.0) > before)  # SFT raised J_b
    True
    """

    id = "R8"
    title = "Approximate RL optimum"
    depends = ("R1",)
    world = dict(
        log_rl=Law(),
        log_sft=Law(),
        log_ref=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        before, after = (
            expected_reward(xp, p, w.reward) - w.beta * kl_by_definition(xp, p, w.log_ref)
            for p in (w.log_rl, w.log_sft)
        )
        farther = kl_divergence(xp, w.log_sft, tilt) - kl_divergence(xp, w.log_rl, tilt)
        yield Claim("the exact drop", before - after, "==", w.beta * farther)
        yield Claim("SFT lowers J_b after any RL", before, ">=", after, refuted=True)
