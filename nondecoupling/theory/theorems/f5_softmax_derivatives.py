"""F5: Softmax derivatives."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy, expectation, kl_by_definition, log_softmax
from nondecoupling.formulas.logits import bregman_of_log_sum_exp, reward_gradient, sft_loss_gradient
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class SoftmaxDerivatives(Statement):
    """Softmax derivatives.

    Statement: p = softmax(theta): grad CE(d, p) = p - d; grad J = p (r - E_p r); the Hessian of CE
        is diag(p) - p p^T; KL(p_theta||p_theta') is the Bregman divergence of logsumexp at
        (theta', theta).

    Assumptions: softmax logits, defined up to a constant; d is any law.

    Side: identities, and the convexity of the SFT loss in the logits, which says at every theta'
        that p - d is its gradient at theta.

    Equality when: theta' - theta is constant (both sides of the convexity bound then agree).

    Units: nats per response and reward units, per unit of logit.

    Source: standard; Mei et al. 2020 for the reward.

    Proof idea: CE = logsumexp(theta) - E_d theta, and the gradient of logsumexp is p.

    Example:
    >>> from nondecoupling.bounds import reward_gradient, sft_loss_gradient
    >>> import numpy as np
    >>> p, d = np.log([0.25, 0.75]), np.log([0.5, 0.5])
    >>> sft_loss_gradient(p, d).round(12).tolist()
    [-0.25, 0.25]
    >>> reward_gradient(p, np.array([0.0, 1.0])).round(12).tolist()
    [-0.1875, 0.1875]
    """

    id = "F5"
    title = "Softmax derivatives"
    depends = ("F1",)
    world = dict(log_d=Law(), logits=Logits(), other_logits=Logits(), reward=Reward())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        log_p, log_other = log_softmax(xp, w.logits), log_softmax(xp, w.other_logits)
        bregman = bregman_of_log_sum_exp(xp, w.other_logits, w.logits)
        yield Claim("Bregman form", kl_by_definition(xp, log_p, log_other), "==", bregman)
        step = w.other_logits - w.logits
        along = xp.sum(sft_loss_gradient(xp, log_p, w.log_d) * step)
        change = cross_entropy(xp, w.log_d, log_other) - cross_entropy(xp, w.log_d, log_p)
        yield Claim("gradient of the SFT loss", change - along, "==", bregman)
        yield Claim("the SFT loss is convex in the logits", change, ">=", along)
        jacobian = expectation(xp, log_p, step * w.reward) - expectation(
            xp, log_p, step
        ) * expectation(xp, log_p, w.reward)
        along = xp.sum(reward_gradient(xp, log_p, w.reward) * step)
        yield Claim("gradient of the reward", jacobian, "==", along)
