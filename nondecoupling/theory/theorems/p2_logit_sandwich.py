"""P2: Sandwich between logit distances."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy, kl_by_definition, log_softmax
from nondecoupling.formulas.logits import logit_sandwich
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Logits, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class LogitSandwich(Statement):
    """Sandwich between logit distances.

    Statement: (m/2) D <= KL(p_theta||p_theta') <= D/4 with D = ||(theta - theta')_c||^2 and m the
        smallest probability of either policy. Hence at SFT optimality RL to the tilt raises the
        SFT loss by between (m/2) ||r_c||^2/beta^2 and ||r_c||^2/(4 beta^2), and any RL that moves
        the centred logits by D raises it by at least (m/2) D.

    Assumptions: softmax policies (full support). For the tilt: ref = d = p_theta.

    Side: two-sided bound.

    Equality when: in the limit of equal logits: below at the uniform law, above also at any law that
        puts 1/2 on each of two responses.

    Units: nats.

    Source: [NBHZ] v2, claim 1, PL form (arXiv:2601.07389, known here by its abstract); the
        constants are ours.

    Proof idea: KL is the Bregman divergence of logsumexp, int (1 - t) Var_t(theta' - theta) dt; min p
        ||v_c||^2 <= Var_p v <= ||v_c||^2/2; log p_y is concave, so min p is at an end.

    Example:
    >>> from nondecoupling.bounds import logit_sandwich
    >>> import numpy as np
    >>> lower, upper = logit_sandwich(np.array([0.0, 0.0]), np.array([0.5, -0.5]))
    >>> round(float(lower), 4), float(upper)
    (0.0672, 0.125)
    """

    id = "P2"
    title = "Sandwich between logit distances"
    depends = ("F5",)
    world = dict(theta=Logits(), theta_prime=Logits(), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        log_p, log_q = log_softmax(xp, w.theta), log_softmax(xp, w.theta_prime)
        divergence = kl_by_definition(xp, log_p, log_q)
        lower, upper = logit_sandwich(xp, w.theta, w.theta_prime)
        yield Claim("moved logits move the law", divergence, ">=", lower)
        yield Claim("near logits, near laws", divergence, "<=", upper)
        tilt = gibbs_tilt(xp, log_p, w.reward, w.beta)
        increase = cross_entropy(xp, log_p, tilt) - cross_entropy(xp, log_p, log_p)
        lower, upper = logit_sandwich(xp, w.theta, w.theta + w.reward / w.beta)
        yield Claim("RL raises the SFT loss at least", increase, ">=", lower)
        yield Claim("RL raises the SFT loss at most", increase, "<=", upper)
